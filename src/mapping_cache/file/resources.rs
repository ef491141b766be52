//! The parts of a cache that all of its files use.

use super::dirty_directories::DirtyDirectories;
use super::fd_pool::FdPool;
use crate::mapping_cache::options::{CacheOptions, CopyMethod};
use crate::mapping_cache::stats::Counters;
use crate::mapping_cache::window::{Budget, WaitTable, Windows};

/// The parts of a cache that all of its files use.
#[derive(Debug)]
pub(in crate::mapping_cache) struct Resources {
    pub(in crate::mapping_cache) windows: Windows,
    pub(in crate::mapping_cache) copy_path: CopyMethod,
    pub(in crate::mapping_cache) map_cutoff_bytes: u64,
    pub(in crate::mapping_cache) budget: Budget,
    pub(in crate::mapping_cache) wait_table: WaitTable,
    pub(in crate::mapping_cache) fd_pool: FdPool,
    pub(in crate::mapping_cache) directories: DirtyDirectories,
    pub(in crate::mapping_cache) counters: Counters,
}

impl Resources {
    pub(in crate::mapping_cache) fn new(options: &CacheOptions) -> Self {
        Self {
            windows: Windows::new(options.window_bytes),
            copy_path: options.copy_method,
            map_cutoff_bytes: options.map_threshold_bytes,
            budget: Budget::new(options),
            wait_table: WaitTable::new(),
            fd_pool: FdPool::new(options.descriptors_max),
            directories: DirtyDirectories::default(),
            counters: Counters::default(),
        }
    }
}
