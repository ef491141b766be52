//! Ranges for which requests wait, in the order in which the requests came.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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

/// Number of later requests that may overtake a wanted range. The processor takes a while to run a
/// woken thread, and other threads use that time. Without it, each lock that several threads want
/// would cost a switch between threads, about ten times a copy of 16 KiB.
pub(super) const MAX_OVERTAKINGS: u32 = if cfg!(loom) { 1 } else { 64 };

/// The wanted ranges of one file, and how often each was overtaken.
#[derive(Debug, Default)]
pub(super) struct WantedRanges(BTreeMap<Wanted, u32>);

impl WantedRanges {
    /// Returns `false` if the range is listed already.
    pub(super) fn insert(&mut self, wanted: Wanted) -> bool {
        match self.0.entry(wanted) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(0);
                true
            }
        }
    }

    pub(super) fn remove(&mut self, wanted: &Wanted) -> bool {
        self.0.remove(wanted).is_some()
    }

    /// Returns the conflict of a request with older ones that were overtaken often enough.
    pub(super) fn conflict(
        &mut self,
        range: &Range<u64>,
        sharing: Sharing,
        ticket: Ticket,
    ) -> Option<Conflict> {
        let mut older = self.older(range, sharing, ticket);
        let (wanted, _) = older.find(|(_, overtaken)| **overtaken >= MAX_OVERTAKINGS)?;
        Some(Conflict {
            only_copies: true,
            from: wanted.start,
        })
    }

    /// Notes that a request is granted before older ones.
    pub(super) fn overtake(&mut self, range: &Range<u64>, sharing: Sharing, ticket: Ticket) {
        for (_, overtaken) in self.older(range, sharing, ticket) {
            *overtaken += 1;
        }
    }

    /// The older requests with which a request conflicts.
    fn older(
        &mut self,
        range: &Range<u64>,
        sharing: Sharing,
        ticket: Ticket,
    ) -> impl Iterator<Item = (&Wanted, &mut u32)> {
        let older = ..Wanted::new(ticket, &(0..0), Sharing::Shared);
        self.0.range_mut(older).filter(move |(wanted, _)| {
            (wanted.sharing == Sharing::Exclusive || sharing == Sharing::Exclusive)
                && overlap(&(wanted.start..wanted.end), range)
        })
    }
}
