//! Creation of the second heap as a copy of the committed one, where none exists. The first base
//! checkpoint then writes the changed pages only. The steps are those of docs/file-format.md,
//! "Second heap".
//!
//! ```text
//!   target heap  missing, or any --1--> incomplete g --2--> incomplete g, copied --3--> complete g
//!   a base checkpoint  at any time: it writes the target from step 1, with its own generation
//!   a failure          in 1, 2: the target is removed; a failed sync poisons the store
//! ```
//!
//! The copy has a generation of its own, above the generation of its source. It becomes the
//! committed heap when it is complete. Otherwise its METADATA equals that of the source, including
//! the minimum base generation, and the journal leads from either heap to the same state. With the
//! generation of the source, neither heap would be the newer one.
//!
//! The copy is made in steps. Checkpoints wait for one step at most.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::checkpointer::{Checkpointer, Cost, SecondHeapCopy, StoreParts};
use super::store_inner::StoreInner;
use crate::numbers::Generation;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{METADATA_BYTES, Metadata, PAGE_BYTES};
use crate::snapshot::heap;
use crate::snapshot::modes::Durability;
use crate::snapshot::store_files::StoreFiles;

/// Bytes of one step, which takes tens of milliseconds if the filesystem cannot share storage.
const STEP_BYTES: u64 = 16 << 20;

/// Progress of the creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyProgress {
    /// Another step is needed.
    More,
    /// The second heap is complete.
    Made,
    /// A second heap exists, or an empty heap needs none.
    NotNeeded,
}

impl StoreInner {
    /// Does one step of the creation if no second heap exists. Fails with `ResourceBusy` if readers
    /// hold the heap for longer than `timeout`. Checkpoints wait for that time, too.
    pub(crate) fn step_of_second_heap(
        &self,
        timeout: Duration,
    ) -> Result<CopyProgress, StoreError> {
        self.parts.files.check()?;
        self.parts.memory.refuse_nested("create_second_heap")?;
        if self.waiting_checkpoints.load(Ordering::Relaxed) > 0 {
            // Let a waiting checkpoint lock first: a mutex that is locked again at once is rarely
            // passed on.
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut checkpointer = self.checkpointer();
        let progress = checkpointer.step_of_second_heap(&self.parts, timeout);
        self.parts.files.set_generation(checkpointer.generation);
        progress
    }
}

impl Checkpointer {
    fn step_of_second_heap(
        &mut self,
        parts: &StoreParts,
        timeout: Duration,
    ) -> Result<CopyProgress, StoreError> {
        let copy = match self.second_heap_copy.take() {
            Some(copy) => copy,
            None if self.needs_second_heap() => self.start_copy(&parts.files, timeout)?,
            None => return Ok(CopyProgress::NotNeeded),
        };
        self.continue_copy(&parts.files, copy).inspect_err(|_| {
            if parts.files.check().is_ok() {
                self.remove_copy(&parts.files);
            }
        })
    }

    fn needs_second_heap(&self) -> bool {
        let target = self.committed.heap.other();
        // A checkpoint of zeros costs nothing, and a mapped heap is not rewritten [I10].
        let is_empty = self.committed.tree_root_hash == 0;
        self.stale.is_blank(target) && !is_empty && self.mapped_heap != Some(target)
    }

    /// Does step 1: marks the target as incomplete.
    fn start_copy(
        &mut self,
        files: &StoreFiles,
        timeout: Duration,
    ) -> Result<SecondHeapCopy, StoreError> {
        let target = self.committed.heap.other();
        let heap_lock = files.locks.writer_of(target, timeout)?;
        heap::must_be_whole(&*files.backend, &self.committed)?;
        let mut cost = Cost::default();
        self.sync_committed(files, &mut cost)?;
        let generation = self.take_generation();
        self.mark_incomplete(files, target, generation, &mut cost)?;
        Ok(SecondHeapCopy {
            _heap_lock: heap_lock,
            generation,
            heap_at: METADATA_BYTES,
            table_at: 0,
        })
    }

