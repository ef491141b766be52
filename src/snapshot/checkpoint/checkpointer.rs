//! State of the checkpointer, and the operations that base checkpoints and the creation of the
//! second heap share. The steps are those of docs/file-format.md, "Base checkpoint".

use std::io;

use crate::numbers::{Generation, JournalNumber};
use crate::snapshot::backend::HeapLock;
use crate::snapshot::error::StoreError;
use crate::snapshot::failpoint::{Failpoint, is_active};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{HeapName, METADATA_BYTES, Metadata, PAGE_BYTES};
use crate::snapshot::heap::{self, ChecksumTree, StalePages};
use crate::snapshot::journal;
use crate::snapshot::memory::StoreMemory;
use crate::snapshot::modes::Durability;
use crate::snapshot::options::StoreOptions;
use crate::snapshot::store_files::StoreFiles;

/// Memory, files and options of an open store: everything that a checkpoint works on.
#[derive(Debug)]
pub(crate) struct StoreParts {
    pub(crate) memory: StoreMemory,
    pub(crate) files: StoreFiles,
    pub(crate) options: StoreOptions,
}

/// State of the checkpointer. One checkpoint runs at a time.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    /// METADATA of the committed heap.
    pub(crate) committed: Metadata,
    /// Part length that heaps should have.
    pub(crate) part_bytes: u64,
    /// Present part length of each heap.
    pub(crate) part_bytes_of: [u64; 2],
    pub(crate) tree: ChecksumTree,
    pub(crate) stale: StalePages,
    pub(crate) next_generation: Generation,
    /// Durable generation, in a heap or in the journal.
    pub(crate) generation: Generation,
    /// Length of the region in the newest checkpoint.
    pub(crate) journal_payload_bytes: u64,
    /// Pages of the last delta checkpoint after the newest base checkpoint.
    pub(crate) last_delta_pages: Option<u64>,
    /// Journal bytes written before the newest base checkpoint.
    pub(crate) journal_bytes_at_base: u64,
    /// Heap that the region maps privately. Its files are never truncated or punched [I10].
    pub(crate) mapped_heap: Option<HeapName>,
    /// METADATA of the fallback heap, if it is complete.
    pub(crate) fallback: Option<Metadata>,
    /// Whether the committed heap was not verified yet [I5].
    pub(crate) is_unverified: bool,
    /// Other heap, until its checksum tree was compared with that of the committed heap.
    pub(crate) uncompared: Option<Metadata>,
    /// Unfinished copy to the second heap.
    pub(crate) second_heap_copy: Option<SecondHeapCopy>,
}

/// Unfinished copy to the second heap, whose header marks it as incomplete.
#[derive(Debug)]
pub(crate) struct SecondHeapCopy {
    pub(super) _heap_lock: HeapLock,
    pub(super) generation: Generation,
    /// Offset of the next step in the heap, then in its checksum tree.
    pub(super) heap_at: u64,
    pub(super) table_at: u64,
}

/// Cost of a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Cost {
    pub(super) bytes: u64,
    pub(super) pages: u64,
    pub(super) syncs: u32,
}

impl Cost {
    /// Syncs a file if commits survive power failures.
    pub(super) fn sync(
        &mut self,
        files: &StoreFiles,
        array: LogicalFile,
    ) -> Result<(), StoreError> {
        if files.durability == Durability::Process {
            return Ok(());
        }
        self.sync_always(files, array)
    }

    /// Syncs a file in every mode, since the order of writes to the heaps depends on it.
    pub(super) fn sync_always(
        &mut self,
        files: &StoreFiles,
        array: LogicalFile,
    ) -> Result<(), StoreError> {
        self.syncs += 1;
        files.sync(array)
    }
}

impl Checkpointer {
    /// Returns a new generation.
    pub(super) fn take_generation(&mut self) -> Generation {
        if is_active(Failpoint::ReuseGeneration) {
            return self.generation;
        }
        let generation = self.next_generation;
        self.next_generation = generation.next();
        generation
    }

    /// Syncs the committed heap before the other heap is written, if its commit was not synced
    /// [I18].
    pub(super) fn sync_committed(
        &self,
        files: &StoreFiles,
        cost: &mut Cost,
    ) -> Result<(), StoreError> {
        if files.durability == Durability::Process {
            cost.sync_always(files, LogicalFile::Heap(self.committed.heap))?;
            cost.sync_always(files, LogicalFile::Table(self.committed.heap))?;
        }
        Ok(())
    }

    /// Marks the other heap as stale if its part length must be converted. It is the fallback heap
    /// until the next checkpoint into it.
    pub(crate) fn discard_unconverted_heap(&mut self) {
        let other = self.committed.heap.other();
        if self.needs_conversion(other) {
            self.stale.set_blank(other);
            self.uncompared = None;
        }
    }

    /// Returns whether the part length of a heap must be converted. A mapped heap keeps its length
    /// [I10].
    fn needs_conversion(&self, heap: HeapName) -> bool {
        self.part_bytes_of[heap as usize] != self.part_bytes && self.mapped_heap != Some(heap)
    }

