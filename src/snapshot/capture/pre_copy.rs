//! Capture by pre-copy, as in live migration.
//!
//! Each page is in one of three states:
//!
//! - *changed*: it must be copied.
//! - *copied*: the copy is not older than the last report of the page.
//! - *unchanged*.
//!
//! A scan moves the pages that were written since the last scan to *changed* and arms the tracker
//! again. A page that is written after it was copied is therefore reported by a later scan. Writers
//! are paused during the last scan. Once the pages of that scan are copied, every copy equals
//! memory at that point in time. The kernel copies the pages [I6].
//!
//! Pages copied while writers run are written at once. A later copy of the same page replaces them.
//!
//! A tracker that compares content could miss a page that is A at a scan, B when it is copied and A
//! again at the next scan. The tracker therefore gets the copied content and compares with that. A
//! page that differed from the scan before counts as reported. This also covers writers without the
//! access lock: each page that they change after the last scan is in this checkpoint or in the
//! next.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::page_buffer::PageBuffer;
use super::page_steps::PageSteps;
use crate::snapshot::error::StoreError;
use crate::snapshot::format::{HeapName, PAGE_BYTES};
use crate::snapshot::heap::StalePages;
use crate::snapshot::journal::Position;
use crate::snapshot::memory::{PausedWriters, StoreMemory};
use crate::snapshot::modes::CaptureMode;
use crate::snapshot::page_set::PageSet;

/// Pre-copy ends when at most this many changed pages remain.
const FINAL_PAGES: u64 = 64;
/// Copying this many pages takes about as long as a scan, so no scan precedes their copy.
pub(crate) const QUICK_PAGES: u64 = 1024;
const ROUNDS_MAX: u32 = 8;
/// More threads would wait for each other: the kernel serializes writes to one file.
const THREADS_MAX: usize = 4;

/// Capture of the pages that a checkpoint needs.
pub(crate) struct Capture<'a> {
    pub(crate) memory: &'a StoreMemory,
    pub(crate) stale: &'a mut StalePages,
    /// Target heap of a base checkpoint, or `None` for a delta checkpoint.
    pub(crate) into: Option<HeapName>,
    pub(crate) strategy: CaptureMode,
}

/// Result of a capture.
#[derive(Debug)]
pub(crate) struct Captured {
    /// Pages that were copied while writers were paused. They are not written yet.
    pub(crate) buffer: PageBuffer,
    pub(crate) payload_bytes: u64,
    pub(crate) position: Position,
    pub(crate) rounds: u32,
    pub(crate) pause: Duration,
}

/// Destination of a capture. Several threads write to it.
pub(crate) trait Sink: Sync {
    /// Writes pages that were copied from a region of `payload_bytes`.
    fn write(&self, pages: &PageBuffer, payload_bytes: u64) -> Result<(), StoreError>;

    /// Returns the end of the journal at the point in time. Called while writers are paused.
    fn position(&self) -> Result<Position, StoreError>;
}

/// Scans for changed pages, and adds them to the stale pages even if the scan fails.
pub(crate) fn scan(memory: &StoreMemory, stale: &mut StalePages) -> Result<PageSet, StoreError> {
    let mut changed = PageSet::default();
    let scanned = memory.scan(&mut changed);
    stale.add(&changed);
    scanned?;
    Ok(changed)
}

