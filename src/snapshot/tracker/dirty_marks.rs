//! Pages that writers mark as dirty.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;

/// Pages that writers mark as dirty. Clones share one set, so that each writer can have its own
/// clone.
#[derive(Clone, Debug, Default)]
pub struct DirtyMarks(Arc<Mutex<PageSet>>);

impl DirtyMarks {
    /// Marks pages as dirty. See [`DirtyTracker::mark_dirty`](super::DirtyTracker::mark_dirty) for
    /// when to call it.
    pub fn mark_dirty(&self, pages: Range<u64>) {
        if !pages.is_empty() {
            self.lock().insert_range(pages);
        }
    }

    /// Marks all pages that a byte range touches as dirty.
    pub fn mark_dirty_bytes(&self, range: Range<usize>) {
        if !range.is_empty() {
            self.mark_dirty(pages_of(range));
        }
    }

    /// Moves the marked pages below `pages_max` into a set. Pages above are of a region that has
    /// shrunk, and are dropped.
    pub(super) fn take_into(&self, into: &mut PageSet, pages_max: u64) {
        let mut taken = self.lock().take();
        taken.remove_range(pages_max..u64::MAX);
        *into |= &taken;
    }

    fn lock(&self) -> MutexGuard<'_, PageSet> {
        // A panic cannot leave the bitmap in a state that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pages that a byte range touches.
pub(super) fn pages_of(range: Range<usize>) -> Range<u64> {
    let page = PAGE_BYTES as u64;
    (range.start as u64 / page)..(range.end as u64).div_ceil(page)
}
