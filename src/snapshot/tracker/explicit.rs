//! What writers say they wrote.

use super::dirty_marks::{Declarations, pages_of};
use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;

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
