//! Opening a store. Both heaps are read, one is selected, verified and restored, and the journal is
//! replayed before anything is written.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::assemble::Opened;
use super::create::create;
use super::report::OpenReport;
use super::select::{Newest, Selection, check_options, restore_newest, select};
use crate::mapping_cache::Access;
use crate::numbers::{Generation, JournalNumber};
use crate::snapshot::backend::{
    DEFAULT_PART_BYTES, DirectoryBackend, StorageBackend, StoreLocks, sync_above,
};
use crate::snapshot::checkpoint::StoreInner;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{HeapName, Metadata};
use crate::snapshot::heap::{self, stored_part_bytes};
use crate::snapshot::history;
use crate::snapshot::journal;
use crate::snapshot::options::StoreOptions;

/// Opens or creates the store in a directory, with its locks.
pub(crate) fn in_directory(
    directory: &Path,
    options: StoreOptions,
) -> Result<(StoreInner, OpenReport), StoreError> {
    options.check()?;
    let failed = |operation, source| StoreError::Directory {
        path: directory.to_path_buf(),
        operation,
        source,
    };
    let is_new = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed("read", error)),
    };
    if is_new {
        if !options.create {
            let reason =
                "there is no store, and `create(false)` is set; use `create(true)` to create it";
            return Err(failed(
                "open",
                io::Error::new(io::ErrorKind::NotFound, reason),
            ));
        }
        let part_bytes = options.part_bytes.unwrap_or(DEFAULT_PART_BYTES);
        let disk = DirectoryBackend::create(directory, part_bytes);
        let disk = disk.map_err(|error| failed("create a store in", error))?;
        create(&disk, &options)?;
    }
    // Fail before a lock file is created in a directory without a store.
    stored_part_bytes(directory)?;
    let locks = StoreLocks::of_writer(directory)?;
    let stored = stored_part_bytes(directory)?;
    let part_bytes = options.changed_part_bytes().unwrap_or(stored);
    if !is_new {
        // The process that created or moved the store may have been killed before its path was
        // durable.
        let synced = sync_above(directory);
        synced.map_err(|error| failed("sync the path of", error))?;
    }
    let disk = DirectoryBackend::open(directory, part_bytes, Access::ReadWrite);
    let disk = disk.map_err(|error| failed("open", error))?;
    let history_generation = history::highest_generation(directory)?;
    let (inner, mut report) = open_existing(Arc::new(disk), locks, history_generation, options)?;
    report.created = is_new;
    Ok((inner, report))
}

/// Opens or creates the store in a backend, without locks.
pub(crate) fn with_backend(
    disk: Arc<dyn StorageBackend>,
    options: StoreOptions,
) -> Result<(StoreInner, OpenReport), StoreError> {
    options.check()?;
    let arrays = disk.files();
    let arrays = arrays.map_err(StoreError::disk("find", LogicalFile::Heap(HeapName::A)))?;
    let is_new = arrays.is_empty();
    if is_new {
        create(&*disk, &options)?;
    }
    let (inner, mut report) = open_existing(disk, StoreLocks::default(), None, options)?;
    report.created = is_new;
    Ok((inner, report))
}

fn open_existing(
    disk: Arc<dyn StorageBackend>,
    locks: StoreLocks,
    history_generation: Option<Generation>,
    options: StoreOptions,
) -> Result<(StoreInner, OpenReport), StoreError> {
    let begun = Instant::now();
    let selection = select(&*disk)?;
    check_options(&selection.choice.primary, &options)?;
    let newest = restore_newest(&*disk, &selection.choice, &options)?;
    let next_number = next_journal_number(&*disk, &newest.metadata)?;
    // Everything up to here only reads.
    let (committed, next_generation) =
        prepare_heaps(&*disk, &selection, &newest, history_generation)?;
    let opened = Opened {
        disk,
        locks,
        options,
        headers: selection.headers,
        newest,
        committed,
        next_number,
        next_generation,
    };
    opened.assemble(begun)
}

/// Returns the number of the next journal file, which was never used.
fn next_journal_number(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
) -> Result<JournalNumber, StoreError> {
    let last = journal::numbers(disk)?.last().copied();
    let next = last.map_or(JournalNumber::FIRST, JournalNumber::next);
    Ok(next.max(metadata.first_journal))
}

/// Rewrites the METADATA of the restored heap [I3], and invalidates a newer heap that was not
/// restored if the journal must not lead to it. Returns the METADATA and the next generation.
fn prepare_heaps(
    disk: &dyn StorageBackend,
    selection: &Selection,
    newest: &Newest,
    history_generation: Option<Generation>,
) -> Result<(Metadata, Generation), StoreError> {
    let choice = &selection.choice;
    let seen = Generation::new(newest.restored.replayed.seen_generation);
    let used = [seen, history_generation].into_iter().flatten();
    let mut next_generation = used.fold(choice.next_generation, |next, used| next.max(used.next()));
    let is_fallback = newest.fallback_reason.is_some();
    if is_fallback && choice.primary.min_base_generation > newest.metadata.generation {
        invalidate(disk, &choice.primary, &newest.metadata, next_generation)?;
        next_generation = next_generation.next();
    }
    let committed = Metadata {
        closed: false,
        end_sequence: None,
        revision: newest.metadata.revision + 1,
        ..newest.metadata
    };
    let copies = selection.headers.copies[committed.heap as usize].as_ref();
    heap::rewrite_metadata(disk, &committed, copies)?;
    Ok((committed, next_generation))
}

/// Marks a corrupt newer heap as incomplete. The journal does not lead to its state, so later
/// records must not be applied to it.
fn invalidate(
    disk: &dyn StorageBackend,
    corrupt: &Metadata,
    committed: &Metadata,
    generation: Generation,
) -> Result<(), StoreError> {
    if heap::remove_if_broken(disk, LogicalFile::Heap(corrupt.heap))? {
        return Ok(());
    }
    let incomplete = Metadata {
        heap: corrupt.heap,
        part_bytes: corrupt.part_bytes,
        generation,
        complete: false,
        revision: 0,
        closed: false,
        end_sequence: None,
        ..*committed
    };
    heap::write_metadata(disk, &incomplete)?;
    heap::sync(disk, LogicalFile::Heap(corrupt.heap))
}
