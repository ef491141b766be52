//! Dirty tracker of the region of a store.

use std::collections::HashMap;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;

/// Dirty tracker, or none if every change is marked explicitly.
#[derive(Debug)]
pub(crate) struct RegionTracker {
    tracker: Option<Box<dyn DirtyTracker>>,
    /// Hashes of the pages that a cumulative tracker has reported.
    reported: HashMap<u64, u128>,
}

impl RegionTracker {
    pub(crate) fn new(tracker: Option<Box<dyn DirtyTracker>>) -> Self {
        Self {
            tracker,
            reported: HashMap::new(),
        }
    }

    pub(crate) fn kind(&self) -> TrackerKind {
        let tracker = self.tracker.as_ref();
        tracker.map_or(TrackerKind::Explicit, |tracker| tracker.kind())
    }

    /// Adds the pages that changed since the last scan to `changed`.
    pub(crate) fn scan(
        &mut self,
        region: &Region,
        changed: &mut PageSet,
    ) -> Result<(), TrackerError> {
        let Some(tracker) = &mut self.tracker else {
            return Ok(());
        };
        if !tracker.is_cumulative() {
            return tracker.scan(region, changed);
        }
        let mut all = PageSet::default();
        tracker.scan(region, &mut all)?;
        let mut page_bytes = [0; PAGE_BYTES];
        for page in all.runs().flatten() {
            // Lossless: within the region.
            region.read_at(page as usize * PAGE_BYTES, &mut page_bytes)?;
            let hash = xxh3_128(&page_bytes);
            if self.reported.insert(page, hash) != Some(hash) {
                changed.insert(page);
            }
        }
        Ok(())
    }

    /// Returns whether the tracker uses the content of [`copied`](Self::copied) pages.
    pub(crate) fn uses_copies(&self) -> bool {
        let tracker = self.tracker.as_ref();
        tracker.is_some_and(|tracker| {
            tracker.kind() == TrackerKind::HashCompare || tracker.is_cumulative()
        })
    }

    /// Records the content of pages that a checkpoint copied: the next scan compares with it. Adds
    /// the pages whose content differs from that of the last scan to `changed`.
    pub(crate) fn copied(&mut self, first_page: u64, bytes: &[u8], changed: &mut PageSet) {
        let Some(tracker) = &mut self.tracker else {
            return;
        };
        tracker.note_copied(first_page, bytes, changed);
        if !tracker.is_cumulative() {
            return;
        }
        for (page, bytes) in (first_page..).zip(bytes.chunks_exact(PAGE_BYTES)) {
            // The next scan reports a page that was never reported.
            let Some(reported) = self.reported.get_mut(&page) else {
                continue;
            };
            let hash = xxh3_128(bytes);
            if std::mem::replace(reported, hash) != hash {
                changed.insert(page);
            }
        }
    }

    /// Notifies the tracker that the region grew.
    pub(crate) fn grown(&mut self, region: &Region, before: usize) -> Result<(), TrackerError> {
        match &mut self.tracker {
            Some(tracker) => tracker.note_grown(region, before),
            None => Ok(()),
        }
    }

    /// Notifies the tracker that a range was set to zeros.
    pub(crate) fn discarded(
        &mut self,
        region: &Region,
        range: Range<usize>,
    ) -> Result<(), TrackerError> {
        match &mut self.tracker {
            Some(tracker) => tracker.note_discarded(region, range),
            None => Ok(()),
        }
    }
}
