//! Delta checkpoints: the pages that changed go to the journal, in order, with one barrier.

use std::time::Instant;

use super::capture::{Capture, Captured};
use super::checkpoint::{Checkpointer, Cost};
use super::error::SnapshotError;
use super::format::{Body, Change, PAGE_BYTES, RecordKind, is_zero};
use super::inner::Inner;
use super::options::Durability;
use super::report::{CheckpointKind, CheckpointReport};

/// Pages of one record.
const RECORD_PAGES: usize = 256;

impl Checkpointer {
    pub(crate) fn delta(
        &mut self,
        inner: &Inner,
        why: String,
    ) -> Result<CheckpointReport, SnapshotError> {
        let begun = Instant::now();
        inner.journal.make_ready()?;
        let generation = self.take_generation();
        let capture = Capture {
            inner,
            stale: &mut self.stale,
            into: None,
        };
        let captured =
            capture.run(&mut |_| unreachable!("a delta is written when all is captured"))?;
        let before = inner.journal.written_bytes();
        let sequence = append(inner, &captured, generation)?;
        inner
            .journal
            .commit(sequence)
            .inspect_err(|error| inner.poison(error))?;
        self.stale.journaled();
        self.generation = generation;
        self.journal_payload_bytes = captured.payload_bytes;
        let cost = Cost {
            bytes: inner.journal.written_bytes() - before,
            pages: captured.buffer.len() as u64,
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
}

/// The records of an instant, the last of them marked so.
fn append(inner: &Inner, captured: &Captured, generation: u64) -> Result<u64, SnapshotError> {
    let pages = captured.buffer.len();
    let records = pages.div_ceil(RECORD_PAGES).max(1);
    // A little more than is needed: pages of zeros take no room.
    let bytes = pages * (PAGE_BYTES + 16) + records * 16;
    inner.journal.reserve(bytes as u64, records as u64)?;
    let mut pages = captured.buffer.pages();
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
            payload_bytes: captured.payload_bytes,
            changes: changes.collect(),
        };
        let journal = &inner.journal;
        sequence = journal.append(RecordKind::Pages, record == records, generation, &body)?;
        journal
            .write_ahead()
            .inspect_err(|error| inner.poison(error))?;
    }
    Ok(sequence)
}
