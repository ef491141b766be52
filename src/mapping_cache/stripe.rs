//! Stripes: a thread writes to one of a few cache lines, so that threads seldom share one.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of stripes. With more threads, some share a stripe, which only costs time.
pub(in crate::mapping_cache) const STRIPES: usize = if cfg!(loom) { 2 } else { 8 };

/// A stripe. A count is removed from the stripe in which it was added, by any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapping_cache) struct Stripe(u32);

const NONE: u32 = u32::MAX;

thread_local! {
    static MINE: Cell<u32> = const { Cell::new(NONE) };
}

impl Stripe {
    /// Returns the stripe of this thread.
    #[inline(always)]
    pub(in crate::mapping_cache) fn mine() -> Self {
        let mine = MINE.get();
        if mine == NONE {
            return Self::choose();
        }
        Self(mine)
    }

    #[cold]
    #[inline(never)]
    fn choose() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let stripe = Self::number(NEXT.fetch_add(1, Ordering::Relaxed));
        MINE.set(stripe.0);
        stripe
    }

    /// Returns the stripe of the thread with this number.
    pub(in crate::mapping_cache) fn number(thread: usize) -> Self {
        // Lossless: less than `STRIPES`.
        Self((thread % STRIPES) as u32)
    }

    #[inline(always)]
    pub(in crate::mapping_cache) fn index(self) -> usize {
        self.0 as usize % STRIPES
    }
}
