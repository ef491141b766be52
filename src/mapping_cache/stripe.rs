//! Which of a few cache lines a thread writes to, so that threads seldom share one.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many stripes there are. Threads beyond share theirs, which costs time and nothing else.
pub(super) const STRIPES: usize = if cfg!(loom) { 2 } else { 8 };

/// A stripe. What was counted in one is taken back in the same, by whichever thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stripe(u32);

const NONE: u32 = u32::MAX;

thread_local! {
    static MINE: Cell<u32> = const { Cell::new(NONE) };
}

impl Stripe {
    /// The stripe of this thread.
    #[inline(always)]
    pub(super) fn mine() -> Self {
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

    /// The stripe of the thread with this number.
    pub(super) fn number(thread: usize) -> Self {
        // Lossless: there are few.
        Self((thread % STRIPES) as u32)
    }

    #[inline(always)]
    pub(super) fn index(self) -> usize {
        self.0 as usize % STRIPES
    }
}
