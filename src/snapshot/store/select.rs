//! Selection of the heap to restore: the newest heap that is intact.

use std::io;

use super::restore::{Restored, restore_heap};
use crate::snapshot::backend::Disk;
use crate::snapshot::error::{SnapshotError, error_chain};
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{HeapName, Metadata};
use crate::snapshot::heap::{Choice, HeapHeaders, choose_heap, read_headers};
use crate::snapshot::journal::Start;
use crate::snapshot::options::StoreOptions;

/// Headers of both heaps, and the heaps to restore from.
pub(super) struct Selection {
    pub(super) headers: HeapHeaders,
    pub(super) choice: Choice,
}

/// Heap that was restored.
pub(super) struct Newest {
    pub(super) metadata: Metadata,
    pub(super) restored: Restored,
    /// Reason for restoring the fallback heap, if it was.
    pub(super) fallback_reason: Option<String>,
}

/// Selects the heap to restore by the headers.
pub(super) fn select(disk: &dyn Disk) -> Result<Selection, SnapshotError> {
    let selection = select_once(disk)?;
    if selection.choice.first.closed {
        return Ok(selection);
    }
    // The page cache may differ from the disk after an unclean shutdown [I3].
    drop_page_cache(disk)?;
    select_once(disk)
}

fn select_once(disk: &dyn Disk) -> Result<Selection, SnapshotError> {
    let headers = read_headers(disk)?;
    let choice = choose_heap(&headers.states[0], &headers.states[1])?;
    Ok(Selection { headers, choice })
}

fn drop_page_cache(disk: &dyn Disk) -> Result<(), SnapshotError> {
    let arrays = disk.arrays();
    for array in arrays.map_err(SnapshotError::disk("find", Array::Heap(HeapName::A)))? {
        disk.forget_cached(array)
            .map_err(SnapshotError::disk("drop the page cache of", array))?;
    }
    Ok(())
}

/// Fails if the options do not fit the stored state.
pub(super) fn check_options(
    metadata: &Metadata,
    options: &StoreOptions,
) -> Result<(), SnapshotError> {
    let refused = |option, reason| Err(SnapshotError::Option { option, reason });
    if let Some(part_bytes) = options.part_bytes
        && part_bytes != metadata.part_bytes
        && !options.change_part_bytes
    {
        let reason = format!(
            "{part_bytes}, but the store has parts of {} bytes; set `change_part_bytes` to convert them",
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
    disk: &dyn Disk,
    choice: &Choice,
    options: &StoreOptions,
) -> Result<Newest, SnapshotError> {
    match restore_heap(disk, &choice.first, Start::of(&choice.first), options) {
        Ok(restored) => Ok(Newest {
            metadata: choice.first,
            restored,
            fallback_reason: None,
        }),
        Err(error) if is_final(&error) => Err(error),
        Err(error) => restore_fallback(disk, choice, options, error),
    }
}

/// Returns whether the other heap would not help: the journal is corrupt after an intact heap, or
/// the memory or an option is unusable.
fn is_final(error: &SnapshotError) -> bool {
    matches!(
        error,
        SnapshotError::Damaged {
            array: Array::Journal(_),
            ..
        } | SnapshotError::Memory(_)
            | SnapshotError::Option { .. }
    )
}

fn restore_fallback(
    disk: &dyn Disk,
    choice: &Choice,
    options: &StoreOptions,
    first_error: SnapshotError,
) -> Result<Newest, SnapshotError> {
    let first = choice.first.heap;
    let unusable = |first_error, rest| SnapshotError::NothingGood {
        first,
        first_error: Box::new(first_error),
        rest,
    };
    let Some(second) = choice.second else {
        return Err(unusable(first_error, "and there is no other".to_owned()));
    };
    // Only the newest heap can record a clean shutdown.
    let second = Metadata {
        closed: false,
        end: None,
        ..second
    };
    let start = Start::instead_of(&choice.first, &second);
    match restore_heap(disk, &second, start, options) {
        // The newest heap may be readable later, and only that heap leads to the newest state.
        Ok(_) if is_storage_error(&first_error) && choice.first.floor > second.generation => {
            Err(first_error)
        }
        Ok(restored) => {
            let generation = choice.first.generation;
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
fn is_storage_error(error: &SnapshotError) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    let SnapshotError::Disk { source, .. } = error else {
        return false;
    };
    !matches!(source.kind(), InvalidData | NotFound | UnexpectedEof)
}
