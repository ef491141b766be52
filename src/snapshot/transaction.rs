//! Transactions: changes that are there together or not at all.
//!
//! # Safety
//!
//! A transaction is alone in the gate, so nobody else in this process has a reference to the region's memory (views share
//! the gate, and captures copy by the kernel). Its slices borrow from it, and the region stays mapped and where it is for as long as
//! the store (docs/unsafe.md).
#![expect(unsafe_code, reason = "slices of the region")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::PoisonError;

use super::error::SnapshotError;
use super::format::{Body, Change, PAGE_BYTES, RecordKind, is_zero};
use super::inner::Inner;
use super::page_set::PageSet;

/// The memory of a store, in the hands of one thread; see [`Store::transaction`](super::Store::transaction).
///
/// What it changes is undone when its closure returns an error or panics: pre-images are kept of all that was handed out to
/// be written (hazard 23).
#[derive(Debug)]
pub struct Transaction<'s> {
    inner: &'s Inner,
    /// What was there before, by offset; no two overlap.
    before: BTreeMap<u64, Box<[u8]>>,
    len_before: u64,
    /// The shortest the region was.
    len_min: u64,
    done: bool,
}

impl<'s> Transaction<'s> {
    pub(crate) fn new(inner: &'s Inner) -> Self {
        let len = inner.len();
        Self {
            inner,
            before: BTreeMap::new(),
            len_before: len,
            len_min: len,
            done: false,
        }
    }

    /// Length of the region in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner.len()
    }

    /// True without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of the memory.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let start = self.inner.region.as_ptr().as_ptr();
        // SAFETY: the region has so many bytes, mapped for reading and writing, until it is resized, for which
        // `&mut self` is needed; nobody else has a reference (module documentation).
        unsafe { std::slice::from_raw_parts(start, self.inner.region.len()) }
    }

    /// A range of the memory, to be changed. Only what is asked for is saved, and written to the journal.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Range`].
    pub fn bytes_mut(&mut self, range: Range<u64>) -> Result<&mut [u8], SnapshotError> {
        let range = self.checked(range)?;
        self.save(range.clone());
        let start = self.inner.region.as_ptr().as_ptr();
        // SAFETY: it lies within the region (checked); otherwise as in `bytes`.
        Ok(unsafe {
            // Lossless: within the region, whose length is a usize.
            let len = (range.end - range.start) as usize;
            std::slice::from_raw_parts_mut(start.add(range.start as usize), len)
        })
    }

    /// Copies bytes in.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Range`].
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.bytes_mut(offset..end)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Makes a range zeros; whole pages of it give their memory and storage back.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Range`]; [`SnapshotError::Memory`].
    pub fn discard(&mut self, range: Range<u64>) -> Result<(), SnapshotError> {
        let range = self.checked(range)?;
        self.save(range.clone());
        let page = PAGE_BYTES as u64;
        let whole = range.start.next_multiple_of(page)..range.end / page * page;
        if whole.start >= whole.end {
            self.bytes_mut(range)?.fill(0);
            return Ok(());
        }
        self.bytes_mut(range.start..whole.start)?.fill(0);
        self.bytes_mut(whole.end..range.end)?.fill(0);
        // Lossless: within the region.
        let whole = whole.start as usize..whole.end as usize;
        Ok(self.inner.region.discard(whole)?)
    }

    /// Makes the region so long, rounded up to pages of 4096 bytes: zeros are added, or the end is cut off.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Memory`] past what was reserved.
    pub fn resize(&mut self, len: u64) -> Result<(), SnapshotError> {
        let now = self.len();
        let len = whole_pages(self.inner, len)?;
        if len < now {
            self.save(len..now);
            self.len_min = self.len_min.min(len);
        }
        set_len(self.inner, len)
    }

    fn checked(&self, range: Range<u64>) -> Result<Range<u64>, SnapshotError> {
        if range.start <= range.end && range.end <= self.len() {
            return Ok(range);
        }
        Err(SnapshotError::Range {
            offset: range.start,
            len: range.end.saturating_sub(range.start),
            region_bytes: self.len(),
        })
    }

    /// Keeps what is there in a range, where it was not kept before. What was added by this transaction has no before.
    fn save(&mut self, range: Range<u64>) {
        let end = range.end.min(self.len_before);
        let mut at = range.start;
        while at < end {
            let kept = self.before.range(..=at).next_back();
            if let Some(kept_end) = kept.map(|(start, bytes)| start + bytes.len() as u64)
                && kept_end > at
            {
                at = kept_end;
                continue;
            }
            let next = self.before.range(at..).next();
            let stop = next.map_or(end, |(start, _)| end.min(*start));
            let bytes = &self.bytes()[at as usize..stop as usize];
            let bytes = Box::from(bytes);
            self.before.insert(at, bytes);
            at = stop;
        }
    }

    /// What changed, as it is now: for the journal.
    fn body(&self) -> Body<'_> {
        let mut changes = Vec::new();
        let len = self.len();
        let bytes = self.bytes();
        // What was cut off and added again is zeros, but for what was written since.
        add_bytes(&mut changes, bytes, self.len_min..len.min(self.len_before));
        for (start, kept) in &self.before {
            let end = (start + kept.len() as u64).min(self.len_min);
            add_bytes(&mut changes, bytes, *start..end);
        }
        add_bytes(&mut changes, bytes, self.len_before..len);
        Body {
            payload_bytes: len,
            changes,
        }
    }

    /// Gives the changes a sequence; `None` if there are none. Then nothing is undone any more.
    pub(crate) fn finish(mut self) -> Result<Option<u64>, SnapshotError> {
        let body = self.body();
        let mut sequence = None;
        if !body.changes.is_empty() || self.len() != self.len_before {
            let journal = &self.inner.journal;
            journal.reserve(body.len() as u64, 1)?;
            let generation = self.inner.generation();
            let appended = journal.append(RecordKind::Transaction, true, generation, &body);
            sequence = Some(appended?);
        }
        self.done = true;
        self.declare();
        Ok(sequence)
    }

    /// At the end, and inside the gate: a capture that copied a page meanwhile copies it again.
    fn declare(&self) {
        *self.inner.declared() |= &self.touched();
    }

    /// The pages that are, or were, different in this transaction.
    fn touched(&self) -> PageSet {
        let mut touched = PageSet::default();
        let ranges = self.before.iter();
        let ranges = ranges.map(|(start, kept)| *start..*start + kept.len() as u64);
        let lengths = self.len_min..self.len().max(self.len_before);
        for range in ranges.chain([lengths]).filter(|range| !range.is_empty()) {
            touched.insert_range(pages_of(&range));
        }
        touched
    }

    fn undo(&mut self) {
        // Both were so long before.
        let restored = set_len(self.inner, self.len_before);
        for (start, kept) in std::mem::take(&mut self.before) {
            if restored.is_ok() {
                let start = start as usize;
                let memory = self.inner.region.as_ptr().as_ptr();
                // SAFETY: as in `bytes_mut`; it was within the region when it was kept, which is as long again.
                unsafe { std::slice::from_raw_parts_mut(memory.add(start), kept.len()) }
                    .copy_from_slice(&kept);
            }
        }
        if let Err(error) = restored {
            self.inner.poison(&error);
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Declared once it is undone: a capture that took the pages before would have copied what is not to be.
            let touched = self.touched();
            self.undo();
            *self.inner.declared() |= &touched;
        }
    }
}

