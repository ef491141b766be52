//! What every tracker can do.

use std::fmt;
use std::ops::Range;

use super::dirty_marks::{Declarations, pages_of};
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;

/// Tells which pages of a region changed.
///
/// A tracker is armed with one region and stays with it. A scan that finds a page has it *before* the caller copies it,
/// so a store during the scan or after it is found by this scan or by the next.
///
/// A region that changes its mapping tells its tracker: [`grown`](Self::grown) before anybody stores into what is new,
/// [`discarded`](Self::discarded) after pages became zeros. A tracker that was not told either fails at the next scan
/// or reads memory anyway; it never says "nothing changed" of memory that it does not watch, but for
/// [`Declared`](super::Declared), which believes what it is told.
pub trait DirtyTracker: Send + fmt::Debug {
    /// Which one it is.
    fn kind(&self) -> TrackerKind;

    /// Does a scan report all pages that changed since the region was made, instead of since the last scan? Then the
    /// caller tells what is new, by comparing with what it has stored.
    fn is_cumulative(&self) -> bool {
        false
    }

    /// Begins: what was written before is not reported.
    ///
    /// # Errors
    ///
    /// When the system refuses, or another tracker has the region.
    fn arm(&mut self, region: &Region) -> Result<(), TrackerError>;

    /// Ends: stores cost nothing any more, and another tracker may have the region. So does dropping it.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    fn disarm(&mut self, _region: &Region) -> Result<(), TrackerError> {
        Ok(())
    }

    /// Puts the pages that were written since the last scan, or since it was armed, into `into`, and begins anew for
    /// them: page by page in one step with finding it. All pages lie below the region's length.
    ///
    /// # Errors
    ///
    /// Whatever a failed scan has taken is in the set: a later one reports only what it has not (hazard 1).
    fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError>;

    /// These bytes are what the caller has copied from there since the last scan, to keep them. A tracker that compares goes
    /// on from them, and puts the pages that were something else when it looked into `into`: otherwise a page that had
    /// other bytes for just as long as it was copied would never be found.
    fn copied(&mut self, _first_page: u64, _bytes: &[u8], _into: &mut PageSet) {}

    /// What writers declare: shared with all clones, and reported by the next scan.
    fn declarations(&self) -> &Declarations;

    /// Declares pages as written: by those whose writes the tracker cannot see. To be called after the write and before
    /// the gate is left, so that a scan in between is followed by one that reports it.
    fn declare(&self, pages: Range<u64>) {
        self.declarations().declare(pages);
    }

    /// The region grew from `old_len` bytes: what is new is watched when this returns, and reported by the next scan
    /// (hazard 9).
    ///
    /// # Errors
    ///
    /// As [`arm`](Self::arm).
    fn grown(&mut self, region: &Region, old_len: usize) -> Result<(), TrackerError> {
        self.declare(pages_of(old_len..region.len()));
        Ok(())
    }

    /// These bytes were discarded: they are watched when this returns, and reported by the next scan (hazard 14).
    ///
    /// # Errors
    ///
    /// As [`arm`](Self::arm).
    fn discarded(&mut self, _region: &Region, range: Range<usize>) -> Result<(), TrackerError> {
        self.declare(pages_of(range));
        Ok(())
    }
}