impl Capture<'_> {
    /// Captures the pages with as short a pause as possible. The caller has scanned before.
    pub(crate) fn run(mut self, sink: &dyn Sink) -> Result<Captured, StoreError> {
        let mut changed = self.needed();
        let mut rounds = 0;
        if self.strategy == CaptureMode::PreCopy {
            let mut before = u64::MAX;
            while changed.len() > FINAL_PAGES && changed.len() < before && rounds < ROUNDS_MAX {
                rounds += 1;
                before = changed.len();
                self.write_live(&changed, sink)?;
                changed = if before > QUICK_PAGES {
                    self.scan()?
                } else {
                    PageSet::default()
                };
            }
        }
        let mut before = self.memory.len();
        let mut paused = self.memory.pause_writers()?;
        changed |= &self.scan()?;
        // If the memory grew much meanwhile, copy the new pages while writers run.
        while self.strategy == CaptureMode::PreCopy
            && self.memory.len().saturating_sub(before) > QUICK_PAGES * PAGE_BYTES as u64
            && rounds < 2 * ROUNDS_MAX
        {
            rounds += 1;
            drop(paused);
            self.write_live(&changed, sink)?;
            before = self.memory.len();
            paused = self.memory.pause_writers()?;
            changed = self.scan()?;
        }
        self.finish(paused, &changed, rounds, &|| sink.position())
    }

    /// Captures a few pages without a scan before the pause. Returns `None` if there are more than
    /// [`QUICK_PAGES`]. `position` returns the end of the journal.
    pub(crate) fn run_quick(
        mut self,
        position: &dyn Fn() -> Result<Position, StoreError>,
    ) -> Result<Option<Captured>, StoreError> {
        let paused = self.memory.pause_writers()?;
        self.scan()?;
        let changed = self.needed();
        if changed.len() > QUICK_PAGES {
            return Ok(None);
        }
        self.finish(paused, &changed, 0, position).map(Some)
    }

    /// Copies the remaining pages while writers are paused.
    fn finish(
        self,
        paused: PausedWriters<'_>,
        changed: &PageSet,
        rounds: u32,
        position: &dyn Fn() -> Result<Position, StoreError>,
    ) -> Result<Captured, StoreError> {
        let mut buffer = PageBuffer::default();
        let reported = Mutex::default();
        let copied = self.copy(changed.runs().collect(), &mut buffer, &reported);
        self.stale.add(
            &reported
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let payload_bytes = copied?;
        let position = position()?;
        let pause = paused.resume();
        self.memory.check_intact()?;
        Ok(Captured {
            buffer,
            payload_bytes,
            position,
            rounds,
            pause,
        })
    }

    fn scan(&mut self) -> Result<PageSet, StoreError> {
        scan(self.memory, self.stale)
    }

    /// Returns the pages that the checkpoint must contain.
    fn needed(&self) -> PageSet {
        let pages = self.memory.len() / PAGE_BYTES as u64;
        match self.into {
            Some(heap) => with_short_gaps(&self.stale.of(heap, pages), pages),
            None => self.stale.since_checkpoint().clone(),
        }
    }

    /// Copies the pages that the region has, and returns the length of the region. Adds the pages
    /// that the tracker reports for the copies to `reported`.
    fn copy(
        &self,
        mut runs: Vec<Range<u64>>,
        buffer: &mut PageBuffer,
        reported: &Mutex<PageSet>,
    ) -> Result<u64, StoreError> {
        let lengths = self.memory.keep_len();
        let payload_bytes = self.memory.len();
        let end = payload_bytes / PAGE_BYTES as u64;
        runs.retain_mut(|run| {
            run.end = run.end.min(end);
            run.start < run.end
        });
        // Lossless: within the region.
        let offset = |page: u64| page as usize * PAGE_BYTES;
        let ranges: Vec<_> = runs
            .iter()
            .map(|run| offset(run.start)..offset(run.end))
            .collect();
        self.memory.region.gather(&ranges, buffer.hold(runs))?;
        // A change of the length locks the tracker first, so release the length before the tracker.
        drop(lengths);
        let mut tracker = self.memory.tracker();
        if tracker.uses_copies() {
            let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
            for (first, bytes) in buffer.runs() {
                tracker.copied(first, bytes, &mut reported);
            }
        }
        Ok(payload_bytes)
    }

    fn write_live(&mut self, pages: &PageSet, sink: &dyn Sink) -> Result<(), StoreError> {
        let reported = Mutex::default();
        let written = self.write_steps(pages, sink, &reported);
        let reported = reported
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        self.stale.add(&reported);
        written
    }

    /// Copies and writes pages in steps, on several threads if there are many.
    fn write_steps(
        &self,
        pages: &PageSet,
        sink: &dyn Sink,
        reported: &Mutex<PageSet>,
    ) -> Result<(), StoreError> {
        let steps = Mutex::new(PageSteps::new(pages.runs()));
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
        if pages.len() <= QUICK_PAGES {
            return work();
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let mut helpers = Vec::new();
            for _ in 1..processors.min(THREADS_MAX) {
                let thread = std::thread::Builder::new().name("flatspan copies".to_owned());
                // If a thread cannot start, the others do its work.
                helpers.extend(thread.spawn_scoped(scope, work));
            }
            let done = work();
            helpers.into_iter().fold(done, |done, helper| {
                let result = helper
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done.and(result)
            })
        })
    }
}

/// Adds the short gaps between many pages, where one write through a gap is faster than two writes.
fn with_short_gaps(pages: &PageSet, all: u64) -> PageSet {
    const GAP_PAGES: u64 = 8;
    if pages.len() < all / 16 {
        return pages.clone();
    }
    let mut with_gaps = PageSet::default();
    let mut end = 0;
    for run in pages.runs() {
        let is_short = run.start - end <= GAP_PAGES && end > 0;
        let start = if is_short { end } else { run.start };
        with_gaps.insert_range(start..run.end);
        end = run.end;
    }
    with_gaps
}
