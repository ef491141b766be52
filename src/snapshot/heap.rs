//! One heap on disk: its headers, and the pages behind them.

use std::ops::Range;

use super::choose::HeapState;
use super::disk::{Array, Disk};
use super::error::{Damage, SnapshotError};
use super::fault::{Fault, seeded};
use super::format::{
    Copies, Defect, FAN, HALF_BYTES, HeapName, METADATA_BYTES, Metadata, PAGE_BYTES, hash_page,
};
use super::table::Table;

/// So much is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Where a page lies in its heap.
pub(crate) fn offset_of(page: u64) -> u64 {
    METADATA_BYTES + page * PAGE_BYTES as u64
}

/// What the headers of a heap say.
pub(crate) fn read_copies(
    disk: &dyn Disk,
    name: HeapName,
) -> Result<Option<Copies>, SnapshotError> {
    let array = Array::Heap(name);
    let mut area = vec![0; METADATA_BYTES as usize];
    let present = match disk.len(array) {
        Ok(present) => present.min(METADATA_BYTES),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // Its other parts are looked at when they are needed.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => METADATA_BYTES,
        Err(error) => return Err(SnapshotError::disk("ask the length of", array)(error)),
    };
    // One copy that cannot be read does not keep the other from being used.
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
            *copy = Err(Defect::Unreadable);
        }
    }
    Ok(Some(copies))
}

/// As [`read_copies`], judged.
pub(crate) fn state(copies: Option<&Copies>) -> HeapState {
    copies.map_or(HeapState::Absent, HeapState::of)
}

/// Writes both copies of METADATA; durable after the next sync.
pub(crate) fn write_metadata(disk: &dyn Disk, metadata: &Metadata) -> Result<(), SnapshotError> {
    let array = Array::Heap(metadata.heap);
    let block = metadata.encode();
    for offset in [0, HALF_BYTES] {
        disk.write(array, offset, &block)
            .map_err(SnapshotError::disk("write METADATA of", array))?;
    }
    Ok(())
}

/// Writes METADATA anew for a heap that others rely on: a copy at a time, each durable before the other is touched, and
/// first the one that is bad, so that no crash takes both.
pub(crate) fn rewrite_metadata(
    disk: &dyn Disk,
    metadata: &Metadata,
    copies: Option<&Copies>,
) -> Result<(), SnapshotError> {
    let array = Array::Heap(metadata.heap);
    let block = metadata.encode();
    let second_is_bad = copies.is_some_and(|copies| copies.0[1].is_err());
    let mut offsets = [0, HALF_BYTES];
    if second_is_bad {
        offsets.reverse();
    }
    for offset in offsets {
        disk.write(array, offset, &block)
            .map_err(SnapshotError::disk("write METADATA of", array))?;
        sync(disk, array)?;
    }
    Ok(())
}

/// Removes an array of which a part is missing or cut: it cannot be written, and nothing in it is relied on.
pub(crate) fn remove_if_broken(disk: &dyn Disk, array: Array) -> Result<bool, SnapshotError> {
    let is_broken = disk
        .len(array)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData);
    if is_broken {
        disk.remove(array)
            .map_err(SnapshotError::disk("remove", array))?;
    }
    Ok(is_broken)
}

/// Makes everything written to the array durable.
pub(crate) fn sync(disk: &dyn Disk, array: Array) -> Result<(), SnapshotError> {
    disk.sync(array).map_err(SnapshotError::disk("sync", array))
}

/// Reads the image of a heap in order, checking each page against its hash, and hands out the pages that are not zeros,
/// many at once. `progress` is told how many pages are done.
pub(crate) fn read_image(
    disk: &dyn Disk,
    metadata: &Metadata,
    table: &mut Table,
    take: impl FnMut(u64, &[u8]) -> Result<(), SnapshotError>,
    mut progress: impl FnMut(u64),
) -> Result<(), SnapshotError> {
    must_be_whole(disk, metadata)?;
    read_pages(
        disk,
        metadata,
        table,
        0..metadata.pages(),
        take,
        &mut progress,
    )?;
    progress(metadata.pages());
    Ok(())
}

