//! The interface of dirty trackers.

use std::fmt;
use std::ops::Range;

use super::dirty_marks::{DirtyMarks, pages_of};
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;

/// Finds the dirty pages of a region: those that changed since the last scan.
///
/// A tracker is armed with one region and stays with it. A scan records a page *before* the
/// caller copies it, so a store during or after the scan is found by this scan or the next.
///
/// The owner of a region reports changes of the mapping: [`note_grown`](Self::note_grown) before
/// any thread stores to the new pages, [`note_discarded`](Self::note_discarded) after pages became
/// zero. Without that report a tracker fails at the next scan, or finds the change by reading the
/// memory. It never reports unwatched memory as unchanged. The exception is
/// [`ExplicitTracker`](super::ExplicitTracker), which knows only marked pages.
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::{DirtyTracker as _, HashCompareTracker, PageSet, Region, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = Region::new_anonymous(8 * 4096, RegionOptions::default())?;
/// let mut tracker = HashCompareTracker::new();
/// tracker.arm(&region)?;
/// region.write_at(3 * 4096 + 10, b"changed")?;
/// let mut dirty = PageSet::new();
/// tracker.scan(&region, &mut dirty)?;
/// assert_eq!(dirty, PageSet::from_iter([3]));
/// # Ok(())
/// # }
/// ```
pub trait DirtyTracker: Send + fmt::Debug {
    /// Returns the kind of the tracker.
    fn kind(&self) -> TrackerKind;

    /// Returns whether a scan reports all pages that changed since the region was created, not only
    /// since the last scan.
    ///
    /// The caller then compares them with what it has stored.
    fn is_cumulative(&self) -> bool {
        false
    }

    /// Starts tracking. Pages that changed before are not reported.
    ///
    /// # Errors
    ///
    /// - [`TrackerError::RegionInUse`] if another tracker has the region.
    /// - [`TrackerError::Io`] if a system call fails.
    fn arm(&mut self, region: &Region) -> Result<(), TrackerError>;

    /// Stops tracking, so that stores have no cost and another tracker can have the region.
    /// Dropping the tracker has the same effect.
    ///
    /// # Errors
    ///
    /// - [`TrackerError::Io`] if a system call fails.
    fn disarm(&mut self, _region: &Region) -> Result<(), TrackerError> {
        Ok(())
    }

    /// Inserts the pages that changed since the last scan, or since the tracker was armed, into
    /// `into`.
    ///
    /// Each page is found and armed again in one atomic step. All reported pages are below the
    /// length of the region.
    ///
    /// # Errors
    ///
    /// On every error `into` holds all pages that this scan has found. A later scan reports only
    /// other ones.
    ///
    /// - [`TrackerError::NotArmed`] if the tracker was not armed with this region.
    /// - [`TrackerError::Lost`] if part of the region is not tracked any more.
    /// - [`TrackerError::Region`] or [`TrackerError::Io`] if the memory or the page tables cannot
    ///   be read.
    fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError>;

    /// Reports bytes that the caller has copied from the region since the last scan and is going to
    /// store.
    ///
    /// A tracker that compares uses them as the new reference, and inserts the pages that differ
    /// from its last scan into `into`. Otherwise a page that had other bytes only while it was
    /// copied would never be found.
    fn note_copied(&mut self, _first_page: u64, _bytes: &[u8], _into: &mut PageSet) {}

    /// Returns the set of marked pages, which all clones share. The next scan reports them.
    fn dirty_marks(&self) -> &DirtyMarks;

    /// Marks pages as dirty whose changes the tracker cannot see.
    ///
    /// The writer calls it after the write and before it releases the access lock. If a scan
    /// runs in between, a later scan reports the pages.
    fn mark_dirty(&self, pages: Range<u64>) {
        self.dirty_marks().mark_dirty(pages);
    }

    /// Reports that the region has grown from `old_len` bytes. When the call returns, the new pages
    /// are tracked, and the next scan reports them.
    ///
    /// # Errors
    ///
    /// The errors of [`arm`](Self::arm).
    fn note_grown(&mut self, region: &Region, old_len: usize) -> Result<(), TrackerError> {
        self.mark_dirty(pages_of(old_len..region.len()));
        Ok(())
    }

    /// Reports that these bytes were discarded. When the call returns, they are tracked, and the
    /// next scan reports them.
    ///
    /// # Errors
    ///
    /// The errors of [`arm`](Self::arm).
    fn note_discarded(
        &mut self,
        _region: &Region,
        range: Range<usize>,
    ) -> Result<(), TrackerError> {
        self.mark_dirty(pages_of(range));
        Ok(())
    }
}
