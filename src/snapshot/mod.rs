//! Memory that outlives the process.
//!
//! A [`Store`] persists a region of memory. It has two NVHeaps, which hold complete images of the
//! region, and a journal of the changes since. After a crash or a power failure, opening the store
//! restores the newest complete state. docs/file-format.md describes the format, the order of
//! writes and the result of each crash.
//!
//! Rules of this layer:
//!
//! - A heap is written only while the other heap is complete and durable. It counts only when all
//!   of it is durable.
//! - Opening writes nothing before it has selected the heap to restore.
//! - A failed sync poisons the store. Opening it again reads the disk.
//! - The kernel copies memory that other threads or processes may write. Plain loads are not used.
//! - Bytes from the disk are used only after their checksum was verified.
//!
//! This layer does not know the files and mappings of the heaps, which belong to `span`, or the
//! meaning of the memory.

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

pub use backend::{Disk, GroupDisk};
pub use checkpoint::{CheckpointKind, CheckpointReport};
pub use error::{Damage, NoHeap, SnapshotError, Unfit};
pub use file_names::Array;
pub use format::{Defect, HeapName, Metadata, RecordKind, StoreId};
pub use heap::{Choice, HeapState};
pub use history::{History, Kept};
pub use journal::Cut;
pub use memory::{Standstill, Stopped};
pub use modes::{Changes, Durability, OnClose, Restore, Strategy};
pub use options::{Memory, StoreOptions};
pub use page_set::{PageSet, Runs};
pub use reader::{
    Change, Fault, FaultKind, HeapChoice, HeapFacts, HeapPart, Image, JournalFacts, Progress,
    RecordFacts, StoreReader, Survey, TrackerProbes, TrackerTrial, Verified, try_trackers,
};
pub use region::{FilePart, Region, RegionError, RegionKind, RegionOptions, RestoredPart};
pub use store::{CurrentState, OpenReport, Rollback, Store, Transaction, Writing};
pub use tracker::{
    Chosen, Compare, Declarations, Declared, DirtyTracker, PrivatePages, TrackerChoice,
    TrackerError, TrackerKind, WpAsync, Writers, choose,
};
