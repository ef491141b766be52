//! Capturing an instant: copies of pages that are all of one moment.
//!
//! Pre-copy, as in live migration. A page is in one of three places: *changed* (to be copied), *copied* (as it was at some time
//! since its last report), or *untouched*. Scanning moves what was written since the last scan to *changed* and re-arms
//! it, so a page that is written after it was copied is reported by a later scan. The last scan is made while the gate is closed:
//! when what it reports is copied too, every copy is as it is in memory at that moment (hazard 6: the kernel copies).
//!
//! A tracker that compares would not see a page that is A at a scan, B when it is copied, and A again at the next scan. So it is
//! told what was copied, goes on from that, and what differs from the scan before counts as reported. That also holds for
//! writers who know no gate: what they do after the last scan is in this checkpoint or in the next, page by page.

use std::time::{Duration, Instant};

use super::error::SnapshotError;
use super::format::{HeapName, PAGE_BYTES};
use super::inner::Inner;
use super::journal::Position;
use super::options::Strategy;
use super::page_buffer::PageBuffer;
use super::page_set::PageSet;
use super::stale::Stale;

/// So many pages are held in memory; what is more goes to the disk while writers run.
const BUFFER_PAGES: u64 = 32 << 10;
/// So few changed pages are left for the moment when writers stand.
const FEW_PAGES: u64 = 64;
const ROUNDS_MAX: u32 = 8;

pub(crate) struct Capture<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) stale: &'a mut Stale,
    /// The heap that a base goes to; `None` for a delta.
    pub(crate) into: Option<HeapName>,
}

/// An instant.
#[derive(Debug)]
pub(crate) struct Captured {
    /// What was not written while writers ran.
    pub(crate) buffer: PageBuffer,
    pub(crate) payload_bytes: u64,
    pub(crate) position: Position,
    pub(crate) rounds: u32,
    pub(crate) pause: Duration,
}

type Write<'w> = &'w mut dyn FnMut(&PageBuffer) -> Result<(), SnapshotError>;

impl Capture<'_> {
    pub(crate) fn run(mut self, write: Write<'_>) -> Result<Captured, SnapshotError> {
        self.scan()?;
        let mut changed = self.needed();
        let mut buffer = PageBuffer::default();
        let mut rounds = 0;
        if self.inner.options.strategy == Strategy::PreCopy {
            // For a delta nothing is written early: its records follow each other.
            while self.into.is_some() && changed.len() > BUFFER_PAGES && rounds < ROUNDS_MAX {
                rounds += 1;
                self.write_live(&changed, write)?;
                changed = self.scan()?;
            }
            let mut before = u64::MAX;
            while changed.len() > FEW_PAGES && changed.len() < before && rounds < ROUNDS_MAX {
                rounds += 1;
                before = changed.len();
                self.copy(&changed, &mut buffer)?;
                changed = self.scan()?;
            }
        }
        self.last_round(changed, buffer, rounds)
    }

    /// While writers stand.
    fn last_round(
        mut self,
        mut changed: PageSet,
        mut buffer: PageBuffer,
        rounds: u32,
    ) -> Result<Captured, SnapshotError> {
        let closed = self.inner.close_gate()?;
        let begun = Instant::now();
        changed |= &self.scan()?;
        self.copy(&changed, &mut buffer)?;
        let payload_bytes = self.inner.len();
        let position = match self.into {
            Some(_) => self.inner.journal.roll(self.inner.generation())?,
            None => self.inner.journal.position(),
        };
        let pause = begun.elapsed();
        drop(closed);
        self.inner.check_memory()?;
        buffer.truncate(payload_bytes / PAGE_BYTES as u64);
        Ok(Captured {
            buffer,
            payload_bytes,
            position,
            rounds,
            pause,
        })
    }

    /// What memory changed since the last scan; noted wherever it must be.
    fn scan(&mut self) -> Result<PageSet, SnapshotError> {
        let mut changed = PageSet::default();
        let scanned = self.inner.scan(&mut changed);
        self.stale.add(&changed);
        scanned?;
        Ok(changed)
    }

    /// All that this checkpoint must contain.
    fn needed(&self) -> PageSet {
        let pages = self.inner.len() / PAGE_BYTES as u64;
        match self.into {
            Some(heap) => bridged(&self.stale.of(heap, pages)),
            None => self.stale.since_checkpoint().clone(),
        }
    }

    fn copy(&mut self, pages: &PageSet, buffer: &mut PageBuffer) -> Result<(), SnapshotError> {
        let lengths = self.inner.lengths.read();
        let _lengths = lengths.unwrap_or_else(std::sync::PoisonError::into_inner);
        let end = self.inner.len() / PAGE_BYTES as u64;
        for run in pages.runs() {
            let (mut page, end) = (run.start, run.end.min(end));
            while page < end {
                let (pages, room) = buffer.room(page, end - page);
                self.inner.copy_out(page * PAGE_BYTES as u64, room)?;
                let mut changed = PageSet::default();
                self.inner.tracking().copied(page, room, &mut changed);
                self.stale.add(&changed);
                page += pages;
            }
        }
        Ok(())
    }

    fn write_live(&mut self, pages: &PageSet, write: Write<'_>) -> Result<(), SnapshotError> {
        const STEP_PAGES: u64 = 256;
        let end = self.inner.len() / PAGE_BYTES as u64;
        let mut step = PageSet::default();
        let mut buffer = PageBuffer::default();
        let mut flush = |step: &mut PageSet| {
            buffer.clear();
            self.copy(step, &mut buffer)?;
            step.clear();
            write(&buffer)
        };
        for run in pages.runs() {
            let (mut page, end) = (run.start, run.end.min(end));
            while page < end {
                let stop = end.min(page + STEP_PAGES);
                step.insert_range(page..stop);
                page = stop;
                if step.len() >= STEP_PAGES {
                    flush(&mut step)?;
                }
            }
        }
        flush(&mut step)
    }
}