    fn remove_for_conversion(
        &mut self,
        files: &StoreFiles,
        heap: HeapName,
    ) -> Result<(), StoreError> {
        self.fallback = None;
        let arrays = [LogicalFile::Heap(heap), LogicalFile::Table(heap)];
        for array in arrays {
            remove_existing(files, array)?;
        }
        for array in arrays {
            let set = files.backend.set_part_bytes(array, self.part_bytes);
            set.map_err(StoreError::disk("use", array))?;
        }
        self.part_bytes_of[heap as usize] = self.part_bytes;
        Ok(())
    }

    /// Step 1: sets `WRITE_LOCK` of a heap to incomplete, and creates or empties a heap without
    /// content.
    pub(super) fn mark_incomplete(
        &mut self,
        files: &StoreFiles,
        target: HeapName,
        generation: Generation,
        cost: &mut Cost,
    ) -> Result<(), StoreError> {
        let backend = &*files.backend;
        let arrays = [LogicalFile::Heap(target), LogicalFile::Table(target)];
        if self.needs_conversion(target) {
            self.remove_for_conversion(files, target)?;
        }
        if self.stale.is_blank(target) {
            for array in arrays {
                heap::remove_if_broken(backend, array)?;
                match backend.create(array) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(StoreError::disk("create", array)(error));
                    }
                    _ => {}
                }
            }
        }
        let incomplete = Metadata {
            heap: target,
            part_bytes: self.part_bytes_of[target as usize],
            generation,
            complete: false,
            revision: 0,
            closed: false,
            end_sequence: None,
            ..self.committed
        };
        heap::write_metadata(backend, &incomplete)?;
        // The heap is no fallback from here on.
        self.fallback = None;
        cost.bytes += 2 * PAGE_BYTES as u64;
        // Sync in every mode [I2]: pages that reach the disk before WRITE_LOCK would look like
        // pages of the earlier image, and would stay in the next one.
        cost.sync_always(files, LogicalFile::Heap(target))?;
        if self.stale.is_blank(target) {
            // Nothing in the files is used, and holes are zeros.
            for (array, len) in [(arrays[0], METADATA_BYTES), (arrays[1], 0)] {
                backend
                    .set_len(array, len)
                    .map_err(StoreError::disk("truncate", array))?;
            }
        }
        Ok(())
    }

    /// Sets the length of a heap. A mapped heap is not truncated [I10].
    pub(super) fn set_heap_len(
        &self,
        files: &StoreFiles,
        target: HeapName,
        len: u64,
    ) -> Result<(), StoreError> {
        let array = LogicalFile::Heap(target);
        let present = files.backend.len(array);
        let present = present.map_err(StoreError::disk("get the length of", array))?;
        if present < len || (present > len && self.mapped_heap != Some(target)) {
            let set = files.backend.set_len(array, len);
            set.map_err(StoreError::disk("set the length of", array))?;
        }
        Ok(())
    }

    /// Step 4: sets `WRITE_LOCK` of a heap to complete. On failure sets it to incomplete again and
    /// poisons the store [I3].
    pub(super) fn mark_complete(
        files: &StoreFiles,
        metadata: &Metadata,
        cost: &mut Cost,
    ) -> Result<(), StoreError> {
        let array = LogicalFile::Heap(metadata.heap);
        let written = heap::write_metadata(&*files.backend, metadata).and_then(|()| {
            cost.bytes += 2 * PAGE_BYTES as u64;
            cost.sync(files, array)
        });
        written.inspect_err(|error| {
            let incomplete = Metadata {
                complete: false,
                ..*metadata
            };
            // An error here changes nothing: the store is poisoned, and opening it reads the disk.
            drop(
                heap::write_metadata(&*files.backend, &incomplete)
                    .and_then(|()| heap::sync(&*files.backend, array)),
            );
            files.poison(error);
        })
    }

    /// Removes the fallback heap.
    pub(super) fn remove_fallback(&mut self, parts: &StoreParts) -> Result<(), StoreError> {
        let fallback = self.committed.heap.other();
        self.second_heap_copy = None;
        let _heap_lock = parts
            .files
            .locks
            .writer_of(fallback, parts.options.reader_timeout)?;
        self.fallback = None;
        self.stale.set_blank(fallback);
        for array in [LogicalFile::Heap(fallback), LogicalFile::Table(fallback)] {
            remove_existing(&parts.files, array)?;
        }
        Ok(())
    }

    /// Step 5: removes the journal files that neither heap needs. A later checkpoint removes files
    /// that cannot be removed now.
    pub(super) fn remove_unneeded_journals(&self, files: &StoreFiles) {
        let committed = self.committed.first_journal;
        let needed = match self.fallback {
            Some(fallback) if !is_active(Failpoint::DropFallbackJournals) => {
                committed.min(fallback.first_journal)
            }
            _ => committed,
        };
        remove_journals_before(files, needed);
    }
}

fn remove_existing(files: &StoreFiles, array: LogicalFile) -> Result<(), StoreError> {
    match files.backend.remove(array) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::disk("remove", array)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the journal files below a number.
pub(super) fn remove_journals_before(files: &StoreFiles, needed: JournalNumber) {
    let Ok(numbers) = journal::numbers(&*files.backend) else {
        return;
    };
    for number in numbers.into_iter().filter(|number| *number < needed) {
        drop(files.backend.remove(LogicalFile::Journal(number)));
    }
}