/// Adds a range, unless it is empty; its zeros as zeros.
fn add_bytes<'m>(changes: &mut Vec<(u64, Change<'m>)>, memory: &'m [u8], range: Range<u64>) {
    // Below that the entry costs as much.
    const ZEROS_MIN: u64 = 64;
    let bytes = |range: Range<u64>| &memory[range.start as usize..range.end as usize];
    let mut start = range.start;
    let mut at = start;
    while at < range.end {
        let stop = ((at / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64).min(range.end);
        if stop - at >= ZEROS_MIN && is_zero(bytes(at..stop)) {
            if start < at {
                changes.push((start, Change::Bytes(bytes(start..at))));
            }
            changes.push((at, Change::Zeros(stop - at)));
            start = stop;
        }
        at = stop;
    }
    if start < range.end {
        changes.push((start, Change::Bytes(bytes(start..range.end))));
    }
}

/// The pages that a range touches.
pub(crate) fn pages_of(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES as u64..range.end.div_ceil(PAGE_BYTES as u64)
}

pub(crate) fn whole_pages(inner: &Inner, len: u64) -> Result<u64, SnapshotError> {
    let whole = len.checked_next_multiple_of(PAGE_BYTES as u64);
    whole
        .filter(|len| *len <= inner.region.reserve_bytes() as u64)
        .ok_or_else(|| SnapshotError::Option {
            option: "len",
            reason: format!(
                "{len} bytes are more than the {} reserved",
                inner.region.reserve_bytes()
            ),
        })
}

/// With the gate for the caller alone.
pub(crate) fn set_len(inner: &Inner, len: u64) -> Result<(), SnapshotError> {
    let lengths = inner.lengths.write();
    let _lengths = lengths.unwrap_or_else(PoisonError::into_inner);
    let now = inner.len();
    // Lossless: checked against what is reserved.
    let len_bytes = len as usize;
    if len > now {
        inner.region.grow(len_bytes)?;
    } else if len < now {
        inner.region.shrink(len_bytes)?;
    }
    Ok(())
}
