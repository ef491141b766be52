//! Counts of the operations on a file that lock ranges. An operation may report a locked range only
//! if one that conflicts with it was active.

use std::sync::atomic::{AtomicU64, Ordering};

/// Kind of a range lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    ReadCopy,
    WriteCopy,
    Span,
    SpanMut,
}

impl Use {
    /// The kinds that make an operation of this kind fail. Copies wait for copies.
    fn conflicts(self) -> &'static [Self] {
        match self {
            Self::ReadCopy => &[Self::SpanMut],
            Self::WriteCopy => &[Self::Span, Self::SpanMut],
            Self::Span => &[Self::WriteCopy, Self::SpanMut],
            Self::SpanMut => &[Self::ReadCopy, Self::WriteCopy, Self::Span, Self::SpanMut],
        }
    }
}

/// Operations on one file, for each kind.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: [AtomicU64; 4],
    active: [AtomicU64; 4],
}

/// An operation on files. It counts as active until it is dropped.
#[derive(Debug)]
pub(crate) struct Active<'m> {
    kind: Use,
    files: Vec<&'m Activity>,
    /// For each file and each conflicting kind: operations that had begun, and that were active.
    seen: Vec<[(u64, u64); 4]>,
}

impl<'m> Active<'m> {
    pub(crate) fn new(kind: Use, files: impl IntoIterator<Item = &'m Activity>) -> Self {
        let files: Vec<_> = files.into_iter().collect();
        for file in &files {
            // In this order: `counts` must not find an operation that has begun and is not active.
            file.active[kind as usize].fetch_add(1, Ordering::SeqCst);
            file.begun[kind as usize].fetch_add(1, Ordering::SeqCst);
        }
        let seen = files.iter().map(|file| file.counts()).collect();
        Self { kind, files, seen }
    }

    /// Whether a conflicting operation was active on any of the files since this one began.
    pub(crate) fn had_conflict(&self) -> bool {
        self.files.iter().zip(&self.seen).any(|(file, seen)| {
            let now = file.counts();
            self.kind.conflicts().iter().any(|kind| {
                let own = u64::from(*kind == self.kind);
                let (begun, active) = seen[*kind as usize];
                active > own || now[*kind as usize].0 > begun
            })
        })
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        for file in &self.files {
            file.active[self.kind as usize].fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Activity {
    fn counts(&self) -> [(u64, u64); 4] {
        std::array::from_fn(|kind| {
            let begun = self.begun[kind].load(Ordering::SeqCst);
            (begun, self.active[kind].load(Ordering::SeqCst))
        })
    }
}
