//! What writers say they wrote.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::TrackerError;
use super::traits::{DirtyTracker, TrackerKind, pages_of};
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;

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

/// Believes what writers declare, and sees nothing else: for those who know what they write, as transactions do.
#[derive(Debug, Default)]
pub struct Declared {
    declarations: Declarations,
}

impl Declared {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl DirtyTracker for Declared {
    fn kind(&self) -> TrackerKind {
        TrackerKind::Declared
    }

    fn arm(&mut self, _region: &Region) -> Result<(), TrackerError> {
        self.declarations.take_into(&mut PageSet::new(), 0);
        Ok(())
    }

    fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError> {
        self.declarations
            .take_into(into, pages_of(0..region.len()).end);
        Ok(())
    }

    fn declarations(&self) -> &Declarations {
        &self.declarations
    }
}
