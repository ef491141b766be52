//! Report of a checkpoint.

use std::time::Duration;

use crate::snapshot::modes::Strategy;
use crate::snapshot::tracker::TrackerKind;

/// Kind of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointKind {
    /// Base checkpoint: into the heap that is not committed.
    Base,
    /// Delta checkpoint: into the journal.
    Delta,
    /// No checkpoint, since nothing had changed.
    Nothing,
}

/// Result and cost of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// Kind of the checkpoint.
    pub kind: CheckpointKind,
    /// Reason for the kind.
    pub why: String,
    /// How the memory was captured.
    pub strategy: Strategy,
    /// Tracker that found the changed pages.
    pub tracker: TrackerKind,
    /// Generation that is durable now.
    pub generation: u64,
    /// Sequence number of the last journal record that the generation includes.
    pub sequence: u64,
    /// Number of pages written.
    pub pages: u64,
    /// Number of bytes written, including checksums and headers.
    pub bytes: u64,
    /// Rounds of copying while writers ran.
    pub rounds: u32,
    /// Time for which writers were paused.
    pub pause: Duration,
    /// Number of syncs that the checkpoint waited for.
    pub barriers: u32,
    /// Time from the call to the return.
    pub took: Duration,
}
