//! I/O of one heap: its headers and its pages.

use std::ops::Range;

use super::checksum_tree::ChecksumTree;
use super::heap_selection::HeapState;
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::{CorruptionCause, StoreError};
use crate::snapshot::failpoint::{Failpoint, is_active};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{
    Copies, FAN, HALF_BYTES, HeaderError, HeapName, METADATA_BYTES, Metadata, PAGE_BYTES, hash_page,
};

/// Bytes read by one call.
const CHUNK_BYTES: usize = 1 << 20;

/// Returns the offset of a page in its heap.
pub(crate) fn offset_of(page: u64) -> u64 {
    METADATA_BYTES + page * PAGE_BYTES as u64
}

/// Reads both copies of METADATA. Returns `None` for a missing heap.
pub(crate) fn read_copies(
    disk: &dyn StorageBackend,
    name: HeapName,
) -> Result<Option<Copies>, StoreError> {
    let array = LogicalFile::Heap(name);
    let mut area = vec![0; METADATA_BYTES as usize];
    let present = match disk.len(array) {
        Ok(present) => present.min(METADATA_BYTES),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // A later part is missing or has a wrong length. The headers are in the first part.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => METADATA_BYTES,
        Err(error) => return Err(StoreError::disk("get the length of", array)(error)),
    };
    // An unreadable copy must not prevent the use of the other copy.
    let mut unread = [false; 2];
    for (half, unread) in unread.iter_mut().enumerate() {
        let start = half * HALF_BYTES as usize;
        let end = (start + HALF_BYTES as usize).min(present as usize);
        if start < end {
            let read = disk.read(array, start as u64, &mut area[start..end]);
            *unread = read.is_err();
        }
    }
    let mut copies = Copies::read(&area);
    for (copy, unread) in copies.0.iter_mut().zip(unread) {
        if unread {
            *copy = Err(HeaderError::Unreadable);
        }
    }
    Ok(Some(copies))
}

/// Returns the state of a heap from its copies of METADATA.
pub(crate) fn state(copies: Option<&Copies>) -> HeapState {
    copies.map_or(HeapState::Missing, HeapState::of)
}

/// Writes both copies of METADATA. They are durable after the next sync.
pub(crate) fn write_metadata(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
) -> Result<(), StoreError> {
    let array = LogicalFile::Heap(metadata.heap);
    let block = metadata.encode();
    for offset in [0, HALF_BYTES] {
        disk.write(array, offset, &block)
            .map_err(StoreError::disk("write METADATA of", array))?;
    }
    Ok(())
}

/// Rewrites METADATA of a committed heap, one copy at a time.
///
/// Each copy is durable before the other one is written, and an invalid copy is written first. One
/// copy is therefore valid after any crash.
pub(crate) fn rewrite_metadata(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
    copies: Option<&Copies>,
) -> Result<(), StoreError> {
    let array = LogicalFile::Heap(metadata.heap);
    let block = metadata.encode();
    let is_second_invalid = copies.is_some_and(|copies| copies.0[1].is_err());
    let mut offsets = [0, HALF_BYTES];
    if is_second_invalid {
        offsets.reverse();
    }
    for offset in offsets {
        disk.write(array, offset, &block)
            .map_err(StoreError::disk("write METADATA of", array))?;
        sync(disk, array)?;
    }
    Ok(())
}

/// Removes a file if one of its parts is missing or has a wrong length. Such a file cannot be
/// written. Returns whether it was removed.
pub(crate) fn remove_if_broken(
    disk: &dyn StorageBackend,
    array: LogicalFile,
) -> Result<bool, StoreError> {
    let is_broken = disk
        .len(array)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData);
    if is_broken {
        disk.remove(array)
            .map_err(StoreError::disk("remove", array))?;
    }
    Ok(is_broken)
}

/// Makes everything written to the file durable.
pub(crate) fn sync(disk: &dyn StorageBackend, array: LogicalFile) -> Result<(), StoreError> {
    disk.sync(array).map_err(StoreError::disk("sync", array))
}

/// Reads the image of a heap in order and verifies each page.
///
/// Calls `take` with runs of pages that have data, and `progress` with the number of pages read so
/// far.
pub(crate) fn read_image(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
    tree: &mut ChecksumTree,
    take: impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
    mut progress: impl FnMut(u64),
) -> Result<(), StoreError> {
    must_be_whole(disk, metadata)?;
    read_pages(
        disk,
        metadata,
        tree,
        0..metadata.pages(),
        take,
        &mut progress,
    )?;
    progress(metadata.pages());
    Ok(())
}

