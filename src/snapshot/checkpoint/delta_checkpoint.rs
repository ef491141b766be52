//! Delta checkpoints: append the changed pages to the journal, in order and with one sync.
//!
//! ```text
//!   record   record   record   last record, sync
//!   '--------- while writers run ---------'  '-- pages that changed meanwhile
//! ```
//!
//! If a page is in several records, the latest one counts. No record counts without the last one. A
//! checkpoint that fails before leaves its records after the position at which the journal
//! continues.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::checkpointer::{Checkpointer, StoreParts};
use super::report::{CheckpointKind, CheckpointReport};
use crate::numbers::Generation;
use crate::snapshot::capture::{Capture, Captured, PageBuffer, Sink};
use crate::snapshot::error::StoreError;
use crate::snapshot::format::{Body, Change, PAGE_BYTES, RecordKind, is_zero};
use crate::snapshot::journal::Position;
use crate::snapshot::modes::Durability;
use crate::snapshot::store_files::StoreFiles;

/// Pages of one record.
const RECORD_PAGES: usize = 256;

impl Checkpointer {
    /// Makes a delta checkpoint. `captured` has the pages if they were captured already.
    pub(super) fn delta(
        &mut self,
        parts: &StoreParts,
        why: String,
        begun: Instant,
        captured: Option<Captured>,
    ) -> Result<CheckpointReport, StoreError> {
        let files = &parts.files;
        files.journal.make_ready()?;
        let position = files.journal.position();
        // A failed base checkpoint may have left a pending seal record. A rollback must not discard
        // it.
        files.commit(position.sequence)?;
        let before = files.journal.written_bytes();
        let generation = self.take_generation();
        let appended = self.append_delta(parts, generation, captured);
        let (captured, sequence) = appended.inspect_err(|_| files.journal.rollback_to(position))?;
        files.commit(sequence)?;
        let pages = self.stale.since_checkpoint().len();
        self.stale.journaled();
        self.last_delta_pages = Some(pages);
        self.generation = generation;
        self.journal_payload_bytes = captured.payload_bytes;
        Ok(CheckpointReport {
            kind: CheckpointKind::Delta,
            reason: why,
            capture_mode: parts.options.capture_mode,
            tracker: parts.memory.tracker().kind(),
            generation,
            sequence: sequence.into(),
            written_pages: pages,
            written_bytes: files.journal.written_bytes() - before,
            pre_copy_rounds: captured.rounds,
            pause_duration: captured.pause,
            syncs: u32::from(files.durability == Durability::Power),
            duration: begun.elapsed(),
        })
    }

    /// Appends the records of one point in time and returns the sequence number of the last one.
    fn append_delta(
        &mut self,
        parts: &StoreParts,
        generation: Generation,
        captured: Option<Captured>,
    ) -> Result<(Captured, u64), StoreError> {
        let records = PageRecords {
            files: &parts.files,
            generation,
            appending: Mutex::new(()),
        };
        let captured = if let Some(captured) = captured {
            captured
        } else {
            // Reserve all storage first, so that a full disk is reported before anything is
            // written.
            records.reserve(self.stale.since_checkpoint().len())?;
            let capture = Capture {
                memory: &parts.memory,
                stale: &mut self.stale,
                into: None,
                strategy: parts.options.capture_mode,
            };
            capture.run(&records)?
        };
        let sequence = records.append(&captured.buffer, captured.payload_bytes, true)?;
        Ok((captured, sequence))
    }
}

/// Writer of pages to the journal.
struct PageRecords<'a> {
    files: &'a StoreFiles,
    generation: Generation,
    /// Held from reserving storage for a record until it is appended, so that no two threads use
    /// the same storage.
    appending: Mutex<()>,
}

impl Sink for PageRecords<'_> {
    fn write(&self, pages: &PageBuffer, payload_bytes: u64) -> Result<(), StoreError> {
        self.append(pages, payload_bytes, false).map(drop)
    }

    fn position(&self) -> Result<Position, StoreError> {
        Ok(self.files.journal.position())
    }
}

impl PageRecords<'_> {
    /// Reserves storage for pages. Pages of zeros need less.
    fn reserve(&self, pages: u64) -> Result<(), StoreError> {
        let records = pages.div_ceil(RECORD_PAGES as u64).max(1);
        let bytes = pages * (PAGE_BYTES as u64 + 16) + records * 16;
        self.files.journal.reserve(bytes, records)
    }

    /// Appends records with pages. `is_last` marks the last record as the end of the checkpoint.
    fn append(
        &self,
        pages: &PageBuffer,
        payload_bytes: u64,
        is_last: bool,
    ) -> Result<u64, StoreError> {
        let journal = &self.files.journal;
        self.reserve(pages.len() as u64)?;
        let records = pages.len().div_ceil(RECORD_PAGES).max(1);
        let mut pages = pages.pages();
        let mut sequence = 0;
        for record in 1..=records {
            let changes = pages.by_ref().take(RECORD_PAGES).map(|(page, bytes)| {
                let change = if is_zero(bytes) {
                    Change::Zeros(PAGE_BYTES as u64)
                } else {
                    Change::Bytes(bytes)
                };
                (page * PAGE_BYTES as u64, change)
            });
            let body = Body {
                payload_bytes,
                changes: changes.collect(),
            };
            sequence = self.append_record(&body, is_last && record == records)?;
            journal
                .write_ahead()
                .inspect_err(|error| self.files.poison(error))?;
        }
        Ok(sequence)
    }

    fn append_record(&self, body: &Body<'_>, is_last: bool) -> Result<u64, StoreError> {
        let appending = self.appending.lock();
        let _appending = appending.unwrap_or_else(PoisonError::into_inner);
        self.reserve(body.changes.len() as u64)?;
        let journal = &self.files.journal;
        journal.append(RecordKind::Pages, is_last, self.generation.get(), body)
    }
}
