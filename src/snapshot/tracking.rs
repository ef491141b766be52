//! The tracker of a store's region, if it needs one.

use std::collections::HashMap;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

use super::error::SnapshotError;
use super::format::PAGE_BYTES;
use super::page_set::PageSet;
use super::region::Region;
use super::tracker::{DirtyTracker, TrackerKind};

/// A tracker, or none where every change is declared.
#[derive(Debug)]
pub(crate) struct Tracking {
    tracker: Option<Box<dyn DirtyTracker>>,
    /// The pages that a cumulative tracker has reported, as they were then.
    seen: HashMap<u64, u128>,
}

impl Tracking {
    pub(crate) fn new(tracker: Option<Box<dyn DirtyTracker>>) -> Self {
        Self {
            tracker,
            seen: HashMap::new(),
        }
    }

    pub(crate) fn kind(&self) -> TrackerKind {
        let tracker = self.tracker.as_ref();
        tracker.map_or(TrackerKind::Declared, |tracker| tracker.kind())
    }

    pub(crate) fn scan(
        &mut self,
        region: &Region,
        changed: &mut PageSet,
    ) -> Result<(), SnapshotError> {
        let Some(tracker) = &mut self.tracker else {
            return Ok(());
        };
        if !tracker.is_cumulative() {
            return Ok(tracker.scan(region, changed)?);
        }
        let mut all = PageSet::default();
        tracker.scan(region, &mut all)?;
        let mut page_bytes = [0; PAGE_BYTES];
        for page in all.runs().flatten() {
            // Lossless: within the region.
            region.copy_out(page as usize * PAGE_BYTES, &mut page_bytes)?;
            let hash = xxh3_128(&page_bytes);
            if self.seen.insert(page, hash) != Some(hash) {
                changed.insert(page);
            }
        }
        Ok(())
    }

    /// Does it make a difference to tell what was [`copied`](Self::copied)?
    pub(crate) fn follows_copies(&self) -> bool {
        let tracker = self.tracker.as_ref();
        tracker.is_some_and(|tracker| {
            tracker.kind() == TrackerKind::Compare || tracker.is_cumulative()
        })
    }

    /// A checkpoint has copied pages: what they were when it did is what the next scan goes on from. Those that were
    /// something else at the last scan are added.
    pub(crate) fn copied(&mut self, first_page: u64, bytes: &[u8], changed: &mut PageSet) {
        let Some(tracker) = &mut self.tracker else {
            return;
        };
        tracker.copied(first_page, bytes, changed);
        if !tracker.is_cumulative() {
            return;
        }
        for (page, bytes) in (first_page..).zip(bytes.chunks_exact(PAGE_BYTES)) {
            // One that was never reported is, by the next scan.
            let Some(seen) = self.seen.get_mut(&page) else {
                continue;
            };
            let hash = xxh3_128(bytes);
            if std::mem::replace(seen, hash) != hash {
                changed.insert(page);
            }
        }
    }

    /// The region grew.
    pub(crate) fn grown(&mut self, region: &Region, before: usize) -> Result<(), SnapshotError> {
        match &mut self.tracker {
            Some(tracker) => Ok(tracker.grown(region, before)?),
            None => Ok(()),
        }
    }

    /// A range became zeros.
    pub(crate) fn discarded(
        &mut self,
        region: &Region,
        range: Range<usize>,
    ) -> Result<(), SnapshotError> {
        match &mut self.tracker {
            Some(tracker) => Ok(tracker.discarded(region, range)?),
            None => Ok(()),
        }
    }
}