/// Fails if the heap is shorter than its header says.
pub(crate) fn must_be_whole(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
) -> Result<(), StoreError> {
    let array = LogicalFile::Heap(metadata.heap);
    let end = METADATA_BYTES + metadata.payload_bytes;
    let present = disk
        .len(array)
        .map_err(StoreError::disk("get the length of", array))?;
    if present < end {
        return Err(StoreError::Corrupt {
            file: array,
            offset: present,
            cause: CorruptionCause::TooShort {
                actual_bytes: present,
                required_bytes: end,
            },
        });
    }
    Ok(())
}

/// Reads and verifies a range of pages, as [`read_image`] does. The heap must have all of them.
pub(crate) fn read_pages<E: From<StoreError>>(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
    tree: &mut ChecksumTree,
    pages: Range<u64>,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    mut progress: impl FnMut(u64),
) -> Result<(), E> {
    let array = LogicalFile::Heap(metadata.heap);
    let (mut at, end) = (offset_of(pages.start), offset_of(pages.end));
    let mut buf = vec![0; (end - at).min(CHUNK_BYTES as u64) as usize];
    while at < end {
        let data = disk
            .next_data(array, at)
            .map_err(StoreError::disk("find data in", array))?;
        let data = data.map_or(end..end, |data| whole_pages(data, at, end));
        expect_zeros(disk, tree, at..data.start)?;
        at = data.start;
        while at < data.end {
            let len = (data.end - at).min(CHUNK_BYTES as u64) as usize;
            let chunk = &mut buf[..len];
            disk.read(array, at, chunk)
                .map_err(StoreError::disk("read", array))?;
            let first = (at - METADATA_BYTES) / PAGE_BYTES as u64;
            check_pages(disk, tree, metadata.seed(), array, first, chunk)?;
            take(first, chunk)?;
            at += len as u64;
            progress((at - METADATA_BYTES) / PAGE_BYTES as u64);
        }
    }
    Ok(())
}

/// Widens `data` to whole pages within `from..end`, which are page boundaries.
fn whole_pages(data: Range<u64>, from: u64, end: u64) -> Range<u64> {
    let page = PAGE_BYTES as u64;
    let start = (data.start / page * page).clamp(from, end);
    start..data.end.next_multiple_of(page).clamp(start, end)
}

fn check_pages(
    disk: &dyn StorageBackend,
    tree: &mut ChecksumTree,
    seed: u64,
    array: LogicalFile,
    first: u64,
    bytes: &[u8],
) -> Result<(), StoreError> {
    if is_active(Failpoint::IgnorePageChecksums) {
        return Ok(());
    }
    for (page, bytes) in (first..).zip(bytes.chunks_exact(PAGE_BYTES)) {
        if hash_page(seed, bytes) != tree.hash_of(disk, page)? {
            return Err(StoreError::Corrupt {
                file: array,
                offset: offset_of(page),
                cause: CorruptionCause::PageChecksum { page: page.into() },
            });
        }
    }
    Ok(())
}

/// Fails if a page of a hole has a hash of data.
fn expect_zeros(
    disk: &dyn StorageBackend,
    tree: &mut ChecksumTree,
    range: Range<u64>,
) -> Result<(), StoreError> {
    if is_active(Failpoint::IgnorePageChecksums) {
        return Ok(());
    }
    let page_of = |offset: u64| (offset - METADATA_BYTES) / PAGE_BYTES as u64;
    let (mut page, end) = (page_of(range.start), page_of(range.end));
    while page < end {
        let leaf_end = (page / FAN + 1) * FAN;
        let stop = leaf_end.min(end);
        let leaf = tree.leaf(disk, page)?;
        let within = (page % FAN) as usize..((stop - 1) % FAN) as usize + 1;
        if let Some(index) = leaf[within].iter().position(|hash| *hash != 0) {
            let page = page + index as u64;
            return Err(StoreError::Corrupt {
                file: tree.heap_file(),
                offset: offset_of(page),
                cause: CorruptionCause::PageChecksum { page: page.into() },
            });
        }
        page = stop;
    }
    Ok(())
}
