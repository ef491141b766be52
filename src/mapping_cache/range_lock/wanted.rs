//! Ranges for which requests wait, in the order in which the requests came.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::conflict::{Conflict, Sharing, overlap};

/// The age of a waiting request among all requests of the process. The lowest ticket is the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// A request that was not refused yet. It is later than all that wait.
    pub(crate) const NEW: Self = Self(u64::MAX);

    /// Returns the ticket after all that were returned before.
    pub(super) fn next() -> Self {
        // Of std also under loom: the order of two tickets is all that matters.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A range that a waiting request needs. The oldest request is the least.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    ticket: Ticket,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) sharing: Sharing,
}

impl Wanted {
    pub(super) fn new(ticket: Ticket, range: &Range<u64>, sharing: Sharing) -> Self {
        Self {
            ticket,
            start: range.start,
            end: range.end,
            sharing,
        }
    }
}

/// The wanted ranges of one file.
#[derive(Debug, Default)]
pub(super) struct WantedRanges(BTreeSet<Wanted>);

impl WantedRanges {
    /// Returns `false` if the range is listed already.
    pub(super) fn insert(&mut self, wanted: Wanted) -> bool {
        self.0.insert(wanted)
    }

    pub(super) fn remove(&mut self, wanted: &Wanted) -> bool {
        self.0.remove(wanted)
    }

    /// Returns the conflict of a request with those that are older.
    pub(super) fn conflict(
        &self,
        range: &Range<u64>,
        sharing: Sharing,
        ticket: Ticket,
    ) -> Option<Conflict> {
        let mut older = self
            .0
            .range(..Wanted::new(ticket, &(0..0), Sharing::Shared));
        let conflicts = |wanted: &&Wanted| {
            (wanted.sharing == Sharing::Exclusive || sharing == Sharing::Exclusive)
                && overlap(&(wanted.start..wanted.end), range)
        };
        let wanted = older.find(conflicts)?;
        Some(Conflict {
            only_copies: true,
            from: wanted.start,
        })
    }
}
