//! Tracker by asynchronous write protection, which the kernel lifts at the first store.

use std::io;
use std::ops::Range;

use super::dirty_marks::{DirtyMarks, pages_of};
use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::{Region, TrackingLock};
use crate::sys::pagemap::{PageRegion, Pagemap, Query};
use crate::sys::userfaultfd::WriteTracking;

const KIND: TrackerKind = TrackerKind::WpAsync;

/// Page ranges that one `PAGEMAP_SCAN` call can return: 192 KiB.
const RUNS: usize = 8192;

/// Tracker by asynchronous write protection of `userfaultfd(2)` (Linux 6.7). One system call scans
/// and arms again.
///
/// The first store to a page after a scan causes a fault of about 1 us, which the kernel handles
/// without waking a thread. The tracker needs no privilege. It finds stores that the kernel makes
/// for this process, such as by `read(2)` into the region.
///
/// # Blind spots
///
/// The tracker does not find:
///
/// - Stores through another mapping of the same memory: by another process, by a child after a
///   fork, or by this process.
/// - Writes to the file or memfd by `write(2)` and similar calls.
/// - Reads of `io_uring`, RDMA and devices into registered buffers. Their pages stay pinned and
///   cause no fault. Use [`HashCompareTracker`](super::HashCompareTracker) for such regions.
/// - Discarded ranges (hole punching, `MADV_REMOVE`), even through the same mapping. Report them by
///   [`DirtyTracker::note_discarded`].
///
/// [`select_tracker`](super::select_tracker()) rejects it for memory that other processes can
/// write, unless the caller guarantees that none does.
///
/// Part of the region that was mapped again without a report, or moved by `mremap(2)`, is not
/// tracked any more. The next scan reports every page and fails with [`TrackerError::Lost`].
///
/// # Examples
///
/// ```no_run
/// use flatspan::snapshot::{DirtyTracker as _, PageSet, Region, RegionOptions, WpAsyncTracker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = Region::new_anonymous(8 * 4096, RegionOptions::default())?;
/// let mut tracker = WpAsyncTracker::new()?;
/// tracker.arm(&region)?;
/// region.write_at(4096, b"changed")?;
/// let mut dirty = PageSet::new();
/// tracker.scan(&region, &mut dirty)?;
/// assert_eq!(dirty, PageSet::from_iter([1]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WpAsyncTracker {
    tracking: WriteTracking,
    pagemap: Pagemap,
    declarations: DirtyMarks,
    runs: Vec<PageRegion>,
    /// The page tables that the descriptors refer to belong to this process.
    process: u32,
    tracking_lock: Option<TrackingLock>,
}

impl WpAsyncTracker {
    /// Creates a tracker that is not armed.
    ///
    /// # Errors
    ///
    /// - [`TrackerError::Unavailable`] if the kernel does not offer the facility.
    pub fn new() -> Result<Self, TrackerError> {
        let unavailable = |source| TrackerError::Unavailable {
            tracker: KIND,
            source,
        };
        Ok(Self {
            tracking: WriteTracking::open().map_err(unavailable)?,
            pagemap: Pagemap::open().map_err(unavailable)?,
            declarations: DirtyMarks::default(),
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

    /// Fails if the tracker is not armed with this region, or in a child of the process that armed
    /// it. The descriptors of a child are for the memory of its parent: its scan would consume
    /// changes that the parent must find.
    fn check_armed(&self, region: &Region) -> Result<(), TrackerError> {
        self.check_process()?;
        match &self.tracking_lock {
            Some(lock) if lock.is_of(region) => Ok(()),
            _ => Err(TrackerError::NotArmed { tracker: KIND }),
        }
    }

    fn protect(&self, region: &Region, range: Range<usize>) -> Result<(), TrackerError> {
        self.tracking
            .arm(region.memory(), range)
            .map_err(io_error("write-protect the region"))
    }
}

impl DirtyTracker for WpAsyncTracker {
    fn kind(&self) -> TrackerKind {
        KIND
    }

    fn arm(&mut self, region: &Region) -> Result<(), TrackerError> {
        self.check_process()?;
        if !self
            .tracking_lock
            .as_ref()
            .is_some_and(|lock| lock.is_of(region))
        {
            let lock = region.lock_tracking();
            let lock = lock.ok_or(TrackerError::RegionInUse { tracker: KIND })?;
            if self.tracking_lock.is_some() {
                // Closing the descriptor ends the tracking of the previous region.
                self.tracking = Self::new()?.tracking;
            }
            self.tracking_lock = Some(lock);
        }
        self.protect(region, 0..region.len())?;
        self.declarations.take_into(&mut PageSet::new(), 0);
        Ok(())
    }

    fn disarm(&mut self, region: &Region) -> Result<(), TrackerError> {
        self.check_armed(region)?;
        self.tracking
            .disarm(region.memory(), 0..region.len())
            .map_err(io_error("remove the write protection of the region"))?;
        self.tracking_lock = None;
        Ok(())
    }

    fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError> {
        self.check_armed(region)?;
        let len = region.len();
        let found = |range: Range<usize>| into.insert_range(pages_of(range));
        let scanned = self.pagemap.scan(
            Query::TakeWritten,
            region.memory(),
            0..len,
            &mut self.runs,
            found,
        );
        let pages = pages_of(0..len).end;
        self.declarations.take_into(into, pages);
        scanned.map_err(|source| {
            // The kernel may have armed pages that it could not report [I1].
            into.insert_range(0..pages);
            TrackerError::Lost {
                tracker: KIND,
                source,
            }
        })
    }

    fn dirty_marks(&self) -> &DirtyMarks {
        &self.declarations
    }

    fn note_grown(&mut self, region: &Region, old_len: usize) -> Result<(), TrackerError> {
        self.note_discarded(region, old_len..region.len())
    }

    fn note_discarded(&mut self, region: &Region, range: Range<usize>) -> Result<(), TrackerError> {
        self.check_armed(region)?;
        // A discarded range may be a new mapping. Protecting a protected range has no effect.
        self.protect(region, range.clone())?;
        self.mark_dirty(pages_of(range));
        Ok(())
    }
}

fn io_error(operation: &'static str) -> impl Fn(io::Error) -> TrackerError {
    move |source| TrackerError::Io {
        tracker: KIND,
        operation,
        source,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::snapshot::region::RegionOptions;
    use crate::sys::userfaultfd::open_or_skip;

    #[test]
    fn closed_userfaultfd_is_an_error_and_reports_every_page() {
        let Some(other) = open_or_skip() else { return };
        let mut tracker = WpAsyncTracker::new().expect("a tracker");
        let region = Region::new_anonymous(8 * 4096, RegionOptions::default()).expect("a region");
        tracker.arm(&region).expect("armed");
        let mut set = PageSet::new();
        tracker
            .scan(&region, &mut set)
            .expect("a scan without changes");
        assert!(set.is_empty(), "{set:?}");

        // Assigning the field closes the previous descriptor.
        tracker.tracking = other;
        let lost = tracker.scan(&region, &mut set);
        assert!(matches!(lost, Err(TrackerError::Lost { .. })), "{lost:?}");
        assert_eq!(set.len(), 8);

        tracker.arm(&region).expect("armed again");
        set.clear();
        region.write_at(4096, b"x").expect("written");
        tracker.scan(&region, &mut set).expect("a scan as before");
        assert_eq!(set, PageSet::from_iter([1]));
    }
}
