//! Tracker of the private pages of a region over files.

use super::dirty_marks::{DirtyMarks, pages_of};
use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::{Region, RegionKind, TrackingLock};
use crate::sys::pagemap::{PageRegion, Pagemap, Query};

const KIND: TrackerKind = TrackerKind::PrivatePages;

/// Page ranges that one `PAGEMAP_SCAN` call can return: 192 KiB.
const RUNS: usize = 8192;

/// Tracker of a region over privately mapped files: finds the pages that differ from the files, by
/// the page tables.
///
/// These pages are present or swapped, and do not belong to a file. The tracker needs no privilege,
/// and adds nothing to the copy that the kernel makes at the first store to a page.
///
/// It is *cumulative* ([`DirtyTracker::is_cumulative`]): a page stays private after it was stored.
/// So each scan reports all pages that changed since the region was created or the page was
/// [dropped](Region::drop_private_pages). Marked pages are reported until the tracker is armed
/// again, since a discarded page need not be present.
///
/// After the end of the files even a load makes a page present, so a scan may report unchanged
/// pages, but misses none.
///
/// # Examples
///
/// ```no_run
/// use std::fs::File;
///
/// use flatspan::snapshot::{
///     DirtyTracker as _, PageSet, PrivatePagesTracker, Region, RegionOptions, PrivateFilePart,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file = File::open("image")?;
/// let part = PrivateFilePart { file, offset: 0, bytes: 8 * 4096 };
/// let region = Region::map_private_files(vec![part], 8 * 4096, RegionOptions::default())?;
/// let mut tracker = PrivatePagesTracker::new()?;
/// tracker.arm(&region)?;
/// region.write_at(0, b"changed")?;
/// let mut dirty = PageSet::new();
/// tracker.scan(&region, &mut dirty)?;
/// assert!(dirty.contains(0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PrivatePagesTracker {
    pagemap: Pagemap,
    declarations: DirtyMarks,
    /// Pages that were marked since the tracker was armed.
    declared: PageSet,
    runs: Vec<PageRegion>,
    process: u32,
    tracking_lock: Option<TrackingLock>,
}

impl PrivatePagesTracker {
    /// Creates a tracker that is not armed.
    ///
    /// # Errors
    ///
    /// - [`TrackerError::Unavailable`] if the process cannot read its page tables.
    pub fn new() -> Result<Self, TrackerError> {
        let pagemap = Pagemap::open().map_err(|source| TrackerError::Unavailable {
            tracker: KIND,
            source,
        })?;
        Ok(Self {
            pagemap,
            declarations: DirtyMarks::default(),
            declared: PageSet::new(),
            runs: vec![PageRegion::default(); RUNS],
            process: std::process::id(),
            tracking_lock: None,
        })
    }

    fn check_process(&self) -> Result<(), TrackerError> {
        match std::process::id() {
            here if here == self.process => Ok(()),
            here => Err(TrackerError::Forked {
                tracker: KIND,
                armed_by: self.process,
                here,
            }),
        }
    }
}

impl DirtyTracker for PrivatePagesTracker {
    fn kind(&self) -> TrackerKind {
        KIND
    }

    fn is_cumulative(&self) -> bool {
        true
    }

    /// Clears the marks. Pages that are private already are reported nevertheless.
    fn arm(&mut self, region: &Region) -> Result<(), TrackerError> {
        self.check_process()?;
        if region.kind() != RegionKind::PrivateFiles {
            return Err(TrackerError::Unsuitable {
                tracker: KIND,
                reason: "only a region over private mappings of files can be tracked",
            });
        }
        if !self
            .tracking_lock
            .as_ref()
            .is_some_and(|lock| lock.is_of(region))
        {
            let lock = region.lock_tracking();
            self.tracking_lock = Some(lock.ok_or(TrackerError::RegionInUse { tracker: KIND })?);
        }
        self.declared.clear();
        self.declarations.take_into(&mut PageSet::new(), 0);
        Ok(())
    }

    fn disarm(&mut self, _region: &Region) -> Result<(), TrackerError> {
        self.tracking_lock = None;
        Ok(())
    }

    fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError> {
        self.check_process()?;
        if !self
            .tracking_lock
            .as_ref()
            .is_some_and(|lock| lock.is_of(region))
        {
            return Err(TrackerError::NotArmed { tracker: KIND });
        }
        let len = region.len();
        let pages = pages_of(0..len).end;
        self.declared.remove_range(pages..u64::MAX);
        self.declarations.take_into(&mut self.declared, pages);
        *into |= &self.declared;
        self.pagemap
            .scan(
                Query::Private,
                region.memory(),
                0..len,
                &mut self.runs,
                |range| into.insert_range(pages_of(range)),
            )
            .map_err(|source| TrackerError::Io {
                tracker: KIND,
                operation: "scan page tables",
                source,
            })
    }

    fn dirty_marks(&self) -> &DirtyMarks {
        &self.declarations
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::snapshot::region::{PrivateFilePart, RegionOptions};
    use crate::sys::userfaultfd::open_or_skip;

    #[test]
    fn i13_a_region_has_one_tracker_because_write_tracking_makes_reads_look_private() {
        let Some(tracking) = open_or_skip() else {
            return;
        };
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4 * 4096).expect("extended");
        let part = PrivateFilePart {
            file,
            offset: 0,
            bytes: 4 * 4096,
        };
        let options = RegionOptions::default();
        let region = Region::map_private_files(vec![part], 4 * 4096, options).expect("a region");
        let mut tracker = PrivatePagesTracker::new().expect("a tracker");
        tracker.arm(&region).expect("armed");

        // Arm write tracking without the tracker, as a second tracker would.
        tracking.arm(region.memory(), 0..4 * 4096).expect("armed");
        let mut set = PageSet::new();
        tracker.scan(&region, &mut set).expect("a scan");
        assert!(
            !set.is_empty(),
            "reads are not reported any more: the restriction may be lifted"
        );

        let mut second = PrivatePagesTracker::new().expect("a tracker");
        let taken = second.arm(&region);
        assert!(
            matches!(taken, Err(TrackerError::RegionInUse { .. })),
            "{taken:?}"
        );
        drop(tracker);
        second.arm(&region).expect("the first tracker is dropped");
    }
}