/// With the short gaps between pages: writing through them costs less than going round them.
fn bridged(pages: &PageSet) -> PageSet {
    const GAP_PAGES: u64 = 8;
    let mut all = PageSet::default();
    let mut end = 0;
    for run in pages.runs() {
        let from = if run.start - end <= GAP_PAGES && end > 0 {
            end
        } else {
            run.start
        };
        all.insert_range(from..run.end);
        end = run.end;
    }
    all
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use crate::snapshot::inner::Inner;
    use crate::snapshot::open;
    use crate::snapshot::options::{Changes, StoreOptions};
    use crate::snapshot::page_set::PageSet;
    use crate::snapshot::region::Region;
    use crate::snapshot::report::CheckpointKind;
    use crate::snapshot::tracker::{
        Compare, Declarations, DirtyTracker, TrackerError, TrackerKind,
    };
    use crate::snapshot::tracking::Tracking;

    const PAGES: usize = 200;

    /// Writes to a page before and after each scan.
    #[derive(Debug)]
    struct Meddling {
        tracker: Compare,
        page: usize,
        /// For each scan.
        bytes: Queue,
    }

    type Queue = Arc<Mutex<VecDeque<[u8; 2]>>>;

    fn put(region: &Region, page: usize, byte: u8) {
        region.copy_in(page * 4096, &[byte; 4096]).expect("written");
    }

    impl DirtyTracker for Meddling {
        fn kind(&self) -> TrackerKind {
            TrackerKind::Compare
        }
        fn arm(&mut self, region: &Region) -> Result<(), TrackerError> {
            self.tracker.arm(region)
        }
        fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError> {
            let bytes = self.bytes.lock().expect("a lock").pop_front();
            let Some([before, after]) = bytes else {
                return self.tracker.scan(region, into);
            };
            put(region, self.page, before);
            self.tracker.scan(region, into)?;
            put(region, self.page, after);
            Ok(())
        }
        fn copied(&mut self, first_page: u64, bytes: &[u8], into: &mut PageSet) {
            self.tracker.copied(first_page, bytes, into);
        }
        fn declarations(&self) -> &Declarations {
            self.tracker.declarations()
        }
    }

    fn opened(path: &Path) -> Inner {
        let options = StoreOptions::default()
            .changes(Changes::Writers)
            .reserve_bytes(4 << 20)
            .initial_bytes(PAGES as u64 * 4096);
        open::in_directory(path, options).expect("a store").0
    }

    fn byte_of(inner: &Inner, page: usize) -> u8 {
        let mut byte = [0];
        inner
            .copy_out(page as u64 * 4096, &mut byte)
            .expect("within");
        byte[0]
    }

    /// What is put into the queue is written to the page at the next scans.
    fn meddle(inner: &Inner, page: usize) -> Queue {
        let bytes = Queue::default();
        let mut tracker = Meddling {
            tracker: Compare::new(),
            page,
            bytes: Arc::clone(&bytes),
        };
        tracker.arm(&inner.region).expect("armed");
        *inner.tracking() = Tracking::new(Some(Box::new(tracker)));
        bytes
    }

    #[test]
    fn a_page_that_differed_for_as_long_as_it_was_copied_comes_back_as_it_was_at_the_instant() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("store");
        for kind in [CheckpointKind::Delta, CheckpointKind::Base] {
            let inner = opened(&path);
            let bytes = meddle(&inner, 5);
            (0..PAGES).for_each(|page| put(&inner.region, page, 1 + page as u8));
            inner.checkpoint(Some(kind)).expect("one before");
            (0..100).for_each(|page| put(&inner.region, page, 50 + page as u8));
            // A scan for the choice, one that begins the capture, a copy of more than a few pages, and a scan again.
            let scans = [[77, 77], [77, 88], [77, 77]];
            bytes.lock().expect("a lock").extend(scans);
            inner.checkpoint(Some(kind)).expect("one");
            assert!(bytes.lock().expect("a lock").is_empty());
            assert_eq!(byte_of(&inner, 5), 77);
            drop(inner);
            assert_eq!(byte_of(&opened(&path), 5), 77, "{kind:?}");
        }
    }

    #[test]
    fn a_page_of_a_gap_that_others_write_meanwhile_is_in_this_checkpoint_or_in_the_next() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("store");
        let inner = opened(&path);
        let bytes = meddle(&inner, 5);
        (0..PAGES).for_each(|page| put(&inner.region, page, 1 + page as u8));
        for page in [3, 7] {
            inner.checkpoint(Some(CheckpointKind::Base)).expect("both");
            put(&inner.region, page, 99);
        }
        inner.checkpoint(Some(CheckpointKind::Base)).expect("both");
        // 5 lies between what changed; it is written behind the last scan.
        [4, 6]
            .into_iter()
            .for_each(|page| put(&inner.region, page, 33));
        bytes
            .lock()
            .expect("a lock")
            .extend([[6, 6], [6, 6], [6, 66]]);
        for _ in 0..2 {
            let made = inner.checkpoint(Some(CheckpointKind::Base));
            made.expect("no page is taken for one that rotted");
        }
        drop(inner);
        assert_eq!(byte_of(&opened(&path), 5), 66);
    }
}
