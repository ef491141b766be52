//! Which kind of checkpoint is made, and that one is made at a time.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::capture::{Capture, SOON_PAGES};
use super::checkpoint::Checkpointer;
use super::disk::Array;
use super::error::SnapshotError;
use super::format::{Metadata, PAGE_BYTES};
use super::heap;
use super::inner::Inner;
use super::options::{Changes, Durability, OnClose, Strategy};
use super::report::{CheckpointKind, CheckpointReport};

impl Inner {
    /// Of the kind that is asked for, or the better one.
    pub(crate) fn checkpoint(
        &self,
        kind: Option<CheckpointKind>,
    ) -> Result<CheckpointReport, SnapshotError> {
        self.check()?;
        self.gate.refuse_inside("checkpoint")?;
        self.checkpoints_wanted.fetch_add(1, Ordering::Relaxed);
        let mut checkpointer = self.checkpoints();
        self.checkpoints_wanted.fetch_sub(1, Ordering::Relaxed);
        let done = checkpointer.make(self, kind);
        if done.is_ok() {
            *self.background_error() = None;
        }
        self.generation
            .store(checkpointer.generation, Ordering::Relaxed);
        done
    }

    /// After the last checkpoint.
    pub(super) fn close(&self, checkpointer: &mut Checkpointer) -> Result<(), SnapshotError> {
        let committed = checkpointer.committed;
        if self.options.durability == Durability::Process {
            // What is closed is believed, and may be all there is.
            self.really_sync(Array::Heap(committed.heap))?;
            self.really_sync(Array::Table(committed.heap))?;
        }
        let end = self.journal.sequence();
        self.journal.commit_synced(end)?;
        if self.options.on_close == OnClose::DropOlder {
            checkpointer.drop_older(self)?;
        }
        let closed = Metadata {
            closed: true,
            end: Some(end),
            revision: committed.revision + 1,
            ..committed
        };
        heap::rewrite_metadata(&*self.disk, &closed, None).inspect_err(|error| self.poison(error))
    }
}

impl Checkpointer {
    fn make(
        &mut self,
        inner: &Inner,
        kind: Option<CheckpointKind>,
    ) -> Result<CheckpointReport, SnapshotError> {
        let begun = Instant::now();
        if inner.options.changes == Changes::Transactions {
            if inner.journal.sequence() == self.committed.sequence {
                return Ok(self.nothing(inner));
            }
            self.stale.scan(inner)?;
            return self.base(inner, "the journal has every transaction".to_owned());
        }
        match self.is_quick(inner, kind) {
            true => {
                inner.journal.make_ready()?;
                let capture = Capture {
                    inner,
                    stale: &mut self.stale,
                    into: None,
                };
                if let Some(captured) = capture.at_once()? {
                    if !self.is_new(inner) {
                        return Ok(self.nothing(inner));
                    }
                    let why = "few pages changed, as before".to_owned();
                    return self.delta(inner, why, begun, Some(captured));
                }
            }
            false => drop(self.stale.scan(inner)?),
        }
        let in_journal = inner.journal.sequence() != self.committed.sequence;
        if !self.is_new(inner) && (kind != Some(CheckpointKind::Base) || !in_journal) {
            return Ok(self.nothing(inner));
        }
        let (delta, why) = self.choose(inner, kind);
        if delta {
            return self.delta(inner, why, begun, None);
        }
        match self.base(inner, why) {
            // Readers do not leave the heap: the journal takes it (hazard 17).
            Err(SnapshotError::Directory { source, .. })
                if kind.is_none() && source.kind() == std::io::ErrorKind::ResourceBusy =>
            {
                self.delta(inner, source.to_string(), begun, None)
            }
            made => made,
        }
    }

    /// Will this be a delta of so few pages that looking before costs more than it saves?
    fn is_quick(&self, inner: &Inner, kind: Option<CheckpointKind>) -> bool {
        let journal = inner.journal.written_bytes() - self.journal_bytes_at_base;
        let room = inner.journal_bytes_max().saturating_sub(journal);
        let fits = kind.is_some() || SOON_PAGES * PAGE_BYTES as u64 <= room.min(inner.len() / 8);
        inner.options.strategy == Strategy::PreCopy
            && kind != Some(CheckpointKind::Base)
            && self
                .last_delta_pages
                .is_some_and(|pages| pages <= SOON_PAGES)
            && fits
    }

    fn is_new(&self, inner: &Inner) -> bool {
        !self.stale.since_checkpoint().is_empty() || inner.len() != self.journal_payload_bytes
    }

    /// Is a delta better, and why?
    fn choose(&self, inner: &Inner, kind: Option<CheckpointKind>) -> (bool, String) {
        let pages = self.stale.since_checkpoint().len();
        let bytes = pages * PAGE_BYTES as u64;
        let journal = inner.journal.written_bytes() - self.journal_bytes_at_base;
        let room = inner.journal_bytes_max();
        match kind {
            Some(CheckpointKind::Base) => (false, "asked for".to_owned()),
            Some(_) => (true, "asked for".to_owned()),
            None if bytes > inner.len() / 8 => (
                false,
                format!("{pages} pages changed, more than an eighth of the region"),
            ),
            None if journal + bytes > room => (
                false,
                format!("the journal would have {} of {room} bytes", journal + bytes),
            ),
            None => (
                true,
                format!("{pages} pages changed, the journal has room for them"),
            ),
        }
    }

    fn nothing(&self, inner: &Inner) -> CheckpointReport {
        CheckpointReport {
            kind: CheckpointKind::Nothing,
            why: "nothing has changed".to_owned(),
            strategy: Strategy::default(),
            tracker: inner.tracking().kind(),
            generation: self.generation,
            sequence: inner.journal.sequence(),
            pages: 0,
            bytes: 0,
            rounds: 0,
            pause: std::time::Duration::ZERO,
            barriers: 0,
            took: std::time::Duration::ZERO,
        }
    }
}
