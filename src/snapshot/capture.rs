//! Capturing an instant: copies of pages that are all of one moment.
//!
//! Pre-copy, as in live migration. A page is in one of three places: *changed* (to be copied), *copied* (as it was at some time
//! since its last report), or *untouched*. Scanning moves what was written since the last scan to *changed* and re-arms
//! it, so a page that is written after it was copied is reported by a later scan. The last scan is made while the gate is closed:
//! when what it reports is copied too, every copy is as it is in memory at that moment (hazard 6: the kernel copies).
//!
//! What is copied while writers run goes to the disk at once; a later copy of the same page takes its place there.
//!
//! A tracker that compares would not see a page that is A at a scan, B when it is copied, and A again at the next scan. So it is
//! told what was copied, goes on from that, and what differs from the scan before counts as reported. That also holds for
//! writers who know no gate: what they do after the last scan is in this checkpoint or in the next, page by page.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::SnapshotError;
use super::format::{HeapName, PAGE_BYTES};
use super::inner::{Closed, Inner};
use super::journal::Position;
use super::options::Strategy;
use super::page_buffer::PageBuffer;
use super::page_set::PageSet;
use super::stale::Stale;

/// So few changed pages are left for the moment when writers stand.
const FEW_PAGES: u64 = 64;
/// So many are copied in about the time that a scan takes: then none is made between.
pub(crate) const SOON_PAGES: u64 = 1024;
const ROUNDS_MAX: u32 = 8;
/// Pages that are copied and written together.
const STEP_PAGES: u64 = 256;
/// More threads wait for each other: the kernel writes one file at a time.
const THREADS_MAX: usize = 4;

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

/// Where pages go that are copied while writers run, from several threads.
pub(crate) trait Sink: Sync {
    /// The region was so long when they were copied.
    fn write(&self, pages: &PageBuffer, payload_bytes: u64) -> Result<(), SnapshotError>;
}

impl Capture<'_> {
    /// What changed before was scanned by the caller.
    pub(crate) fn run(mut self, sink: &dyn Sink) -> Result<Captured, SnapshotError> {
        let mut changed = self.needed();
        let mut rounds = 0;
        if self.inner.options.strategy == Strategy::PreCopy {
            let mut before = u64::MAX;
            while changed.len() > FEW_PAGES && changed.len() < before && rounds < ROUNDS_MAX {
                rounds += 1;
                before = changed.len();
                self.write_live(&changed, sink)?;
                changed = match before > SOON_PAGES {
                    true => self.scan()?,
                    false => PageSet::default(),
                };
            }
        }
        let mut before = self.inner.len();
        let mut closed = self.inner.close_gate()?;
        changed |= &self.scan()?;
        // Memory that has become much longer meanwhile is not copied while writers stand.
        while self.inner.options.strategy == Strategy::PreCopy
            && self.inner.len().saturating_sub(before) > SOON_PAGES * PAGE_BYTES as u64
            && rounds < 2 * ROUNDS_MAX
        {
            rounds += 1;
            drop(closed);
            self.write_live(&changed, sink)?;
            before = self.inner.len();
            closed = self.inner.close_gate()?;
            changed = self.scan()?;
        }
        self.finish(closed, &changed, rounds)
    }

    /// Without a look before: for so few pages, which are copied as soon as found. `None` if they are more.
    pub(crate) fn at_once(mut self) -> Result<Option<Captured>, SnapshotError> {
        let closed = self.inner.close_gate()?;
        self.scan()?;
        let changed = self.needed();
        if changed.len() > SOON_PAGES {
            return Ok(None);
        }
        self.finish(closed, &changed, 0).map(Some)
    }

    /// The rest, while writers stand.
    fn finish(
        self,
        closed: Closed<'_>,
        changed: &PageSet,
        rounds: u32,
    ) -> Result<Captured, SnapshotError> {
        let mut buffer = PageBuffer::default();
        let reported = Mutex::default();
        let copied = self.copy(changed.runs().collect(), &mut buffer, &reported);
        self.stale.add(
            &reported
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let payload_bytes = copied?;
        let position = match self.into {
            Some(_) => self.inner.journal.roll(self.inner.generation())?,
            None => self.inner.journal.position(),
        };
        let pause = closed.open();
        self.inner.check_memory()?;
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
        self.stale.scan(self.inner)
    }

    /// All that this checkpoint must contain.
    fn needed(&self) -> PageSet {
        let pages = self.inner.len() / PAGE_BYTES as u64;
        match self.into {
            Some(heap) => bridged(&self.stale.of(heap, pages), pages),
            None => self.stale.since_checkpoint().clone(),
        }
    }

    /// Copies pages out of the region, those of them that it has, and tells how long it is. What the tracker reports by that
    /// is added to `reported`.
    fn copy(
        &self,
        mut runs: Vec<Range<u64>>,
        buffer: &mut PageBuffer,
        reported: &Mutex<PageSet>,
    ) -> Result<u64, SnapshotError> {
        let lengths = self.inner.lengths.read();
        let lengths = lengths.unwrap_or_else(PoisonError::into_inner);
        let payload_bytes = self.inner.len();
        let end = payload_bytes / PAGE_BYTES as u64;
        runs.retain_mut(|run| {
            run.end = run.end.min(end);
            run.start < run.end
        });
        let page = |page: u64| page as usize * PAGE_BYTES;
        // Lossless: within the region.
        let ranges: Vec<_> = runs
            .iter()
            .map(|run| page(run.start)..page(run.end))
            .collect();
        self.inner.gather(&ranges, buffer.hold(runs))?;
        // Who changes the length holds the tracker already.
        drop(lengths);
        let mut tracking = self.inner.tracking();
        if tracking.follows_copies() {
            let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
            for (first, bytes) in buffer.runs() {
                tracking.copied(first, bytes, &mut reported);
            }
        }
        Ok(payload_bytes)
    }

    fn write_live(&mut self, pages: &PageSet, sink: &dyn Sink) -> Result<(), SnapshotError> {
        let reported = Mutex::default();
        let written = self.write_steps(pages, sink, &reported);
        let reported = reported
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        self.stale.add(&reported);
        written
    }

    /// Copies and writes in steps, with as many threads as are of use.
    fn write_steps(
        &self,
        pages: &PageSet,
        sink: &dyn Sink,
        reported: &Mutex<PageSet>,
    ) -> Result<(), SnapshotError> {
        let steps = Mutex::new(Steps::new(pages.runs()));
        let next = || {
            let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
            steps.next()
        };
        let work = || {
            let mut buffer = PageBuffer::default();
            while let Some(runs) = next() {
                let payload_bytes = self.copy(runs, &mut buffer, reported)?;
                if !buffer.is_empty() {
                    sink.write(&buffer, payload_bytes)?;
                }
            }
            Ok(())
        };
        if pages.len() <= SOON_PAGES {
            return work();
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let mut helpers = Vec::new();
            for _ in 1..processors.min(THREADS_MAX) {
                let thread = std::thread::Builder::new().name("flatspan copies".to_owned());
                // Without it the work takes longer.
                helpers.extend(thread.spawn_scoped(scope, work));
            }
            let done = work();
            helpers.into_iter().fold(done, |done, helper| {
                let theirs = helper
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done.and(theirs)
            })
        })
    }
}