    /// Copies the next part of the heap or its table (step 2), or does the remaining steps.
    fn continue_copy(
        &mut self,
        files: &StoreFiles,
        mut copy: SecondHeapCopy,
    ) -> Result<CopyProgress, StoreError> {
        let source = self.committed.heap;
        let target = source.other();
        let heap_end = METADATA_BYTES + self.committed.payload_bytes;
        let table = LogicalFile::Table(source);
        let table_end = files.backend.len(table);
        let table_end = table_end.map_err(StoreError::disk("get the length of", table))?;
        if copy.heap_at < heap_end {
            let range = copy.heap_at..heap_end.min(copy.heap_at + STEP_BYTES);
            self.verify(files, &range)?;
            copy.heap_at = range.end;
            copy_range(
                files,
                LogicalFile::Heap(source),
                LogicalFile::Heap(target),
                range,
            )?;
        } else if copy.table_at < table_end {
            let range = copy.table_at..table_end.min(copy.table_at + STEP_BYTES);
            copy.table_at = range.end;
            copy_range(files, table, LogicalFile::Table(target), range)?;
        }
        if copy.heap_at < heap_end || copy.table_at < table_end {
            self.second_heap_copy = Some(copy);
            return Ok(CopyProgress::More);
        }
        self.is_unverified = false;
        self.finish_copy(files, copy.generation)?;
        Ok(CopyProgress::Made)
    }

    /// Verifies the pages of a step if the committed heap was not verified yet [I5]. The target
    /// holds no data that could be lost.
    fn verify(&mut self, files: &StoreFiles, range: &Range<u64>) -> Result<(), StoreError> {
        if !self.is_unverified {
            return Ok(());
        }
        let page_of = |offset: u64| (offset - METADATA_BYTES) / PAGE_BYTES as u64;
        let pages = page_of(range.start)..page_of(range.end);
        let ignore = |_: u64, _: &[u8]| Ok(());
        heap::read_pages(
            &*files.backend,
            &self.committed,
            &mut self.tree,
            pages,
            ignore,
            |_| (),
        )
        .inspect_err(|error| files.poison(error))
    }

    /// Does steps 3 and 4: syncs the copy and marks it as complete.
    fn finish_copy(
        &mut self,
        files: &StoreFiles,
        generation: Generation,
    ) -> Result<(), StoreError> {
        let source = self.committed.heap;
        let target = source.other();
        let mut cost = Cost::default();
        self.set_heap_len(files, target, METADATA_BYTES + self.committed.payload_bytes)?;
        cost.sync(files, LogicalFile::Heap(target))?;
        cost.sync(files, LogicalFile::Table(target))?;
        let metadata = Metadata {
            heap: target,
            part_bytes: self.part_bytes_of[target as usize],
            generation,
            complete: true,
            revision: 0,
            closed: false,
            end_sequence: None,
            committed_at: SystemTime::now(),
            ..self.committed
        };
        Self::mark_complete(files, &metadata, &mut cost)?;
        let table_bytes = files
            .backend
            .len(LogicalFile::Table(target))
            .unwrap_or(u64::MAX);
        self.tree.moved_to(target, table_bytes);
        self.fallback = Some(std::mem::replace(&mut self.committed, metadata));
        self.generation = self.generation.max(generation);
        self.stale.copied(source, target);
        self.discard_unconverted_heap();
        Ok(())
    }

    /// Removes the copy, since the storage may be short. If this fails, the rest stays incomplete.
    fn remove_copy(&self, files: &StoreFiles) {
        let target = self.committed.heap.other();
        for array in [LogicalFile::Table(target), LogicalFile::Heap(target)] {
            drop(files.backend.remove(array));
        }
    }
}

/// Copies a range and syncs it, so that the final sync takes little time.
fn copy_range(
    files: &StoreFiles,
    from: LogicalFile,
    to: LogicalFile,
    range: Range<u64>,
) -> Result<(), StoreError> {
    let copied = files.backend.clone_range(from, to, range);
    copied.map_err(StoreError::disk("copy from the other heap to", to))?;
    if files.durability == Durability::Power {
        files.sync(to)?;
    }
    Ok(())
}
