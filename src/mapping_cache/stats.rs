//! Counters that threads do not fight over, and the statistics made of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::stripe::{STRIPES, Stripe};

/// What a cache did and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Pins that found their window mapped; those of a file that was released while another handle
    /// still has it count when that goes.
    pub hits: u64,
    /// Pins that had to map their window.
    pub misses: u64,
    /// Windows unmapped: for others, by age or on request.
    pub evictions: u64,
    /// Times a thread waited for another that was mapping or unmapping its window.
    pub stalls: u64,
    /// Copies made by positioned I/O instead of through a mapping.
    pub positioned_copies: u64,
    /// Mappings made although the budget was used up, as all other windows were pinned.
    pub budget_exceeded: u64,
    /// Bytes mapped now.
    pub mapped_bytes: u64,
    /// The most bytes that were ever mapped.
    pub mapped_bytes_max: u64,
    /// Mappings now.
    pub mappings: usize,
    /// Mappings that are pinned now.
    pub pinned: usize,
    /// Descriptors kept open now.
    pub descriptors: usize,
    /// Files among them with writes that are not synced.
    pub unsynced_files: usize,
}

/// A counter in stripes: each thread adds to a cache line it seldom shares.
#[derive(Debug, Default)]
pub(super) struct Counter {
    stripes: [Line; STRIPES],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.stripes[Stripe::mine().index()]
            .0
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        let stripes = self.stripes.iter();
        stripes.map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

/// The counters of a cache.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) misses: Counter,
    pub(super) stalls: Counter,
    pub(super) positioned_copies: Counter,
}
