//! A cached file: its path, its state by identity, its descriptors, its length and its syncs.

mod cached_file;
mod create_remove;
mod current_descriptor;
mod dirty_directories;
mod dirty_state;
mod errors;
mod extend;
mod fd_pool;
mod file_registry;
mod file_state;
mod file_table;
mod lock;
mod open;
mod rename;
mod resources;
mod storage_state;
mod truncate_discard;
mod unmap;
mod unsynced_mappings;

pub use cached_file::CachedFile;
pub(in crate::mapping_cache) use cached_file::Opened;
pub(in crate::mapping_cache) use file_state::FileState;
pub(in crate::mapping_cache) use file_table::FileTable;
pub(in crate::mapping_cache) use open::WriteGuard;
pub(in crate::mapping_cache) use resources::Resources;
