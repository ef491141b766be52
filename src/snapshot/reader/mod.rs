//! Looking at a store without changing it, also while its writer runs.
//!
//! A reader takes no part in the writer's lock. It shares the lock of the heap it reads, which keeps checkpoints out of that heap
//! (hazard 17), and the files of the journal behind it stay as long as that heap counts. A checkpoint that finds readers waits for them a
//! while, then fails or goes on in the journal: so locks are held only as long as something is read.
//!
//! What it does not know: the memory of a running writer. The newest state is what is on disk.

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
pub use inspect::{HeapFacts, StoreReader, Survey};
pub use journal_info::{Change, HeapChoice, JournalFacts, RecordFacts};
pub use payload_files::HeapPart;
pub use probe_trackers::{TrackerProbes, TrackerTrial, try_trackers};
pub use problem::{Fault, FaultKind};
pub use verify_report::{Progress, Verified};
