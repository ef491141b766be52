//! Base checkpoints: bring the heap that is not committed up to date. The steps are those of
//! docs/file-format.md, "Base checkpoint".
//!
//! ```text
//!   target heap  complete g-1 --1--> incomplete g --2,3--> incomplete g, written --4--> complete g
//!   a failure      in 1, 2, 3: the heap stays incomplete, its pages stay stale; a failed sync
//!                  poisons the store
//!                  in 4: the heap is marked incomplete again, the store is poisoned
//! ```

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use super::checkpointer::{Checkpointer, Cost, StoreParts, remove_journals_before};
use super::heap_writer::HeapWriter;
use super::report::{CheckpointKind, CheckpointReport};
use crate::numbers::Generation;
use crate::snapshot::capture::{Capture, Captured, Sink as _};
use crate::snapshot::error::StoreError;
use crate::snapshot::failpoint::{Failpoint, is_active};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{METADATA_BYTES, Metadata};
use crate::snapshot::heap::{self, ChecksumTree};
use crate::snapshot::modes::WriteMode;
use crate::snapshot::store_files::StoreFiles;

impl Checkpointer {
    /// Makes a base checkpoint. `why` is the reason for this kind.
    pub(super) fn base(
        &mut self,
        parts: &StoreParts,
        why: String,
    ) -> Result<CheckpointReport, StoreError> {
        let begun = Instant::now();
        let files = &parts.files;
        let target = self.committed.heap.other();
        let mut cost = Cost::default();
        // The checkpoint overwrites an unfinished copy. Dropping the copy releases its lock on the
        // heap.
        self.second_heap_copy = None;
        self.verify_and_compare(files)?;
        let _heap_lock = files
            .locks
            .writer_of(target, parts.options.reader_timeout)?;
        files.journal.prepare_roll()?;
        let generation = self.take_generation();
        self.sync_committed(files, &mut cost)?;
        self.mark_incomplete(files, target, generation, &mut cost)?;

        let is_mapped = self.mapped_heap == Some(target);
        let writer = HeapWriter::new(files, target, is_mapped, cost);
        let capture = Capture {
            memory: &parts.memory,
            stale: &mut self.stale,
            into: Some(target),
            strategy: parts.options.capture_mode,
        };
        let captured = capture.run(&writer)?;
        writer.write(&captured.buffer, captured.payload_bytes)?;
        let (hashes, mut cost) = writer.finish();
        let metadata = self.new_metadata(generation, &captured, parts.options.write_mode);
        self.finish_base(parts, metadata, hashes, &mut cost)?;
        Ok(CheckpointReport {
            kind: CheckpointKind::Base,
            reason: why,
            capture_mode: parts.options.capture_mode,
            tracker: parts.memory.tracker().kind(),
            generation,
            sequence: captured.position.sequence.into(),
            written_pages: cost.pages,
            written_bytes: cost.bytes,
            pre_copy_rounds: captured.rounds,
            pause_duration: captured.pause,
            syncs: cost.syncs,
            duration: begun.elapsed(),
        })
    }

    /// Returns the METADATA of the new generation, without its root hash.
    fn new_metadata(
        &self,
        generation: Generation,
        captured: &Captured,
        changes: WriteMode,
    ) -> Metadata {
        let target = self.committed.heap.other();
        Metadata {
            store_id: self.committed.store_id,
            heap: target,
            closed: false,
            part_bytes: self.part_bytes_of[target as usize],
            generation,
            complete: true,
            revision: 0,
            payload_bytes: captured.payload_bytes,
            tree_root_hash: 0,
            last_sequence: captured.position.sequence.into(),
            last_record_checksum: captured.position.chain,
            first_journal: captured.position.journal,
            end_sequence: None,
            committed_at: SystemTime::now(),
            min_base_generation: match changes {
                // The journal leads from the earlier heap to this state, too.
                WriteMode::Transactions => self.committed.min_base_generation,
                // No record has the changes since the last checkpoint.
                WriteMode::Tracked => generation,
            },
        }
    }

