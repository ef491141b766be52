//! Reading ahead of the hashing threads where the page cache is cold.
//!
//! Several threads that take turns look like random reads to the kernel, so it is told what comes
//! next. Where the data is in memory nothing is said: asking for it would cost more than it brings. On
//! a disk that moves its head, cold runs are read by one thread at a time, in order.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::group::Group;

const AHEAD_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct ReadAhead<'g> {
    group: &'g Group,
    rotational: bool,
    /// The kernel was asked for everything up to here; zero while the data is in memory.
    asked_to: Mutex<u64>,
    /// Held while a cold run is read from a disk that moves its head.
    head: Mutex<()>,
}

impl<'g> ReadAhead<'g> {
    pub(super) fn new(group: &'g Group) -> Self {
        Self {
            group,
            rotational: group.is_rotational(),
            asked_to: Mutex::new(0),
            head: Mutex::new(()),
        }
    }

    /// To be called before a run of bytes is read; the guard is held until it was.
    pub(super) fn before(&self, run: &Range<u64>) -> Option<MutexGuard<'_, ()>> {
        let ask = {
            let mut asked_to = self.asked_to.lock().unwrap_or_else(PoisonError::into_inner);
            let from = (*asked_to).max(run.start);
            if from >= self.group.len() || self.group.is_cached(from) {
                // In memory already: if the data is cold farther on, a later run sees that.
                *asked_to = 0;
                return None;
            }
            let to = run.end.saturating_add(AHEAD_BYTES).min(self.group.len());
            *asked_to = to.max(from);
            from..to.max(from)
        };
        // A hint: what is wrong with a file is reported by reading it.
        let _ = self.group.prefetch(ask);
        let cold_head = self.rotational;
        cold_head.then(|| self.head.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
