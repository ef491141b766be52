//! Progress and result of a verification.

use super::problem::{Problem, ProblemKind};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::HeapName;

/// Maximum number of listed problems; adjacent pages count as one.
const PROBLEMS_MAX: usize = 10_000;

/// Progress of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
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
pub struct StoreVerifyReport {
    /// Whether the verification was finished, not stopped by the progress callback.
    pub complete: bool,
    /// Number of verified pages, including holes.
    pub verified_pages: u64,
    /// Number of valid journal records that follow a complete heap.
    pub verified_records: u64,
    /// Heaps whose pages were verified.
    pub heaps: Vec<HeapName>,
    /// Problems, up to a maximum.
    pub problems: Vec<Problem>,
    /// Number of problems that are not listed.
    pub omitted_problems: u64,
    /// Remarks that are no problems: incomplete heaps, ignored tails of the journal.
    pub notes: Vec<String>,
}

impl StoreVerifyReport {
    /// Returns whether the verification was finished and found no problem.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.complete && self.problems.is_empty()
    }

    pub(super) fn add_problem(&mut self, array: LogicalFile, kind: ProblemKind) {
        if let ProblemKind::Pages { pages: new } = &kind
            && let Some(last) = self.problems.last_mut()
            && let ProblemKind::Pages { pages } = &mut last.kind
            && last.file == array
            && pages.end == new.start
        {
            pages.end = new.end;
            return;
        }
        let fault = Problem { file: array, kind };
        // Both heaps may lead to the same record.
        if matches!(fault.kind, ProblemKind::Journal { .. }) && self.problems.contains(&fault) {
            return;
        }
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(fault);
        } else {
            self.omitted_problems += 1;
        }
    }
}
