//! Errors of dirty trackers.

use std::io;

use thiserror::Error;

use super::kind::TrackerKind;
use crate::snapshot::region::RegionError;

/// An error of a tracker.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// The system lacks a facility that the tracker needs.
    #[error("{tracker}: not available on this system")]
    Unavailable {
        /// The tracker.
        tracker: TrackerKind,
        /// Error of the system.
        source: io::Error,
    },
    /// The tracker cannot see all changes of this region.
    #[error("{tracker}: unsuitable for this region: {reason}")]
    Unsuitable {
        /// The tracker.
        tracker: TrackerKind,
        /// Changes that the tracker would miss.
        reason: &'static str,
    },
    /// A test on memory of the same kind did not find exactly the stored pages.
    #[error("{tracker}: self-test failed: stored to pages {expected}, found {found}")]
    SelfTestFailed {
        /// The tracker.
        tracker: TrackerKind,
        /// Pages that the test has stored to.
        expected: String,
        /// Pages that the tracker has found.
        found: String,
    },
    /// Another tracker already reads the page tables of this region.
    #[error("{tracker}: another tracker is armed with this region")]
    RegionInUse {
        /// The tracker.
        tracker: TrackerKind,
    },
    /// The tracker was not armed, or was armed with another region.
    #[error("{tracker}: not armed with this region")]
    NotArmed {
        /// The tracker.
        tracker: TrackerKind,
    },
    /// This process is a child of the one that armed the tracker, and has other memory.
    #[error(
        "{tracker}: armed by process {armed_by}, but used by its child {here}; create a tracker in each process"
    )]
    Forked {
        /// The tracker.
        tracker: TrackerKind,
        /// Process that armed the tracker.
        armed_by: u32,
        /// Process that uses the tracker.
        here: u32,
    },
    /// Tracking ended: part of the region was mapped again without a report to the tracker, or the
    /// system failed. The scan has reported every page as dirty, and the tracker must be armed
    /// again.
    #[error("{tracker}: tracking was lost, so every page counts as dirty; arm the tracker again")]
    Lost {
        /// The tracker.
        tracker: TrackerKind,
        /// Error of the system.
        source: io::Error,
    },
    /// The region could not be read.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A system call failed.
    #[error("{tracker}: cannot {operation}")]
    Io {
        /// The tracker.
        tracker: TrackerKind,
        /// Failed operation.
        operation: &'static str,
        /// Error of the system.
        source: io::Error,
    },
}

impl From<TrackerError> for io::Error {
    fn from(error: TrackerError) -> Self {
        let kind = match error {
            TrackerError::Region(error) => return error.into(),
            TrackerError::Unavailable { .. } => io::ErrorKind::Unsupported,
            TrackerError::Unsuitable { .. } => io::ErrorKind::InvalidInput,
            TrackerError::Io { ref source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
