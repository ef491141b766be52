//! Report of opening a store.

use std::time::Duration;

use crate::numbers::{Generation, Sequence};
use crate::snapshot::format::{HeapName, StoreId};
use crate::snapshot::heap::HeapState;
use crate::snapshot::journal::IgnoredTail;
use crate::snapshot::tracker::TrackerKind;

/// Result of opening a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Id of the store.
    pub store: StoreId,
    /// Whether the store was created.
    pub created: bool,
    /// Whether the store was shut down cleanly before.
    pub clean_shutdown: bool,
    /// Heap that was restored.
    pub heap: HeapName,
    /// Generation of the heap, or a later one of the journal.
    pub generation: Generation,
    /// Sequence number of the last restored journal record.
    pub sequence: Sequence,
    /// Number of journal records that were replayed.
    pub replayed_records: u64,
    /// Bytes of these records.
    pub replayed_bytes: u64,
    /// Ignored tails of the journal, which were never acknowledged.
    pub ignored_tails: Vec<IgnoredTail>,
    /// Invalid copies of METADATA that were rewritten.
    pub repaired_metadata: Vec<String>,
    /// Reason for not using the newer heap. With
    /// [`WriteMode::Tracked`](crate::snapshot::WriteMode::Tracked) the state is then that of an
    /// earlier checkpoint, and later changes are lost.
    pub fallback_reason: Option<String>,
    /// State of the other heap, as recorded in its METADATA.
    pub other_heap: HeapState,
    /// Length of the region.
    pub region_bytes: u64,
    /// Whether the memory kept its content
    /// ([`MemorySource::Attach`](crate::snapshot::MemorySource::Attach)) and nothing was restored.
    pub attached: bool,
    /// Whether all pages were verified. If not, each page is verified before it is overwritten.
    pub fully_verified: bool,
    /// Tracker that finds changed pages, `None` if transactions mark them.
    pub tracker: Option<TrackerKind>,
    /// Reason for this tracker, and why preferred ones were not selected.
    pub tracker_reason: String,
    /// Time that opening took.
    pub duration: Duration,
}
