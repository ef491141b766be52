//! Tracker that knows only the pages that writers mark as dirty.

use super::dirty_marks::{DirtyMarks, pages_of};
use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;

/// Tracker that reports only marked pages, for writers that know what they change, such as
/// transactions.
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::{DirtyTracker as _, ExplicitTracker, PageSet, Region, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = Region::new_anonymous(8 * 4096, RegionOptions::default())?;
/// let mut tracker = ExplicitTracker::new();
/// tracker.arm(&region)?;
/// region.write_at(0, b"changed")?;
/// tracker.dirty_marks().mark_dirty_bytes(0..7);
/// let mut dirty = PageSet::new();
/// tracker.scan(&region, &mut dirty)?;
/// assert_eq!(dirty, PageSet::from_iter([0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct ExplicitTracker {
    declarations: DirtyMarks,
}

impl ExplicitTracker {
    /// Creates a tracker with no dirty pages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl DirtyTracker for ExplicitTracker {
    fn kind(&self) -> TrackerKind {
        TrackerKind::Explicit
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

    fn dirty_marks(&self) -> &DirtyMarks {
        &self.declarations
    }
}