/// The heap is as long as its header says.
pub(crate) fn must_be_whole(disk: &dyn Disk, metadata: &Metadata) -> Result<(), SnapshotError> {
    let array = Array::Heap(metadata.heap);
    let end = METADATA_BYTES + metadata.payload_bytes;
    let present = disk
        .len(array)
        .map_err(SnapshotError::disk("ask the length of", array))?;
    if present < end {
        return Err(SnapshotError::Damaged {
            array,
            offset: present,
            what: Damage::Short {
                present_bytes: present,
                needed_bytes: end,
            },
        });
    }
    Ok(())
}

/// As [`read_image`], of some pages, which are there.
pub(crate) fn read_pages<E: From<SnapshotError>>(
    disk: &dyn Disk,
    metadata: &Metadata,
    table: &mut Table,
    pages: Range<u64>,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    mut progress: impl FnMut(u64),
) -> Result<(), E> {
    let array = Array::Heap(metadata.heap);
    let (mut at, end) = (offset_of(pages.start), offset_of(pages.end));
    let mut buf = vec![0; (end - at).min(CHUNK_BYTES as u64) as usize];
    while at < end {
        let data = disk
            .next_data(array, at)
            .map_err(SnapshotError::disk("look for data in", array))?;
        let data = data.map_or(end..end, |data| whole_pages(data, at, end));
        expect_zeros(disk, table, at..data.start)?;
        at = data.start;
        while at < data.end {
            let len = (data.end - at).min(CHUNK_BYTES as u64) as usize;
            let chunk = &mut buf[..len];
            disk.read(array, at, chunk)
                .map_err(SnapshotError::disk("read", array))?;
            let first = (at - METADATA_BYTES) / PAGE_BYTES as u64;
            check_pages(disk, table, metadata.seed(), array, first, chunk)?;
            take(first, chunk)?;
            at += len as u64;
            progress((at - METADATA_BYTES) / PAGE_BYTES as u64);
        }
    }
    Ok(())
}

/// Widened to pages, but not before `from` and not past `end`. All three are at pages but `data`.
fn whole_pages(data: Range<u64>, from: u64, end: u64) -> Range<u64> {
    let page = PAGE_BYTES as u64;
    let start = (data.start / page * page).clamp(from, end);
    start..data.end.next_multiple_of(page).clamp(start, end)
}

fn check_pages(
    disk: &dyn Disk,
    table: &mut Table,
    seed: u64,
    array: Array,
    first: u64,
    bytes: &[u8],
) -> Result<(), SnapshotError> {
    if seeded(Fault::PageChecksumsIgnored) {
        return Ok(());
    }
    for (page, bytes) in (first..).zip(bytes.chunks_exact(PAGE_BYTES)) {
        if hash_page(seed, bytes) != table.hash_of(disk, page)? {
            return Err(SnapshotError::Damaged {
                array,
                offset: offset_of(page),
                what: Damage::Page { page },
            });
        }
    }
    Ok(())
}

/// The pages of a hole must be known as zeros.
fn expect_zeros(
    disk: &dyn Disk,
    table: &mut Table,
    range: Range<u64>,
) -> Result<(), SnapshotError> {
    if seeded(Fault::PageChecksumsIgnored) {
        return Ok(());
    }
    let page_of = |offset: u64| (offset - METADATA_BYTES) / PAGE_BYTES as u64;
    let (mut page, end) = (page_of(range.start), page_of(range.end));
    while page < end {
        let leaf_end = (page / FAN + 1) * FAN;
        let stop = leaf_end.min(end);
        let leaf = table.leaf(disk, page)?;
        let within = (page % FAN) as usize..((stop - 1) % FAN) as usize + 1;
        if let Some(bad) = leaf[within].iter().position(|hash| *hash != 0) {
            let page = page + bad as u64;
            return Err(SnapshotError::Damaged {
                array: table.heap_array(),
                offset: offset_of(page),
                what: Damage::Page { page },
            });
        }
        page = stop;
    }
    Ok(())
}