    /// Verifies the committed heap and finds the stale pages of the other heap, once after opening.
    fn verify_and_compare(&mut self, files: &StoreFiles) -> Result<(), StoreError> {
        let backend = &*files.backend;
        if self.is_unverified {
            let ignore = |_: u64, _: &[u8]| Ok(());
            heap::read_image(backend, &self.committed, &mut self.tree, ignore, |_| ())
                .inspect_err(|error| files.poison(error))?;
            self.is_unverified = false;
        }
        if is_active(Failpoint::SkipHeapComparison) {
            self.uncompared = None;
        }
        if let Some(other) = self.uncompared {
            let pages = other.pages().max(self.committed.pages());
            let differ =
                ChecksumTree::open(backend, other.heap, other.seed(), other.tree_root_hash)
                    .and_then(|mut tree| self.tree.differences(backend, &mut tree, pages));
            match differ {
                Ok(differ) => self.stale.add_to(other.heap, &differ),
                // The tree is missing, or closing the store was interrupted while it was removed.
                // Write all pages of that heap.
                Err(
                    StoreError::Corrupt { file: array, .. }
                    | StoreError::Backend { file: array, .. },
                ) if array == LogicalFile::Table(other.heap) => {
                    self.stale.set_blank(other.heap);
                }
                Err(error) => return Err(error),
            }
            self.uncompared = None;
        }
        Ok(())
    }

    /// Writes the checksum tree and does steps 3 to 5: syncs the heap, marks it as complete and
    /// removes the journal files that neither heap needs.
    fn finish_base(
        &mut self,
        parts: &StoreParts,
        mut metadata: Metadata,
        mut hashes: BTreeMap<u64, u64>,
        cost: &mut Cost,
    ) -> Result<(), StoreError> {
        let files = &parts.files;
        let backend = &*files.backend;
        let target = metadata.heap;
        let pages = metadata.pages();
        if is_active(Failpoint::ClearStaleEarly) {
            self.stale.committed(target);
        }
        // Pages after the end have no hash.
        hashes.split_off(&pages);
        self.check_unchanged(files, &hashes)?;
        let removed = pages..self.committed.pages().max(pages);
        let stale = self.stale.of(target, 0);
        let stale = stale.runs().flat_map(|run| run.start.max(pages)..run.end);
        hashes.extend(removed.chain(stale).map(|page| (page, 0)));
        let update = self.tree.update(backend, &hashes)?;
        cost.bytes += update.write(backend, target)?;
        self.set_heap_len(files, target, METADATA_BYTES + metadata.payload_bytes)?;
        cost.sync(files, LogicalFile::Heap(target))?;
        cost.sync(files, LogicalFile::Table(target))?;
        // A header states that all records up to its sequence number are durable, in every mode.
        files.journal.commit_synced(metadata.last_sequence.get())?;
        parts.memory.check_intact()?;
        metadata.tree_root_hash = update.root;
        if is_active(Failpoint::DropJournalsEarly) {
            remove_journals_before(files, metadata.first_journal);
        }
        Self::mark_complete(files, &metadata, cost)?;
        let table_bytes = backend.len(LogicalFile::Table(target)).unwrap_or(u64::MAX);
        self.tree.apply(target, table_bytes, update);
        self.fallback = Some(std::mem::replace(&mut self.committed, metadata));
        self.generation = metadata.generation;
        files.journal.set_floor(metadata.min_base_generation.get());
        self.journal_payload_bytes = metadata.payload_bytes;
        self.last_delta_pages = None;
        self.journal_bytes_at_base = files.journal.written_bytes();
        self.stale.committed(target);
        self.discard_unconverted_heap();
        self.remove_unneeded_journals(files);
        Ok(())
    }

    /// Fails if a page differs from the committed heap without a reported change.
    ///
    /// The committed heap is verified [I5], so the tracker missed a store or memory is faulty.
    fn check_unchanged(
        &mut self,
        files: &StoreFiles,
        hashes: &BTreeMap<u64, u64>,
    ) -> Result<(), StoreError> {
        let source = self.committed.heap;
        let pages = self.committed.pages();
        for (page, hash) in hashes.range(..pages) {
            if self.stale.contains(source, *page) {
                continue;
            }
            if self.tree.hash_of(&*files.backend, *page)? != *hash {
                let error = StoreError::UntrackedChange {
                    page: (*page).into(),
                    why: "a store that the tracker cannot see, or faulty memory",
                };
                files.poison(&error);
                return Err(error);
            }
        }
        Ok(())
    }
}
