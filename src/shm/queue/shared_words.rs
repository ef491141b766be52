//! The memory that both sides share, as words, and the orderings of the protocol.
//!
//! Everything of the protocol goes through [`Words`], so it runs on a mapping, on a heap, and under loom.

use std::ops::Range;

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Shared words. The methods beside [`words`](Self::words) are what a test leaves out to see that it is missed.
pub(crate) trait Words {
    /// These words.
    ///
    /// # Panics
    ///
    /// When there are not so many: every number from the other side is checked before.
    fn words(&self, range: Range<usize>) -> &[AtomicU64];

    /// One of them.
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words(at..at + 1)[0]
    }

    /// What of a range may be anything but zeros, in order; asked for after the mark was read.
    fn with_data(&self, range: Range<usize>) -> Vec<Range<usize>> {
        vec![range]
    }

    /// Copies words that this side alone writes. (A model does it in another way: loom loses sight of a load by the other side
    /// when one of this side follows.)
    fn load_own(&self, at: usize, to: &mut [u64]) {
        let len = to.len();
        for (to, from) in to.iter_mut().zip(self.words(at..at + len)) {
            *to = from.load(Ordering::Acquire);
        }
    }

    /// Copies words that this side alone writes to others of it.
    fn copy_own(&self, from: Range<usize>, to: Range<usize>) {
        for (to, from) in self.words(to).iter().zip(self.words(from)) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// W2.
    fn fence_after_invalid_mark(&self) {
        fence(Ordering::Release);
    }

    /// H4 and H5.
    fn look_again(&self, mark: usize) -> u64 {
        fence(Ordering::Acquire);
        self.word(mark).load(Ordering::Relaxed)
    }
}

/// Copies words out of shared memory.
pub(crate) fn load(from: &[AtomicU64], to: &mut [u64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.load(Ordering::Relaxed);
    }
}

/// Copies words into shared memory.
pub(crate) fn store(to: &[AtomicU64], from: &[u64]) {
    for (to, from) in to.iter().zip(from) {
        to.store(*from, Ordering::Relaxed);
    }
}
