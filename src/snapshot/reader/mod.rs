//! Read-only access to a store, also while its writer runs.
//!
//! A reader does not use the lock of the writer. It shares the lock of the heap that it reads,
//! which keeps checkpoints out of that heap [I17]. The journal files that follow the heap exist as
//! long as that heap is complete. A checkpoint waits a bounded time for readers, then fails or
//! continues in the journal, so readers hold locks only while they read.
//!
//! A reader does not know the memory of a running writer: the newest state is the one on disk.

mod diff;
mod heap_read_lock;
mod image;
mod image_clone;
mod inspect;
mod journal_ends;
mod journal_info;
mod journal_overlay;
mod payload_files;
mod probe_trackers;
mod problem;
mod verify;
mod verify_heap;
mod verify_report;

pub use image::Image;
pub use inspect::{HeapInfo, StoreInfo, StoreReader};
pub use journal_info::{Change, HeapChoice, JournalFileInfo, RecordInfo};
pub use payload_files::PayloadFile;
pub use probe_trackers::{TrackerProbe, TrackerProbes, probe_trackers};
pub use problem::{Problem, ProblemKind};
pub use verify_report::{StoreVerifyReport, VerifyProgress};
