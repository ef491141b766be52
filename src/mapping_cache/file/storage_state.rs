//! Length and storage of a file as this process knows them.
//!
//! All caches of the process share them: a length or a reservation that one cache changes is
//! changed for the spans of every other one.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mapping_cache::options::PreallocationStatus;

/// Length and storage of a file. Methods that change them require the length lock of the file.
#[derive(Debug)]
pub(in crate::mapping_cache) struct StorageState {
    /// Largest length that the file was seen with or extended to, or 0 if it has to be queried.
    /// Growth that may still be undone is not included. A shorter file was truncated by another
    /// process.
    known_bytes: AtomicU64,
    may_have_holes: AtomicBool,
    preallocation: AtomicU8,
    /// End of the range that [`Preallocation::Full`](crate::mapping_cache::Preallocation::Full) has
    /// preallocated.
    preallocated_to: AtomicU64,
    /// Ranges past the end of the file that were preallocated, in ascending order.
    reserved_past_end: Mutex<Vec<Range<u64>>>,
}

const PREALLOCATION_STATUSES: [PreallocationStatus; 4] = [
    PreallocationStatus::NotRequested,
    PreallocationStatus::Reserved,
    PreallocationStatus::FirstWriteOnly,
    PreallocationStatus::Unsupported,
];

impl StorageState {
    pub(super) fn new() -> Self {
        Self {
            known_bytes: AtomicU64::new(0),
            may_have_holes: AtomicBool::new(false),
            preallocation: AtomicU8::new(0),
            preallocated_to: AtomicU64::new(0),
            reserved_past_end: Mutex::default(),
        }
    }

    /// Returns the known length. It is smaller only after a truncation by this process, which holds
    /// an exclusive lock on the range past the new end. So the owner of a range lock that finds its
    /// range known may rely on it until it unlocks.
    #[inline(always)]
    pub(in crate::mapping_cache) fn known_bytes(&self) -> u64 {
        self.known_bytes.load(Ordering::Relaxed)
    }

    /// Records a length that the file was seen with or extended to.
    pub(in crate::mapping_cache) fn note_len(&self, bytes: u64) {
        self.known_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Records that this process truncated the file, which frees all storage past the end.
    pub(super) fn note_truncated(&self, bytes: u64) {
        self.known_bytes.store(bytes, Ordering::Relaxed);
        self.preallocated_to.fetch_min(bytes, Ordering::Relaxed);
        self.reserved().clear();
    }

    /// Forgets the length, which has to be queried again.
    pub(super) fn forget_len(&self) {
        self.known_bytes.store(0, Ordering::Relaxed);
    }

    /// Forgets everything: the file has to be queried again.
    pub(super) fn forget(&self) {
        self.note_truncated(0);
        self.note_storage_freed(0);
    }

    pub(in crate::mapping_cache) fn may_have_holes(&self) -> bool {
        self.may_have_holes.load(Ordering::Relaxed)
    }

    pub(in crate::mapping_cache) fn note_holes(&self) {
        self.may_have_holes.store(true, Ordering::Relaxed);
    }

    /// Records that bytes at or after `offset` have no storage of their own any more: they were
    /// discarded, or share their storage with another file.
    pub(in crate::mapping_cache) fn note_storage_freed(&self, offset: u64) {
        self.preallocated_to.fetch_min(offset, Ordering::Relaxed);
        self.note_holes();
        self.set_preallocation_status(PreallocationStatus::NotRequested);
    }

    pub(super) fn note_preallocated_to(&self, bytes: u64) {
        self.preallocated_to.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_preallocated_to(&self, bytes: u64) -> bool {
        self.preallocated_to.load(Ordering::Relaxed) >= bytes
    }

    pub(in crate::mapping_cache) fn preallocation_status(&self) -> PreallocationStatus {
        PREALLOCATION_STATUSES[usize::from(self.preallocation.load(Ordering::Relaxed))]
    }

    pub(super) fn set_preallocation_status(&self, status: PreallocationStatus) {
        let index = PREALLOCATION_STATUSES
            .iter()
            .position(|known| *known == status)
            .and_then(|index| u8::try_from(index).ok())
            .expect("all four statuses are listed");
        self.preallocation.store(index, Ordering::Relaxed);
    }

    /// Records a preallocated range of a file that ends at `present`.
    pub(super) fn note_reserved(&self, range: &Range<u64>, present: u64) {
        let mut reserved = self.reserved();
        reserved.push(range.clone());
        reserved.retain(|range| range.end > present);
        reserved.sort_by_key(|range| range.start);
        reserved.dedup_by(|next, kept| {
            let touches = next.start <= kept.end;
            if touches {
                kept.end = kept.end.max(next.end);
            }
            touches
        });
    }

    /// Returns the ranges past `present` that were preallocated.
    pub(super) fn reserved_past(&self, present: u64) -> Vec<Range<u64>> {
        let reserved = self.reserved();
        let past = reserved
            .iter()
            .map(|range| range.start.max(present)..range.end);
        past.filter(|range| !range.is_empty()).collect()
    }

    fn reserved(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.reserved_past_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn reserved_ranges_past_the_end_are_merged_and_end_with_a_truncation() {
        let storage = StorageState::new();
        storage.note_reserved(&(0..10), 5);
        storage.note_reserved(&(20..30), 5);
        assert_eq!(storage.reserved_past(5), [5..10, 20..30]);
        storage.note_reserved(&(8..20), 5);
        let merged = storage.reserved_past(5).pop();
        assert_eq!(merged, Some(5..30));
        assert_eq!(storage.reserved_past(30), []);
        storage.note_truncated(3);
        assert_eq!(storage.reserved_past(0), []);
    }
}
