//! Storage backend of a store: the [`StorageBackend`] trait, its implementation on a directory, and
//! the locks.

mod directory_backend;
mod io_context;
mod logical_file;
mod part_files;
mod staging_directory;
mod storage_backend;
mod store_lock;

pub(crate) use directory_backend::DEFAULT_PART_BYTES;
pub use directory_backend::DirectoryBackend;
pub(crate) use staging_directory::sync_above;
pub use storage_backend::StorageBackend;
pub(crate) use store_lock::{HeapLock, StoreLocks, lock_file};
