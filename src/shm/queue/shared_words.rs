//! Memory shared by client and host as words, and the memory orderings of the protocol.
//!
//! The protocol accesses shared memory through [`Words`] only. It therefore runs on a mapping, on a
//! heap allocation, and under loom.

use std::ops::Range;

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Shared words. Tests override single methods to show that each ordering is needed.
pub(crate) trait Words {
    /// Returns the words of a range.
    ///
    /// # Panics
    ///
    /// Panics if the range exceeds the memory. Callers validate every number from the other side.
    fn words(&self, range: Range<usize>) -> &[AtomicU64];

    /// Returns one word.
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words(at..at + 1)[0]
    }

    /// Returns the parts of a range that may differ from zero, in order. Must be called after the
    /// mark was read.
    fn with_data(&self, range: Range<usize>) -> Vec<Range<usize>> {
        vec![range]
    }

    /// Copies words that only this side writes.
    ///
    /// The loom model overrides it: loom loses track of a load by the other side when a load by
    /// this side follows.
    fn load_own(&self, at: usize, to: &mut [u64]) {
        let len = to.len();
        for (to, from) in to.iter_mut().zip(self.words(at..at + len)) {
            *to = from.load(Ordering::Acquire);
        }
    }

    /// Copies words to other words. Only this side writes both.
    fn copy_own(&self, from: Range<usize>, to: Range<usize>) {
        for (to, from) in self.words(to).iter().zip(self.words(from)) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Step W2.
    fn fence_after_invalid_mark(&self) {
        fence(Ordering::Release);
    }

    /// Steps H4 and H5.
    fn load_mark_again(&self, mark: usize) -> u64 {
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
