//! Pages that writers mark as dirty.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;

/// Pages that writers declare as written. Clones share one set: each writer may have its own.
#[derive(Clone, Debug, Default)]
pub struct Declarations(Arc<Mutex<PageSet>>);

impl Declarations {
    /// Declares pages as written. See [`DirtyTracker::declare`] for when.
    pub fn declare(&self, pages: Range<u64>) {
        if !pages.is_empty() {
            self.lock().insert_range(pages);
        }
    }

    /// Declares a range of bytes as written: all pages it touches.
    pub fn declare_bytes(&self, range: Range<usize>) {
        if !range.is_empty() {
            self.declare(pages_of(range));
        }
    }

    /// Moves those below `pages_max` into a set. Those behind are of a region that has shrunk.
    pub(super) fn take_into(&self, into: &mut PageSet, pages_max: u64) {
        let mut taken = self.lock().take();
        taken.remove_range(pages_max..u64::MAX);
        *into |= &taken;
    }

    fn lock(&self) -> MutexGuard<'_, PageSet> {
        // A set of bits is never half changed in a way that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages that a range of bytes touches.
pub(super) fn pages_of(range: Range<usize>) -> Range<u64> {
    let page = PAGE_BYTES as u64;
    (range.start as u64 / page)..(range.end as u64).div_ceil(page)
}
