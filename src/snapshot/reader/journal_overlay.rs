//! Changes of the journal to an image: disjoint ranges with their new bytes, or with zeros.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::snapshot::format::Change;

/// Changed ranges by their offset. Changes that a later record overwrote are dropped.
#[derive(Debug, Default)]
pub(super) struct JournalOverlay {
    pieces: BTreeMap<u64, Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    len: u64,
    /// Bytes of a record and the start of the range in them; `None` for zeros.
    bytes: Option<(Arc<[u8]>, usize)>,
}

impl Piece {
    fn slice(&self) -> Option<&[u8]> {
        // Lossless: the bytes are in memory.
        let len = self.len as usize;
        self.bytes
            .as_ref()
            .map(|(bytes, at)| &bytes[*at..*at + len])
    }

    /// The range without its first `skip` bytes.
    fn skip(&self, skip: u64) -> Self {
        Self {
            len: self.len - skip,
            bytes: self
                .bytes
                .as_ref()
                .map(|(bytes, at)| (Arc::clone(bytes), at + skip as usize)),
        }
    }
}

impl JournalOverlay {
    /// Applies a new length: the changes of removed bytes are dropped, added bytes are zeros.
    pub(super) fn set_len(&mut self, before: u64, after: u64) {
        self.remove_range(before.min(after)..before.max(after));
        if after > before {
            self.put(before, Change::Zeros(after - before));
        }
    }

    pub(super) fn put(&mut self, offset: u64, change: Change<'_>) {
        let piece = match change {
            Change::Zeros(len) => Piece { len, bytes: None },
            Change::Bytes(bytes) => Piece {
                len: bytes.len() as u64,
                bytes: Some((bytes.into(), 0)),
            },
        };
        self.remove_range(offset..offset + piece.len);
        self.pieces.insert(offset, piece);
    }

    /// Changes within a range, in ascending order; `None` for zeros.
    pub(super) fn within(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = (Range<u64>, Option<&[u8]>)> {
        let before = self.pieces.range(..range.start).next_back();
        let inside = self.pieces.range(range.start..range.end.max(range.start));
        let all = before.into_iter().chain(inside);
        all.filter_map(move |(start, piece)| {
            let found = range.start.max(*start)..range.end.min(start + piece.len);
            if found.start >= found.end {
                return None;
            }
            let from = (found.start - start) as usize;
            let len = (found.end - found.start) as usize;
            let bytes = piece.slice().map(|bytes| &bytes[from..from + len]);
            Some((found, bytes))
        })
    }

    pub(super) fn touches(&self, range: Range<u64>) -> bool {
        self.within(range).next().is_some()
    }

    /// Overwrites `buf`, whose bytes begin at `offset`, with the changes of its range.
    pub(super) fn patch(&self, offset: u64, buf: &mut [u8]) {
        for (range, bytes) in self.within(offset..offset + buf.len() as u64) {
            let place = (range.start - offset) as usize..(range.end - offset) as usize;
            match bytes {
                Some(bytes) => buf[place].copy_from_slice(bytes),
                None => buf[place].fill(0),
            }
        }
    }

    /// Removes the changes of a range.
    fn remove_range(&mut self, range: Range<u64>) {
        let before = self.pieces.range_mut(..range.start).next_back();
        if let Some((start, piece)) = before
            && start + piece.len > range.start
        {
            let end = start + piece.len;
            let rest = (end > range.end).then(|| piece.skip(range.end - start));
            piece.len = range.start - start;
            self.pieces.extend(rest.map(|rest| (range.end, rest)));
        }
        while let Some((&start, _)) = self.pieces.range(range.clone()).next()
            && let Some(piece) = self.pieces.remove(&start)
        {
            if start + piece.len > range.end {
                self.pieces.insert(range.end, piece.skip(range.end - start));
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: u64 = 64;

    proptest! {
        #[test]
        fn pieces_over_pieces_are_as_writes_into_memory(
            changes in proptest::collection::vec((0..LEN, 1..LEN, any::<Option<u8>>(), any::<bool>()), 0..40),
            from in 0..LEN,
        ) {
            let base = [255; LEN as usize];
            let mut memory = base.to_vec();
            let mut overlay = JournalOverlay::default();
            for (start, len, byte, resize) in changes {
                let end = (start + len).min(LEN);
                if resize {
                    // Shorten the region, then grow it again.
                    overlay.set_len(LEN, start);
                    overlay.set_len(start, LEN);
                    memory[start as usize..].fill(0);
                    continue;
                }
                let piece = vec![byte.unwrap_or(0); (end - start) as usize];
                memory[start as usize..end as usize].copy_from_slice(&piece);
                overlay.put(start, byte.map_or(Change::Zeros(end - start), |_| Change::Bytes(&piece)));
            }
            let mut found = base[from as usize..].to_vec();
            overlay.patch(from, &mut found);
            prop_assert_eq!(&found, &memory[from as usize..]);
        }
    }
}
