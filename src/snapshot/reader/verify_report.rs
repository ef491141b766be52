//! Progress and result of a verification.

use super::problem::{Fault, FaultKind};
use crate::snapshot::disk::Array;
use crate::snapshot::format::HeapName;

/// So many faults are named; neighbouring pages are one.
const PROBLEMS_MAX: usize = 10_000;

/// How far a verifier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The heap that is being read.
    pub heap: HeapName,
    /// Its bytes that are done.
    pub done_bytes: u64,
    /// And all of them.
    pub total_bytes: u64,
}

/// What a verifier found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Everything was looked at: nobody stopped it.
    pub complete: bool,
    /// Pages that were looked at, holes included.
    pub pages: u64,
    /// Records of the journal that are good, and behind a heap that is complete.
    pub records: u64,
    /// Heaps whose pages were looked at.
    pub heaps: Vec<HeapName>,
    /// What is bad.
    pub faults: Vec<Fault>,
    /// Faults beyond those that are named.
    pub more_faults: u64,
    /// What is not bad but worth knowing: heaps that are not complete, tails of the journal that never counted.
    pub notes: Vec<String>,
}

impl Verified {
    /// Everything was looked at and is good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.complete && self.faults.is_empty()
    }

    pub(super) fn add_problem(&mut self, array: Array, kind: FaultKind) {
        if let FaultKind::Pages { pages: new } = &kind
            && let Some(last) = self.faults.last_mut()
            && let FaultKind::Pages { pages } = &mut last.kind
            && last.array == array
            && pages.end == new.start
        {
            pages.end = new.end;
            return;
        }
        let fault = Fault { array, kind };
        // Both heaps may lead to the same record.
        if matches!(fault.kind, FaultKind::Journal { .. }) && self.faults.contains(&fault) {
            return;
        }
        match self.faults.len() < PROBLEMS_MAX {
            true => self.faults.push(fault),
            false => self.more_faults += 1,
        }
    }
}
