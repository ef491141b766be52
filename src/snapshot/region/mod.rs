//! Regions: contiguous memory whose state is to be persisted.
//!
//! A region reserves its addresses at the start, so that growth never moves it. It gives out a raw pointer and makes no
//! reference to its memory: other threads, and for some kinds other processes, may write it at any time. Its own doors
//! copy by the kernel, which checks every page and never raises a signal.

mod constructors;
mod discard;
mod error;
mod kernel_copy;
mod memfd;
mod memory;
mod options;
mod probe_pages;
mod resize;

pub use error::RegionError;
pub use memory::Region;
pub(in crate::snapshot) use memory::TrackingLock;
pub use options::{FilePart, RegionKind, RegionOptions, RestoredPart};
