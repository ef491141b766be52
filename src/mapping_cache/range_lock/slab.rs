//! Shared locks by number, with an index that finds those that overlap a range.
//!
//! The first few locks are found by a scan. For the others, adding, removing and searching take
//! logarithmic time, also if the locks overlap each other.

use std::ops::Range;

use iset::{Entry, IntervalMap};

use super::conflict::{Conflict, LockKind, both, merge_ordered};

/// Number of entries that are not in the index. They are added and removed in constant time, and a
/// scan of them costs less than a search.
const SCANNED: u32 = 32;

/// Locks by number, which are found without a search.
#[derive(Debug, Default)]
pub(super) struct Slab {
    entries: Vec<SlabEntry>,
    /// Index of the first free entry plus 1, or 0 if there is none.
    free: u64,
    /// The locks of all entries from [`SCANNED`].
    by_range: IntervalMap<u64, Count>,
}

/// A lock, or a free entry: its `end` is 0, and its `start` is the next free entry, like
/// `Slab::free`.
#[derive(Debug)]
struct SlabEntry {
    start: u64,
    end: u64,
    kind: LockKind,
}

/// Number of locks with the same range.
#[derive(Debug, Default)]
struct Count {
    copies: usize,
    guards: usize,
}

impl Count {
    fn of(&mut self, kind: LockKind) -> &mut usize {
        match kind {
            LockKind::Copy => &mut self.copies,
            LockKind::Guard => &mut self.guards,
        }
    }
}

impl Slab {
    pub(super) fn insert(&mut self, range: Range<u64>, kind: LockKind) -> u32 {
        let entry = SlabEntry {
            start: range.start,
            end: range.end,
            kind,
        };
        let index = self.insert_entry(entry);
        if index >= SCANNED {
            *self.by_range.entry(range).or_default().of(kind) += 1;
        }
        index
    }

    fn insert_entry(&mut self, entry: SlabEntry) -> u32 {
        if self.free == 0 {
            self.entries.push(entry);
            let last = self.entries.len() - 1;
            return u32::try_from(last).expect("the number of locks fits in 32 bits");
        }
        let index = self.free - 1;
        // Lossless: from an index.
        let free = &mut self.entries[index as usize];
        assert!(free.end == 0, "a free entry holds no lock");
        self.free = free.start;
        *free = entry;
        index as u32
    }

    pub(super) fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        assert!(entry.end != 0, "a lock is unlocked once");
        let (range, kind) = (entry.start..entry.end, entry.kind);
        entry.start = self.free;
        entry.end = 0;
        self.free = u64::from(index) + 1;
        if index >= SCANNED {
            self.remove_from_index(range, kind);
        }
    }

    fn remove_from_index(&mut self, range: Range<u64>, kind: LockKind) {
        let Entry::Occupied(mut count) = self.by_range.entry(range) else {
            unreachable!("the index has the lock");
        };
        *count.get_mut().of(kind) -= 1;
        if count.get().copies == 0 && count.get().guards == 0 {
            count.remove();
        }
    }

    /// Makes the lock of a copy that of a guard.
    pub(super) fn make_guard(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        assert!(entry.end != 0, "a lock that is held");
        let (range, kind) = (entry.start..entry.end, entry.kind);
        entry.kind = LockKind::Guard;
        if index >= SCANNED {
            let count = self.by_range.get_mut(range);
            let count = count.expect("the index has the lock");
            *count.of(kind) -= 1;
            *count.of(LockKind::Guard) += 1;
        }
    }

    /// Returns the conflict of an exclusive lock with these.
    pub(super) fn conflict(&self, range: &Range<u64>) -> Option<Conflict> {
        let scanned = self.entries.iter().take(SCANNED as usize);
        let overlapping = scanned
            .filter(|entry| entry.end != 0 && entry.start < range.end && range.start < entry.end);
        let conflicts = overlapping.map(|entry| {
            Some(Conflict {
                only_copies: entry.kind == LockKind::Copy,
                from: entry.start,
            })
        });
        conflicts.fold(self.indexed_conflict(range), both)
    }

    fn indexed_conflict(&self, range: &Range<u64>) -> Option<Conflict> {
        // A search allocates.
        if self.by_range.is_empty() {
            return None;
        }
        let overlapping = self.by_range.iter(range.clone());
        merge_ordered(overlapping.map(|(locked, count)| {
            let kind = if count.guards > 0 {
                LockKind::Guard
            } else {
                LockKind::Copy
            };
            (locked.start, kind)
        }))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::super::conflict::overlap;
    use super::*;

    proptest! {
        /// Kept locks may overlap each other. The conflict is that of a search through all.
        #[test]
        fn conflicts_agree_with_a_list(
            steps in prop::collection::vec((0u64..2000, 1u64..300, 0u8..6), 1..400),
        ) {
            let mut slab = Slab::default();
            let mut held: Vec<(Range<u64>, LockKind, u32)> = Vec::new();
            for (start, len, action) in steps {
                let range = start..start + len;
                let chosen = (start as usize + 1) % held.len().max(1);
                match action {
                    0 if !held.is_empty() => slab.remove(held.swap_remove(chosen).2),
                    1 if !held.is_empty() => {
                        slab.make_guard(held[chosen].2);
                        held[chosen].1 = LockKind::Guard;
                    }
                    action => {
                        let kind = if action == 2 { LockKind::Copy } else { LockKind::Guard };
                        held.push((range.clone(), kind, slab.insert(range, kind)));
                    }
                }
                let searched = start / 2..start / 2 + 10;
                let overlapping = held.iter().filter(|(locked, ..)| overlap(locked, &searched));
                let expected = overlapping.clone().map(|(locked, ..)| locked.start).min();
                let expected = expected.map(|from| Conflict {
                    only_copies: overlapping.clone().all(|(_, kind, _)| *kind == LockKind::Copy),
                    from,
                });
                prop_assert_eq!(slab.conflict(&searched), expected);
            }
        }
    }
}
