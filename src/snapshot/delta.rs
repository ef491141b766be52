//! Delta checkpoints: the pages that changed go to the journal, in order, with one barrier.
//!
//! ```text
//!   record   record   record   last record, sync
//!   '--------- while writers run ---------'  '-- what they changed meanwhile
//! ```
//!
//! A page that is in two of the records counts as the later one has it. Nothing counts before the last record is there: a
//! checkpoint that is given up before leaves the others behind a position that the journal goes on from elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::capture::{Capture, Captured, Sink};
use super::checkpoint::{Checkpointer, Cost};
use super::error::SnapshotError;
use super::format::{Body, Change, PAGE_BYTES, RecordKind, is_zero};
use super::inner::Inner;
use super::options::Durability;
use super::page_buffer::PageBuffer;
use super::report::{CheckpointKind, CheckpointReport};

/// Pages of one record.
const RECORD_PAGES: usize = 256;

impl Checkpointer {
    /// `captured` already, or not yet.
    pub(crate) fn delta(
        &mut self,
        inner: &Inner,
        why: String,
        begun: Instant,
        captured: Option<Captured>,
    ) -> Result<CheckpointReport, SnapshotError> {
        inner.journal.make_ready()?;
        let position = inner.journal.position();
        // A seal that is pending, since a base failed behind it, is not given up with the rest.
        let committed = inner.journal.commit(position.sequence);
        committed.inspect_err(|error| inner.poison(error))?;
        let before = inner.journal.written_bytes();
        let generation = self.take_generation();
        let appended = self.append_delta(inner, generation, captured);
        let (captured, sequence) =
            appended.inspect_err(|_| inner.journal.give_up_from(position))?;
        inner
            .journal
            .commit(sequence)
            .inspect_err(|error| inner.poison(error))?;
        let pages = self.stale.since_checkpoint().len();
        self.stale.journaled();
        self.last_delta_pages = Some(pages);
        self.generation = generation;
        self.journal_payload_bytes = captured.payload_bytes;
        let cost = Cost {
            bytes: inner.journal.written_bytes() - before,
            pages,
            barriers: u32::from(inner.options.durability == Durability::Power),
        };
        Ok(CheckpointReport {
            kind: CheckpointKind::Delta,
            why,
            strategy: inner.options.strategy,
            tracker: inner.tracking().kind(),
            generation,
            sequence,
            pages: cost.pages,
            bytes: cost.bytes,
            rounds: captured.rounds,
            pause: captured.pause,
            barriers: cost.barriers,
            took: begun.elapsed(),
        })
    }

    /// All records of an instant, the last of them marked so. Returns its sequence.
    fn append_delta(
        &mut self,
        inner: &Inner,
        generation: u64,
        captured: Option<Captured>,
    ) -> Result<(Captured, u64), SnapshotError> {
        let records = Records {
            inner,
            generation,
            appending: Mutex::new(()),
        };
        let captured = match captured {
            Some(captured) => captured,
            None => {
                // At once, so that a disk that is full is met before anything is written.
                records.reserve(self.stale.since_checkpoint().len())?;
                let capture = Capture {
                    inner,
                    stale: &mut self.stale,
                    into: None,
                };
                capture.run(&records)?
            }
        };
        let sequence = records.append(&captured.buffer, captured.payload_bytes, true)?;
        Ok((captured, sequence))
    }
}

/// Writes pages to the journal.
struct Records<'a> {
    inner: &'a Inner,
    generation: u64,
    /// From reserving room for a record until it is there: threads would take the same room.
    appending: Mutex<()>,
}

impl Sink for Records<'_> {
    fn write(&self, pages: &PageBuffer, payload_bytes: u64) -> Result<(), SnapshotError> {
        self.append(pages, payload_bytes, false).map(drop)
    }
}

impl Records<'_> {
    /// A little more than is needed: pages of zeros take no room.
    fn reserve(&self, pages: u64) -> Result<(), SnapshotError> {
        let records = pages.div_ceil(RECORD_PAGES as u64).max(1);
        let bytes = pages * (PAGE_BYTES as u64 + 16) + records * 16;
        self.inner.journal.reserve(bytes, records)
    }

    /// `complete`: the last of them makes all count.
    fn append(
        &self,
        pages: &PageBuffer,
        payload_bytes: u64,
        complete: bool,
    ) -> Result<u64, SnapshotError> {
        let journal = &self.inner.journal;
        self.reserve(pages.len() as u64)?;
        let records = pages.len().div_ceil(RECORD_PAGES).max(1);
        let mut pages = pages.pages();
        let mut sequence = 0;
        for record in 1..=records {
            let changes = pages.by_ref().take(RECORD_PAGES).map(|(page, bytes)| {
                let change = match is_zero(bytes) {
                    true => Change::Zeros(PAGE_BYTES as u64),
                    false => Change::Bytes(bytes),
                };
                (page * PAGE_BYTES as u64, change)
            });
            let body = Body {
                payload_bytes,
                changes: changes.collect(),
            };
            let last = complete && record == records;
            sequence = self.append_one(&body, last)?;
            journal
                .write_ahead()
                .inspect_err(|error| self.inner.poison(error))?;
        }
        Ok(sequence)
    }
    fn append_one(&self, body: &Body<'_>, last: bool) -> Result<u64, SnapshotError> {
        let appending = self.appending.lock();
        let _alone = appending.unwrap_or_else(PoisonError::into_inner);
        self.reserve(body.changes.len() as u64)?;
        let journal = &self.inner.journal;
        journal.append(RecordKind::Pages, last, self.generation, body)
    }
}
