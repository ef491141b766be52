//! Memory that outlives the process.
//!
//! A [`Store`] is a region of memory, a pair of NVHeaps on disk that hold complete images of it, and a journal of what
//! changed since. Whatever happens to the process or the power, the newest complete state comes back when the store is
//! opened again. docs/file-format.md has the format, the order of writing, and what each crash leaves.
//!
//! The rules this layer keeps:
//!
//! - A heap is written only while the other one is complete and durable, and counts only when everything in it is.
//! - Nothing is written before opening has chosen what to restore.
//! - A sync that failed is final: the store is poisoned, and what is on disk is looked at anew by who opens it.
//! - Memory that others may be writing is copied by the kernel, never by plain loads.
//! - Bytes from disk are believed once their checksum was seen to fit.
//!
//! What it does not know: files, directories and mappings of the heaps (`span` does), and what the memory means.

mod array_files;
mod background;
mod capture;
mod checkpoint;
mod choose;
mod delta;
mod disk;
mod error;
mod fault;
mod format;
mod gate;
mod group_disk;
mod heap;
mod history;
mod inner;
mod journal;
#[cfg(all(test, not(loom)))]
mod journal_given_up;
mod kind;
mod lock;
mod new_place;
mod open;
mod options;
mod page_buffer;
mod page_set;
mod part_row;
pub(crate) mod random;
mod reader;
mod region;
mod replay;
mod report;
mod restore_memory;
mod second_heap;
#[cfg(all(test, not(loom)))]
mod seeded;
mod stale;
mod standstill;
mod store;
mod table;
mod tracker;
mod tracking;
mod transaction;
mod writing;

pub use choose::{Choice, HeapState, NoHeap, Unfit};
pub use disk::{Array, Disk};
pub use error::{Damage, SnapshotError};
pub use format::{Defect, HeapName, Metadata, StoreId};
pub use group_disk::GroupDisk;
pub use history::{CurrentState, History, Kept, Rollback};
pub use options::{Changes, Durability, Memory, OnClose, Restore, StoreOptions, Strategy};
pub use page_set::{PageSet, Runs};
pub use reader::{
    Fault, FaultKind, HeapFacts, HeapPart, Image, JournalFacts, Progress, RecordFacts, StoreReader,
    Survey, TrackerTrial, Verified, try_trackers,
};
pub use region::{FilePart, Region, RegionError, RegionKind, RegionOptions, RestoredPart};
pub use replay::Cut;
pub use report::{CheckpointKind, CheckpointReport, OpenReport};
pub use standstill::{Standstill, Stopped};
pub use store::Store;
pub use tracker::{
    Chosen, Compare, Declarations, Declared, DirtyTracker, PrivatePages, TrackerChoice,
    TrackerError, TrackerKind, WpAsync, Writers, choose,
};
pub use transaction::Transaction;
pub use writing::Writing;
