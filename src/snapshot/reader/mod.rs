//! Looking at a store without changing it, also while its writer runs.
//!
//! A reader takes no part in the writer's lock. It shares the lock of the heap it reads, which keeps checkpoints out of that heap
//! (hazard 17), and the files of the journal behind it stay as long as that heap counts. A checkpoint that finds readers waits for them a
//! while, then fails or goes on in the journal: so locks are held only as long as something is read.
//!
//! What it does not know: the memory of a running writer. The newest state is what is on disk.

mod clone;
mod differences;
mod facts;
mod fault;
mod hold;
mod image;
mod journal;
mod overlay;
mod parts;
mod trackers;
mod verify;
mod verify_heap;

pub use facts::{HeapFacts, StoreReader, Survey};
pub use fault::{Fault, FaultKind};
pub use image::Image;
pub use journal::{JournalFacts, RecordFacts};
pub use parts::HeapPart;
pub use trackers::{TrackerTrial, try_trackers};
pub use verify::{Progress, Verified};