/// Runs of pages, cut and put together to steps of [`STEP_PAGES`].
struct Steps<I> {
    runs: I,
    rest: Range<u64>,
}

impl<I: Iterator<Item = Range<u64>>> Steps<I> {
    fn new(runs: I) -> Self {
        Self { runs, rest: 0..0 }
    }
}

impl<I: Iterator<Item = Range<u64>>> Iterator for Steps<I> {
    type Item = Vec<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut step = Vec::new();
        let mut room = STEP_PAGES;
        while room > 0 {
            if self.rest.is_empty() {
                match self.runs.next() {
                    Some(run) => self.rest = run,
                    None => break,
                }
            }
            let end = self.rest.end.min(self.rest.start + room);
            room -= end - self.rest.start;
            step.push(self.rest.start..end);
            self.rest.start = end;
        }
        (!step.is_empty()).then_some(step)
    }
}

/// With the short gaps between pages, where so much is to be written that writing through them costs less than going round
/// them.
fn bridged(pages: &PageSet, all: u64) -> PageSet {
    const GAP_PAGES: u64 = 8;
    if pages.len() < all / 16 {
        return pages.clone();
    }
    let mut with_gaps = PageSet::default();
    let mut end = 0;
    for run in pages.runs() {
        let from = if run.start - end <= GAP_PAGES && end > 0 {
            end
        } else {
            run.start
        };
        with_gaps.insert_range(from..run.end);
        end = run.end;
    }
    with_gaps
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

    /// More than are copied without a scan between.
    const PAGES: usize = 3000;
    /// Of a region in which a few pages are so much that gaps are written through.
    const FEW: usize = 200;

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

    fn opened(path: &Path, pages: usize) -> Inner {
        let options = StoreOptions::default()
            .changes(Changes::Writers)
            .reserve_bytes(64 << 20)
            .initial_bytes(pages as u64 * 4096);
        open::in_directory(path, options).expect("a store").0
    }

    fn byte_of(inner: &Inner, page: usize) -> u8 {
        let mut byte = [0];
        let at = page * 4096;
        inner.region.copy_out(at, &mut byte).expect("within");
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
            let inner = opened(&path, PAGES);
            let bytes = meddle(&inner, 5);
            (0..PAGES).for_each(|page| put(&inner.region, page, 1 + (page % 200) as u8));
            inner.checkpoint(Some(kind)).expect("one before");
            (0..2000).for_each(|page| put(&inner.region, page, 50 + (page % 200) as u8));
            // A scan for the choice, a copy of more than a few pages, and a scan again.
            let scans = [[77, 88], [77, 77]];
            bytes.lock().expect("a lock").extend(scans);
            inner.checkpoint(Some(kind)).expect("one");
            assert!(bytes.lock().expect("a lock").is_empty());
            assert_eq!(byte_of(&inner, 5), 77);
            drop(inner);
            assert_eq!(byte_of(&opened(&path, PAGES), 5), 77, "{kind:?}");
        }
    }

    #[test]
    fn a_page_of_a_gap_that_others_write_meanwhile_is_in_this_checkpoint_or_in_the_next() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("store");
        let inner = opened(&path, FEW);
        let bytes = meddle(&inner, 5);
        (0..FEW).for_each(|page| put(&inner.region, page, 1 + (page % 200) as u8));
        for page in [3, 7] {
            inner.checkpoint(Some(CheckpointKind::Base)).expect("both");
            put(&inner.region, page, 99);
        }
        inner.checkpoint(Some(CheckpointKind::Base)).expect("both");
        // 5 lies between what changed, which is so little that it is copied behind the last scan.
        (0..40)
            .step_by(2)
            .for_each(|page| put(&inner.region, page, 33));
        bytes.lock().expect("a lock").extend([[6, 6], [6, 66]]);
        for _ in 0..2 {
            let made = inner.checkpoint(Some(CheckpointKind::Base));
            made.expect("no page is taken for one that rotted");
        }
        drop(inner);
        assert_eq!(byte_of(&opened(&path, FEW), 5), 66);
    }
}
