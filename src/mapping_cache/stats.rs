//! Striped counters, and the statistics of a cache.

use std::sync::atomic::{AtomicU64, Ordering};

use super::stripe::{STRIPES, Stripe};

/// Statistics of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Number of pins that found their window mapped.
    pub hits: u64,
    /// Number of pins that had to map their window.
    pub misses: u64,
    /// Number of windows that were unmapped: for other windows, after an idle time, or on request.
    pub evictions: u64,
    /// Number of waits for another thread that mapped or unmapped the same window.
    pub waits: u64,
    /// Number of copies by positioned I/O instead of through a mapping.
    pub positioned_copies: u64,
    /// Number of mappings that exceeded the budget, since all other windows were pinned.
    pub over_budget_mappings: u64,
    /// Number of mapped bytes.
    pub mapped_bytes: u64,
    /// Largest number of bytes that were mapped at once.
    pub mapped_bytes_max: u64,
    /// Number of mappings.
    pub mappings: usize,
    /// Number of pinned mappings.
    pub pinned_mappings: usize,
    /// Number of descriptors that the cache keeps open.
    pub open_files: usize,
    /// Number of dirty files: their writes are not synced. Each holds one of the descriptors, or a
    /// mapping that is not part of the budget.
    pub dirty_files: usize,
}

/// A striped counter. Each thread adds to a cache line that few other threads use.
#[derive(Debug, Default)]
pub(in crate::mapping_cache) struct Counter {
    stripes: [Line; STRIPES],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Counter {
    pub(in crate::mapping_cache) fn add_one(&self) {
        self.stripes[Stripe::mine().index()]
            .0
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::mapping_cache) fn sum(&self) -> u64 {
        let stripes = self.stripes.iter();
        stripes.map(|line| line.0.load(Ordering::Relaxed)).sum()
    }
}

/// The counters of a cache.
#[derive(Debug, Default)]
pub(in crate::mapping_cache) struct Counters {
    pub(in crate::mapping_cache) misses: Counter,
    pub(in crate::mapping_cache) waits: Counter,
    pub(in crate::mapping_cache) positioned_copies: Counter,
}
