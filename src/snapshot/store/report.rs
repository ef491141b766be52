//! Report of opening a store.

use std::time::Duration;

use crate::snapshot::format::{HeapName, StoreId};
use crate::snapshot::journal::Cut;

/// Result of opening a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Id of the store.
    pub store: StoreId,
    /// The store was created.
    pub created: bool,
    /// The store was closed before.
    pub was_closed: bool,
    /// Heap that was restored.
    pub heap: HeapName,
    /// Generation of the heap, or a later one of the journal.
    pub generation: u64,
    /// Sequence number of the last restored journal record.
    pub sequence: u64,
    /// Number of journal records that were replayed.
    pub replayed_records: u64,
    /// Bytes of these records.
    pub replayed_bytes: u64,
    /// Ignored tails of the journal, which were never acknowledged.
    pub cuts: Vec<Cut>,
    /// Invalid copies of METADATA that were rewritten.
    pub healed: Vec<String>,
    /// Reason for not using the newer heap. With
    /// [`Changes::Writers`](crate::snapshot::Changes::Writers) the state is then that of an earlier
    /// checkpoint, and later changes are lost.
    pub fell_back: Option<String>,
    /// State of the other heap, as recorded in its header.
    pub other_heap: String,
    /// Length of the region.
    pub region_bytes: u64,
    /// The memory kept its content ([`Memory::Live`](crate::snapshot::Memory::Live)) and nothing
    /// was restored.
    pub kept_live: bool,
    /// All pages were verified. Otherwise each page is verified before it is overwritten.
    pub verified: bool,
    /// Tracker that finds changed pages, and the reason for it.
    pub tracker: String,
    /// Time that opening took.
    pub took: Duration,
}
