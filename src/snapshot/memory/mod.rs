//! Memory of an open store: the region with its access lock, its dirty tracker and its dirty marks.

mod access_lock;
mod quiesce;
mod store_memory;

pub(crate) use access_lock::{ExclusiveAccess, SharedAccess};
pub use quiesce::{Quiesce, QuiesceGuard};
pub(crate) use store_memory::{MemorySettings, PausedWriters, StoreMemory, pages_of};
