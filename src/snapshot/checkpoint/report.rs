//! Report of a checkpoint.

use std::time::Duration;

use crate::numbers::{Generation, Sequence};
use crate::snapshot::modes::CaptureMode;
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
    Unchanged,
}

/// Result and cost of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// Kind of the checkpoint.
    pub kind: CheckpointKind,
    /// Reason for the kind.
    pub reason: String,
    /// How the memory was captured.
    pub capture_mode: CaptureMode,
    /// Tracker that found the changed pages.
    pub tracker: TrackerKind,
    /// Generation that is durable now.
    pub generation: Generation,
    /// Sequence number of the last journal record that the generation includes.
    pub sequence: Sequence,
    /// Number of pages written.
    pub written_pages: u64,
    /// Number of bytes written, including checksums and headers.
    pub written_bytes: u64,
    /// Rounds of copying while writers ran.
    pub pre_copy_rounds: u32,
    /// Time for which writers were paused.
    pub pause_duration: Duration,
    /// Number of syncs that the checkpoint waited for.
    pub syncs: u32,
    /// Time from the call to the return.
    pub duration: Duration,
}
