//! Memory that outlives the process.
//!
//! A [`Store`] persists a region of memory. It has two NVHeaps, which hold complete images of the
//! region, and a journal of the changes since. After a crash or a power failure, opening the store
//! restores the newest complete state. The [file format] has the order of writes and the result of
//! each crash.
//!
//! Rules of this layer:
//!
//! - A heap is written only while the other heap is complete and durable. It counts only when all
//!   of it is durable.
//! - Opening writes nothing before it has selected the heap to restore.
//! - A failed sync poisons the store ([`StoreError::Poisoned`]). Opening it again reads the disk.
//! - The kernel copies memory that other threads or processes may write. Plain loads are not used.
//! - Bytes from the disk are used only after their checksum was verified.
//!
//! This layer does not know the files and mappings of the heaps, which belong to `span`, or the
//! meaning of the memory.
//!
//! [file format]: https://github.com/flatspan/flatspan/blob/main/docs/file-format.md

mod backend;
mod capture;
mod checkpoint;
mod error;
mod failpoint;
mod file_names;
mod format;
mod heap;
mod history;
mod journal;
mod memory;
mod modes;
mod options;
mod page_set;
mod poison;
pub(crate) mod random;
mod reader;
mod region;
mod store;
mod store_files;
#[cfg(all(test, not(loom)))]
mod testing;
mod tracker;

pub use crate::numbers::{Generation, JournalNumber, PageIndex, Sequence};
pub use backend::{DirectoryBackend, StorageBackend};
pub use checkpoint::{CheckpointKind, CheckpointReport};
pub use error::{CorruptionCause, HeapSelectionError, HeapUnusable, StoreError};
pub use file_names::LogicalFile;
pub use format::{HeaderError, HeapName, Metadata, RecordKind, StoreId};
pub use heap::{HeapSelection, HeapState};
pub use history::{History, HistorySnapshot};
pub use journal::IgnoredTail;
pub use memory::{Quiesce, QuiesceGuard};
pub use modes::{CaptureMode, Durability, OnClose, WriteMode};
pub use options::{MemorySource, StoreOptions};
pub use page_set::{PageSet, Runs};
pub use reader::{
    Change, HeapChoice, HeapInfo, Image, JournalFileInfo, PayloadFile, Problem, ProblemKind,
    RecordInfo, StoreInfo, StoreReader, StoreVerifyReport, TrackerProbe, TrackerProbes,
    VerifyProgress, probe_trackers,
};
pub use region::{FilePart, PrivateFilePart, Region, RegionError, RegionKind, RegionOptions};
#[cfg(feature = "zerocopy")]
pub use store::TypedView;
pub use store::{CurrentState, OpenReport, Rollback, Store, Transaction, WriteGuard};
pub use tracker::{
    DirtyMarks, DirtyTracker, ExplicitTracker, HashCompareTracker, PrivatePagesTracker,
    SelectedTracker, TrackerChoice, TrackerError, TrackerKind, WpAsyncTracker, WriterScope,
    select_tracker,
};
