//! What a store says of what it did.

use std::time::Duration;

use super::format::{HeapName, StoreId};
use super::options::Strategy;
use super::replay::Cut;
use super::tracker::TrackerKind;

/// What opening a store found, and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Which store.
    pub store: StoreId,
    /// It was made just now.
    pub created: bool,
    /// The last run closed it in order.
    pub was_closed: bool,
    /// The heap it was restored from.
    pub heap: HeapName,
    /// The generation of that, or a later one from the journal.
    pub generation: u64,
    /// The last record of the journal that is in the state.
    pub sequence: u64,
    /// Records of the journal that were replayed on top of the heap.
    pub replayed_records: u64,
    /// And their bytes.
    pub replayed_bytes: u64,
    /// Tails of the journal that were never acknowledged, and were left out.
    pub cuts: Vec<Cut>,
    /// Bad copies of METADATA that were written anew.
    pub healed: Vec<String>,
    /// Why the newer heap was not taken, if it was not. With [`Changes::Writers`](super::Changes::Writers) the
    /// state is then that of an earlier checkpoint: what came later is lost.
    pub fell_back: Option<String>,
    /// The state of the other heap, as its header says.
    pub other_heap: String,
    /// Length of the region.
    pub region_bytes: u64,
    /// Memory had its content and kept it ([`Memory::Live`](super::Memory::Live)): nothing was restored.
    pub kept_live: bool,
    /// All pages were verified; otherwise they are before they are overwritten.
    pub verified: bool,
    /// How changed pages will be found, and why so.
    pub tracker: String,
    /// How long it took.
    pub took: Duration,
}

/// What kind of checkpoint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointKind {
    /// Into the older heap.
    Base,
    /// Into the journal.
    Delta,
    /// Nothing had changed.
    Nothing,
}

/// What a checkpoint did, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// Which kind.
    pub kind: CheckpointKind,
    /// Why that kind.
    pub why: String,
    /// How the instant was captured.
    pub strategy: Strategy,
    /// How changed pages were found.
    pub tracker: TrackerKind,
    /// The generation that is durable now.
    pub generation: u64,
    /// The last record of the journal that it contains.
    pub sequence: u64,
    /// Pages that were written.
    pub pages: u64,
    /// Bytes that were written, checksums and headers included.
    pub bytes: u64,
    /// Rounds of copying before writers had to stand.
    pub rounds: u32,
    /// So long they stood.
    pub pause: Duration,
    /// Syncs that were waited for.
    pub barriers: u32,
    /// From the call to its end.
    pub took: Duration,
}
