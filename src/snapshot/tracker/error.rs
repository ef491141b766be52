//! What can go wrong with tracking.

use std::io;

use thiserror::Error;

use super::kind::TrackerKind;
use crate::snapshot::region::RegionError;

/// An error of a tracker.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// This system does not offer what the tracker needs.
    #[error("{tracker}: this system does not offer it")]
    Unavailable {
        /// Which one.
        tracker: TrackerKind,
        /// The system's error.
        source: io::Error,
    },
    /// The tracker would not see all changes of this region.
    #[error("{tracker}: refused, because {reason}")]
    Refused {
        /// Which one.
        tracker: TrackerKind,
        /// What it would not see.
        reason: &'static str,
    },
    /// The tracker was tried on pages of the same kind, and did not find what was stored.
    #[error("{tracker}: it found {found} where {expected} was stored to")]
    SelfTest {
        /// Which one.
        tracker: TrackerKind,
        /// The pages that were stored to.
        expected: String,
        /// Those that it found.
        found: String,
    },
    /// Another tracker reads the page tables of this region already (hazard 13).
    #[error("{tracker}: another tracker of this region is armed")]
    Taken {
        /// Which one.
        tracker: TrackerKind,
    },
    /// It was not armed, or with another region.
    #[error("{tracker}: not armed with this region")]
    NotArmed {
        /// Which one.
        tracker: TrackerKind,
    },
    /// This process is a child of the one that armed it, and has other memory.
    #[error("{tracker}: armed by process {armed_by}, used by process {here}")]
    OtherProcess {
        /// Which one.
        tracker: TrackerKind,
        /// Who armed it.
        armed_by: u32,
        /// Who uses it.
        here: u32,
    },
    /// Tracking ended: a part of the region was mapped anew and the tracker not told, or the system failed. Every page
    /// counts as written, and is in the set of the scan. The tracker must be armed anew.
    #[error("{tracker}: tracking was lost, so every page counts as written")]
    Lost {
        /// Which one.
        tracker: TrackerKind,
        /// The system's error.
        source: io::Error,
    },
    /// The region could not be read.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The system refused something.
    #[error("{tracker}: cannot {operation}")]
    Io {
        /// Which one.
        tracker: TrackerKind,
        /// What was to be done.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl From<TrackerError> for io::Error {
    fn from(error: TrackerError) -> Self {
        let kind = match error {
            TrackerError::Region(error) => return error.into(),
            TrackerError::Unavailable { .. } => io::ErrorKind::Unsupported,
            TrackerError::Refused { .. } => io::ErrorKind::InvalidInput,
            TrackerError::Io { ref source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
