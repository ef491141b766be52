//! Regions: contiguous memory whose content is persisted.
//!
//! A region reserves its addresses when it is created, so that growth never moves it. It provides a
//! raw pointer and creates no reference to its memory, since other threads, and for some kinds
//! other processes, may write it at any time. Its own methods copy by system calls, which check
//! every page and raise no signal.

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
pub use options::{FilePart, PrivateFilePart, RegionKind, RegionOptions};
