//! Headers of both heaps, and the part length that they record.

use std::path::Path;

use super::heap_io::{read_copies, state};
use super::heap_selection::HeapState;
use crate::mapping_cache::Access;
use crate::snapshot::backend::{DEFAULT_PART_BYTES, DirectoryBackend, StorageBackend};
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{Copies, HeapName};

/// METADATA of both heaps, as stored.
pub(crate) struct HeapHeaders {
    pub(crate) copies: [Option<Copies>; 2],
    pub(crate) states: [HeapState; 2],
}

/// Reads the headers of both heaps and sets the part lengths of their files.
pub(crate) fn read_headers(disk: &dyn StorageBackend) -> Result<HeapHeaders, StoreError> {
    let mut copies = [None, None];
    for (entry, name) in copies.iter_mut().zip([HeapName::A, HeapName::B]) {
        *entry = read_copies(disk, name)?;
    }
    let states = [0, 1].map(|heap: usize| state(copies[heap].as_ref()));
    for (name, state) in [HeapName::A, HeapName::B].into_iter().zip(&states) {
        // The parts after the first one can be read from here on.
        for array in [LogicalFile::Heap(name), LogicalFile::Table(name)] {
            if let Some(metadata) = state.metadata() {
                disk.set_part_bytes(array, metadata.part_bytes)
                    .map_err(StoreError::disk("use", array))?;
            }
        }
    }
    Ok(HeapHeaders { copies, states })
}

/// Returns the part length of the newest heap. It must be known before a file of several parts can
/// be read.
pub(crate) fn stored_part_bytes(directory: &Path) -> Result<u64, StoreError> {
    // METADATA is in the first part, whatever the length of the parts.
    const LONG_BYTES: u64 = 1 << 40;
    let disk = open_read_only(directory, LONG_BYTES)?;
    let mut found = Vec::new();
    for name in [HeapName::A, HeapName::B] {
        let copies = read_copies(&disk, name)?;
        found.extend(copies.and_then(|copies| copies.state()));
    }
    let newest = found.iter().max_by_key(|metadata| metadata.generation);
    match newest {
        Some(metadata) => Ok(metadata.part_bytes),
        // Reading the headers reports what is wrong with them.
        None if disk.files().is_ok_and(|arrays| !arrays.is_empty()) => Ok(DEFAULT_PART_BYTES),
        None => Err(StoreError::NotAStore {
            path: directory.to_path_buf(),
            reason: "it has files, but none of a heap".to_owned(),
        }),
    }
}

/// Opens the files of a store for reading.
pub(crate) fn open_read_only(
    directory: &Path,
    part_bytes: u64,
) -> Result<DirectoryBackend, StoreError> {
    let disk = DirectoryBackend::open(directory, part_bytes, Access::ReadOnly);
    disk.map_err(|source| StoreError::Directory {
        path: directory.to_path_buf(),
        operation: "open",
        source,
    })
}
