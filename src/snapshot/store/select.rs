//! Selection of the heap to restore: the newest heap that is intact.

use std::io;

use super::restore::{Restored, restore_heap};
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::{StoreError, error_chain};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{HeapName, Metadata};
use crate::snapshot::heap::{HeapHeaders, HeapSelection, choose_heap, read_headers};
use crate::snapshot::journal::Start;
use crate::snapshot::options::StoreOptions;

/// Headers of both heaps, and the heaps to restore from.
pub(super) struct Selection {
    pub(super) headers: HeapHeaders,
    pub(super) choice: HeapSelection,
}

/// Heap that was restored.
pub(super) struct Newest {
    pub(super) metadata: Metadata,
    pub(super) restored: Restored,
    /// Reason for restoring the fallback heap, if it was.
    pub(super) fallback_reason: Option<String>,
}

/// Selects the heap to restore by the headers.
pub(super) fn select(disk: &dyn StorageBackend) -> Result<Selection, StoreError> {
    let selection = select_once(disk)?;
    if selection.choice.primary.closed {
        return Ok(selection);
    }
    // The page cache may differ from the disk after an unclean shutdown [I3].
    drop_page_cache(disk)?;
    select_once(disk)
}

fn select_once(disk: &dyn StorageBackend) -> Result<Selection, StoreError> {
    let headers = read_headers(disk)?;
    let choice = choose_heap(&headers.states[0], &headers.states[1])?;
    Ok(Selection { headers, choice })
}

fn drop_page_cache(disk: &dyn StorageBackend) -> Result<(), StoreError> {
    let arrays = disk.files();
    for array in arrays.map_err(StoreError::disk("find", LogicalFile::Heap(HeapName::A)))? {
        disk.drop_page_cache(array)
            .map_err(StoreError::disk("drop the page cache of", array))?;
    }
    Ok(())
}

/// Fails if the options do not fit the stored state.
pub(super) fn check_options(metadata: &Metadata, options: &StoreOptions) -> Result<(), StoreError> {
    let refused = |option, reason| Err(StoreError::InvalidOption { option, reason });
    if let Some(part_bytes) = options.part_bytes
        && part_bytes != metadata.part_bytes
        && !options.convert_part_bytes
    {
        let reason = format!(
            "{part_bytes}, but the store has parts of {} bytes; set `convert_part_bytes` to convert them",
            metadata.part_bytes
        );
        return refused("part_bytes", reason);
    }
    if metadata.payload_bytes > options.reserve_bytes {
        let reason = format!(
            "{} is less than the {} bytes that are stored",
            options.reserve_bytes, metadata.payload_bytes
        );
        return refused("reserve_bytes", reason);
    }
    Ok(())
}

/// Restores the newest intact heap.
pub(super) fn restore_newest(
    disk: &dyn StorageBackend,
    choice: &HeapSelection,
    options: &StoreOptions,
) -> Result<Newest, StoreError> {
    match restore_heap(disk, &choice.primary, Start::of(&choice.primary), options) {
        Ok(restored) => Ok(Newest {
            metadata: choice.primary,
            restored,
            fallback_reason: None,
        }),
        Err(error) if is_final(&error) => Err(error),
        Err(error) => restore_fallback(disk, choice, options, error),
    }
}

/// Returns whether the other heap would not help: the journal is corrupt after an intact heap, or
/// the memory or an option is unusable.
fn is_final(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Corrupt {
            file: LogicalFile::Journal(_),
            ..
        } | StoreError::Region(_)
            | StoreError::InvalidOption { .. }
    )
}

fn restore_fallback(
    disk: &dyn StorageBackend,
    choice: &HeapSelection,
    options: &StoreOptions,
    first_error: StoreError,
) -> Result<Newest, StoreError> {
    let first = choice.primary.heap;
    let unusable = |first_error, rest| StoreError::NoUsableHeap {
        first,
        first_error: Box::new(first_error),
        rest,
    };
    let Some(second) = choice.fallback else {
        return Err(unusable(first_error, "and there is no other".to_owned()));
    };
    // Only the newest heap can record a clean shutdown.
    let second = Metadata {
        closed: false,
        end_sequence: None,
        ..second
    };
    let start = Start::instead_of(&choice.primary, &second);
    match restore_heap(disk, &second, start, options) {
        // The newest heap may be readable later, and only that heap leads to the newest state.
        Ok(_)
            if is_storage_error(&first_error)
                && choice.primary.min_base_generation > second.generation =>
        {
            Err(first_error)
        }
        Ok(restored) => {
            let generation = choice.primary.generation;
            let reason = error_chain(&first_error);
            Ok(Newest {
                metadata: second,
                restored,
                fallback_reason: Some(format!("heap {first}, generation {generation}: {reason}")),
            })
        }
        Err(error) => {
            let rest = format!("heap {} too ({})", second.heap, error_chain(&error));
            Err(unusable(first_error, rest))
        }
    }
}

/// Returns whether the storage failed to read existing bytes.
fn is_storage_error(error: &StoreError) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    let StoreError::Backend { source, .. } = error else {
        return false;
    };
    !matches!(source.kind(), InvalidData | NotFound | UnexpectedEof)
}
