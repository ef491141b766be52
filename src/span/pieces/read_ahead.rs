//! Prefetch ahead of the hashing threads where data is not in the page cache.
//!
//! To the kernel, several threads that read in turn look like random reads, which disables its
//! read-ahead. Therefore the range that follows is prefetched explicitly. Data that is in memory is
//! not prefetched, since the request costs more than it saves. On a rotational device only one
//! thread at a time reads data that is not in memory.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::span::group::Group;

const AHEAD_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct ReadAhead<'g> {
    group: &'g Group,
    rotational: bool,
    /// End of the range that was requested from the kernel; zero while the data is in memory.
    requested_end: Mutex<u64>,
    /// Held while a run that is not in memory is read from a rotational device.
    device: Mutex<()>,
}

impl<'g> ReadAhead<'g> {
    pub(super) fn new(group: &'g Group) -> Self {
        Self {
            group,
            rotational: group.is_rotational(),
            requested_end: Mutex::new(0),
            device: Mutex::new(()),
        }
    }

    /// Prefetches for a run that is about to be read. The caller holds the guard until it has read
    /// the run.
    pub(super) fn before(&self, run: &Range<u64>) -> Option<MutexGuard<'_, ()>> {
        let request = {
            let mut requested_end = self
                .requested_end
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let from = (*requested_end).max(run.start);
            if from >= self.group.len() || self.group.is_cached(from) {
                // Already in memory. A later run notices data that is not.
                *requested_end = 0;
                return None;
            }
            let to = run.end.saturating_add(AHEAD_BYTES).min(self.group.len());
            *requested_end = to.max(from);
            from..to.max(from)
        };
        // Reading the run reports errors of its files.
        drop(self.group.prefetch(request));
        self.rotational
            .then(|| self.device.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
