//! Capturing an instant: copies of pages that are all of one moment.
//!
//! Pre-copy, as in live migration. A page is in one of three places: *changed* (to be copied), *copied* (as it was at some time
//! since its last report), or *untouched*. Scanning moves what was written since the last scan to *changed* and re-arms
//! it, so a page that is written after it was copied is reported by a later scan. The last scan is made while the gate is closed:
//! when what it reports is copied too, every copy is as it is in memory at that moment (hazard 6: the kernel copies).

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

    fn copy(&self, pages: &PageSet, buffer: &mut PageBuffer) -> Result<(), SnapshotError> {
        let lengths = self.inner.lengths.read();
        let _lengths = lengths.unwrap_or_else(std::sync::PoisonError::into_inner);
        let end = self.inner.len() / PAGE_BYTES as u64;
        for run in pages.runs() {
            let (mut page, end) = (run.start, run.end.min(end));
            while page < end {
                let (pages, room) = buffer.room(page, end - page);
                self.inner.copy_out(page * PAGE_BYTES as u64, room)?;
                page += pages;
            }
        }
        Ok(())
    }

    fn write_live(&self, pages: &PageSet, write: Write<'_>) -> Result<(), SnapshotError> {
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
