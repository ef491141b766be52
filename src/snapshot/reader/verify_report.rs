//! Progress and result of a verification.

use super::problem::{Fault, FaultKind};
use crate::snapshot::file_names::Array;
use crate::snapshot::format::HeapName;

/// Maximum number of listed problems; adjacent pages count as one.
const PROBLEMS_MAX: usize = 10_000;

/// Progress of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The heap that is being read.
    pub heap: HeapName,
    /// Bytes of the heap that are verified.
    pub done_bytes: u64,
    /// Length of the heap in bytes.
    pub total_bytes: u64,
}

/// Result of a verification.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Whether the verification was finished, not stopped by the progress callback.
    pub complete: bool,
    /// Number of verified pages, including holes.
    pub pages: u64,
    /// Number of valid journal records that follow a complete heap.
    pub records: u64,
    /// Heaps whose pages were verified.
    pub heaps: Vec<HeapName>,
    /// Problems, up to a maximum.
    pub faults: Vec<Fault>,
    /// Number of problems that are not listed.
    pub more_faults: u64,
    /// Remarks that are no problems: incomplete heaps, ignored tails of the journal.
    pub notes: Vec<String>,
}

impl Verified {
    /// Returns whether the verification was finished and found no problem.
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
        if self.faults.len() < PROBLEMS_MAX {
            self.faults.push(fault);
        } else {
            self.more_faults += 1;
        }
    }
}
