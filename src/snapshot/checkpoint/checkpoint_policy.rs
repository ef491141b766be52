//! Choice of the kind of a checkpoint. One checkpoint runs at a time.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::checkpointer::{Checkpointer, StoreParts};
use super::report::{CheckpointKind, CheckpointReport};
use super::store_inner::StoreInner;
use crate::snapshot::capture::{Capture, QUICK_PAGES, scan};
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{Metadata, PAGE_BYTES};
use crate::snapshot::heap;
use crate::snapshot::modes::{CaptureMode, Durability, OnClose, WriteMode};

const JOURNAL_BYTES_MIN: u64 = 64 << 20;

impl StoreParts {
    /// Returns the journal length that triggers a base checkpoint.
    pub(super) fn journal_bytes_max(&self) -> u64 {
        let option = self.options.journal_bytes_max;
        option.unwrap_or_else(|| JOURNAL_BYTES_MIN.max(self.memory.len() / 4))
    }
}

impl StoreInner {
    /// Makes a checkpoint of the given kind, or of the cheaper kind.
    pub(crate) fn checkpoint(
        &self,
        kind: Option<CheckpointKind>,
    ) -> Result<CheckpointReport, StoreError> {
        self.parts.files.check()?;
        self.parts.memory.refuse_nested("checkpoint")?;
        self.waiting_checkpoints.fetch_add(1, Ordering::Relaxed);
        let mut checkpointer = self.checkpointer();
        self.waiting_checkpoints.fetch_sub(1, Ordering::Relaxed);
        let done = checkpointer.make(&self.parts, kind);
        if done.is_ok() {
            *self.background_error() = None;
        }
        self.parts.files.set_generation(checkpointer.generation);
        done
    }

    /// Records that the store is closed, after the last checkpoint.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let mut checkpointer = self.checkpointer();
        let files = &self.parts.files;
        let committed = checkpointer.committed;
        if files.durability == Durability::Process {
            // Opening trusts a closed heap, and it may be the only one.
            files.sync(LogicalFile::Heap(committed.heap))?;
            files.sync(LogicalFile::Table(committed.heap))?;
        }
        let end = files.journal.sequence();
        files.journal.commit_synced(end)?;
        if self.parts.options.on_close == OnClose::RemoveOlder {
            checkpointer.remove_fallback(&self.parts)?;
        }
        let closed = Metadata {
            closed: true,
            end_sequence: Some(end.into()),
            revision: committed.revision + 1,
            ..committed
        };
        heap::rewrite_metadata(&*files.backend, &closed, None)
            .inspect_err(|error| files.poison(error))
    }
}

impl Checkpointer {
    fn make(
        &mut self,
        parts: &StoreParts,
        kind: Option<CheckpointKind>,
    ) -> Result<CheckpointReport, StoreError> {
        let begun = Instant::now();
        let journal = &parts.files.journal;
        if parts.options.write_mode == WriteMode::Transactions {
            if self.committed.last_sequence == journal.sequence() {
                return Ok(self.unchanged(parts));
            }
            scan(&parts.memory, &mut self.stale)?;
            return self.base(parts, "the journal has every transaction".to_owned());
        }
        if self.is_quick(parts, kind) {
            if let Some(report) = self.make_quick(parts, begun)? {
                return Ok(report);
            }
        } else {
            scan(&parts.memory, &mut self.stale)?;
        }
        let has_records = self.committed.last_sequence != journal.sequence();
        if !self.is_changed(parts) && (kind != Some(CheckpointKind::Base) || !has_records) {
            return Ok(self.unchanged(parts));
        }
        let (is_delta, why) = self.choose_kind(parts, kind);
        if is_delta {
            return self.delta(parts, why, begun, None);
        }
        match self.base(parts, why) {
            // Readers hold the heap for too long [I17]: use the journal.
            Err(StoreError::Directory { source, .. })
                if kind.is_none() && source.kind() == io::ErrorKind::ResourceBusy =>
            {
                self.delta(parts, source.to_string(), begun, None)
            }
            made => made,
        }
    }

    /// Makes a delta checkpoint of a few pages. Returns `None` if more pages changed.
    fn make_quick(
        &mut self,
        parts: &StoreParts,
        begun: Instant,
    ) -> Result<Option<CheckpointReport>, StoreError> {
        let journal = &parts.files.journal;
        journal.make_ready()?;
        let capture = Capture {
            memory: &parts.memory,
            stale: &mut self.stale,
            into: None,
            strategy: parts.options.capture_mode,
        };
        let Some(captured) = capture.run_quick(&|| Ok(journal.position()))? else {
            return Ok(None);
        };
        if !self.is_changed(parts) {
            return Ok(Some(self.unchanged(parts)));
        }
        let why = "few pages changed, as before".to_owned();
        self.delta(parts, why, begun, Some(captured)).map(Some)
    }

    /// Returns whether a delta checkpoint of few pages is expected. A scan before the pause would
    /// then cost more than it saves.
    fn is_quick(&self, parts: &StoreParts, kind: Option<CheckpointKind>) -> bool {
        let journal = parts.files.journal.written_bytes() - self.journal_bytes_at_base;
        let left = parts.journal_bytes_max().saturating_sub(journal);
        let quick_bytes = QUICK_PAGES * PAGE_BYTES as u64;
        let fits = kind.is_some() || quick_bytes <= left.min(parts.memory.len() / 8);
        parts.options.capture_mode == CaptureMode::PreCopy
            && kind != Some(CheckpointKind::Base)
            && self
                .last_delta_pages
                .is_some_and(|pages| pages <= QUICK_PAGES)
            && fits
    }

    /// Returns whether the memory differs from the last checkpoint.
    fn is_changed(&self, parts: &StoreParts) -> bool {
        !self.stale.since_checkpoint().is_empty()
            || parts.memory.len() != self.journal_payload_bytes
    }

    /// Returns whether to make a delta checkpoint, and why.
    fn choose_kind(&self, parts: &StoreParts, kind: Option<CheckpointKind>) -> (bool, String) {
        let pages = self.stale.since_checkpoint().len();
        let bytes = pages * PAGE_BYTES as u64;
        let journal = parts.files.journal.written_bytes() - self.journal_bytes_at_base;
        let limit = parts.journal_bytes_max();
        match kind {
            Some(CheckpointKind::Base) => (false, "asked for".to_owned()),
            Some(_) => (true, "asked for".to_owned()),
            None if bytes > parts.memory.len() / 8 => (
                false,
                format!("{pages} pages changed, more than an eighth of the region"),
            ),
            None if journal + bytes > limit => (
                false,
                format!(
                    "the journal would have {} of {limit} bytes",
                    journal + bytes
                ),
            ),
            None => (
                true,
                format!("{pages} pages changed, the journal has room for them"),
            ),
        }
    }

    fn unchanged(&self, parts: &StoreParts) -> CheckpointReport {
        CheckpointReport {
            kind: CheckpointKind::Unchanged,
            reason: "nothing has changed".to_owned(),
            capture_mode: CaptureMode::default(),
            tracker: parts.memory.tracker().kind(),
            generation: self.generation,
            sequence: parts.files.journal.sequence().into(),
            written_pages: 0,
            written_bytes: 0,
            pre_copy_rounds: 0,
            pause_duration: Duration::ZERO,
            syncs: 0,
            duration: Duration::ZERO,
        }
    }
}
