//! Write protection that the kernel lifts by itself.

use std::io;
use std::ops::Range;

use super::dirty_marks::{Declarations, pages_of};
use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::{Region, TrackingLock};
use crate::sys::pagemap::{PageRegion, Pagemap, Query};
use crate::sys::userfaultfd::WriteTracking;

const KIND: TrackerKind = TrackerKind::WpAsync;

/// Runs of pages that one call of the kernel may give: 192 KiB.
const RUNS: usize = 8192;

/// Tracks stores by userfaultfd's asynchronous write protection (Linux 6.7), scanned and armed again in one call.
///
/// Each first store to a page since the last scan costs a fault, which the kernel handles: about 1 us, and no thread waits.
/// It works for ordinary users. Stores of the kernel on our behalf (`read(2)` into the region) are seen.
///
/// # What it does not see (hazard 14)
///
/// - stores through another mapping of the same memory: by other processes, by a child after a fork, by another mapping in
///   this process;
/// - writes to the file or memfd by `write` and the like;
/// - reads of io_uring, RDMA and others into buffers registered with the kernel (fixed buffers): these pages stay pinned, and
///   nothing faults. Regions with such buffers need [`Compare`](super::Compare);
/// - discards (hole punching, `MADV_REMOVE`), even through its own mapping: [`DirtyTracker::discarded`] says so.
///
/// [`choose`](super::choose()) refuses it where others may write, unless told that nobody does.
///
/// A part of the region that was mapped anew without [`DirtyTracker::grown`] or [`DirtyTracker::discarded`], or moved by
/// `mremap`, is not watched any more: the next scan fails with [`Lost`](TrackerError::Lost) and reports every page.
#[derive(Debug)]
pub struct WpAsync {
    tracking: WriteTracking,
    pagemap: Pagemap,
    declarations: Declarations,
    runs: Vec<PageRegion>,
    /// Page tables are of one process.
    process: u32,
    tracking_lock: Option<TrackingLock>,
}

impl WpAsync {
    /// Makes one, for any region that only this process writes, through its own mapping.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](TrackerError::Unavailable) where the system does not offer it.
    pub fn new() -> Result<Self, TrackerError> {
        let unavailable = |source| TrackerError::Unavailable {
            tracker: KIND,
            source,
        };
        Ok(Self {
            tracking: WriteTracking::open().map_err(unavailable)?,
            pagemap: Pagemap::open().map_err(unavailable)?,
            declarations: Declarations::default(),
            runs: vec![PageRegion::default(); RUNS],
            process: std::process::id(),
            tracking_lock: None,
        })
    }

    fn check_process(&self) -> Result<(), TrackerError> {
        match std::process::id() {
            here if here == self.process => Ok(()),
            here => Err(TrackerError::OtherProcess {
                tracker: KIND,
                armed_by: self.process,
                here,
            }),
        }
    }

    /// A child has descriptors to its parent's memory: a scan by it would take what the parent has to find.
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
            .map_err(io_error("write-protect a region"))
    }
}

impl DirtyTracker for WpAsync {
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
            let lock = lock.ok_or(TrackerError::Taken { tracker: KIND })?;
            if self.tracking_lock.is_some() {
                // What it watched before ends with the descriptor.
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
            .map_err(io_error("lift the write protection of a region"))?;
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
            // The kernel may have armed pages again that it could not report any more (hazard 1).
            into.insert_range(0..pages);
            TrackerError::Lost {
                tracker: KIND,
                source,
            }
        })
    }

    fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    fn grown(&mut self, region: &Region, old_len: usize) -> Result<(), TrackerError> {
        self.discarded(region, old_len..region.len())
    }

    fn discarded(&mut self, region: &Region, range: Range<usize>) -> Result<(), TrackerError> {
        self.check_armed(region)?;
        // Also where it is watched already: there it changes nothing, and a discarded range may be a new mapping.
        self.protect(region, range.clone())?;
        self.declare(pages_of(range));
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
    fn a_closed_userfaultfd_is_an_error_and_every_page_counts_as_written() {
        let Some(other) = open_or_skip() else { return };
        let mut tracker = WpAsync::new().expect("a tracker");
        let region = Region::anonymous(8 * 4096, RegionOptions::default()).expect("a region");
        tracker.arm(&region).expect("armed");
        let mut set = PageSet::new();
        tracker.scan(&region, &mut set).expect("nothing yet");
        assert!(set.is_empty(), "{set:?}");

        // Closes the old one.
        tracker.tracking = other;
        let lost = tracker.scan(&region, &mut set);
        assert!(matches!(lost, Err(TrackerError::Lost { .. })), "{lost:?}");
        assert_eq!(set.len(), 8);

        tracker.arm(&region).expect("armed anew");
        set.clear();
        region.copy_in(4096, b"x").expect("a page");
        tracker.scan(&region, &mut set).expect("as before");
        assert_eq!(set, PageSet::from_iter([1]));
    }
}
