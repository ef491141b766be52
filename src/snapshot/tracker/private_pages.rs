//! The pages that a restored region has of its own.

use super::dirty_marks::{Declarations, pages_of};
use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::{Region, RegionKind, TrackingLock};
use crate::sys::pagemap::{PageRegion, Pagemap, Query};

const KIND: TrackerKind = TrackerKind::PrivatePages;

/// Runs of pages that one call of the kernel may give: 192 KiB.
const RUNS: usize = 8192;

/// Finds the pages of a restored region that are not those of the file beneath, from the page tables: present or swapped,
/// and not of a file. It needs no privilege and costs stores nothing but the copy that the kernel makes anyway.
///
/// It is *cumulative* ([`DirtyTracker::is_cumulative`]): a page stays private after it was persisted, so each scan reports
/// all that changed since the region was made or [given back](Region::give_back) pages. Pages that were declared are
/// reported until it is armed again: a discarded page need not be present.
///
/// In pages behind the files, a read alone makes a page present: more may be reported than was written, never less.
#[derive(Debug)]
pub struct PrivatePages {
    pagemap: Pagemap,
    declarations: Declarations,
    /// All that were declared since it was armed.
    declared: PageSet,
    runs: Vec<PageRegion>,
    process: u32,
    tracking_lock: Option<TrackingLock>,
}

impl PrivatePages {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](TrackerError::Unavailable) where page tables may not be read.
    pub fn new() -> Result<Self, TrackerError> {
        let pagemap = Pagemap::open().map_err(|source| TrackerError::Unavailable {
            tracker: KIND,
            source,
        })?;
        Ok(Self {
            pagemap,
            declarations: Declarations::default(),
            declared: PageSet::new(),
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
}

impl DirtyTracker for PrivatePages {
    fn kind(&self) -> TrackerKind {
        KIND
    }

    fn is_cumulative(&self) -> bool {
        true
    }

    /// Forgets what was declared; pages that are private already are reported all the same.
    fn arm(&mut self, region: &Region) -> Result<(), TrackerError> {
        self.check_process()?;
        if region.kind() != RegionKind::Restored {
            return Err(TrackerError::Refused {
                tracker: KIND,
                reason: "only a restored region has private pages beside those of files",
            });
        }
        if !self
            .tracking_lock
            .as_ref()
            .is_some_and(|lock| lock.is_of(region))
        {
            let lock = region.lock_tracking();
            self.tracking_lock = Some(lock.ok_or(TrackerError::Taken { tracker: KIND })?);
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

    fn declarations(&self) -> &Declarations {
        &self.declarations
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::snapshot::region::{RegionOptions, RestoredPart};
    use crate::sys::userfaultfd::open_or_skip;

    #[test]
    fn h13_reads_count_as_changes_where_writes_are_tracked_so_a_region_has_one_tracker() {
        let Some(tracking) = open_or_skip() else {
            return;
        };
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4 * 4096).expect("longer");
        let part = RestoredPart {
            file,
            offset: 0,
            bytes: 4 * 4096,
        };
        let options = RegionOptions::default();
        let region = Region::restored(vec![part], 4 * 4096, options).expect("a region");
        let mut tracker = PrivatePages::new().expect("a tracker");
        tracker.arm(&region).expect("armed");

        // Behind its back, as two trackers would do.
        tracking.arm(region.memory(), 0..4 * 4096).expect("armed");
        let mut set = PageSet::new();
        tracker.scan(&region, &mut set).expect("a scan");
        assert!(
            !set.is_empty(),
            "the blind spot is gone: nothing was stored"
        );

        let mut second = PrivatePages::new().expect("a tracker");
        let taken = second.arm(&region);
        assert!(
            matches!(taken, Err(TrackerError::Taken { .. })),
            "{taken:?}"
        );
        drop(tracker);
        second.arm(&region).expect("the first is gone");
    }
}
