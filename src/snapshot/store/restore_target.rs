//! Region that a state is restored into, and the changes of journal records in it.

use std::os::fd::OwnedFd;

use crate::snapshot::backend::Disk;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{Change, METADATA_BYTES, Metadata, PAGE_BYTES};
use crate::snapshot::memory::pages_of;
use crate::snapshot::options::{Memory, StoreOptions};
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::{Region, RegionError, RegionOptions, RestoredPart};

/// Creates the region of the memory source, with `payload_bytes` unless it has its content already.
pub(crate) fn to_copy_into(
    payload_bytes: u64,
    options: &StoreOptions,
) -> Result<Region, SnapshotError> {
    let region = region_options(options);
    // Lossless: within the reserved addresses.
    let len = payload_bytes as usize;
    let duplicate = |memfd: &OwnedFd| {
        let failed = RegionError::io("duplicate a descriptor");
        memfd.try_clone().map_err(failed)
    };
    Ok(match &options.memory {
        Memory::Private => Region::anonymous(len, region)?,
        Memory::Shared => Region::memfd(len, region)?,
        Memory::Adopted(memfd) => Region::adopted(duplicate(memfd)?, len, region)?,
        Memory::Live(memfd) => Region::live(duplicate(memfd)?, region)?,
    })
}

fn region_options(options: &StoreOptions) -> RegionOptions {
    let region_options = RegionOptions::default()
        // Lossless: `StoreOptions::check` has checked it.
        .reserve_bytes(options.reserve_bytes as usize)
        .huge_pages(options.huge_pages);
    match options.address {
        Some(address) => region_options.fixed_address(address),
        None => region_options,
    }
}

/// Maps PAYLOAD privately, one part file after the other.
pub(crate) fn map(
    disk: &dyn Disk,
    metadata: &Metadata,
    options: &StoreOptions,
) -> Result<Region, SnapshotError> {
    let array = Array::Heap(metadata.heap);
    let end = METADATA_BYTES + metadata.payload_bytes;
    let mut parts = Vec::new();
    let mut at = METADATA_BYTES;
    while at < end {
        let part = at / metadata.part_bytes;
        let stop = ((part + 1) * metadata.part_bytes).min(end);
        let file = disk.part_file(array, part);
        let file = file.map_err(SnapshotError::disk("map", array))?;
        let file = file.ok_or_else(|| SnapshotError::Option {
            option: "restore",
            reason: "the storage backend has no files to map".to_owned(),
        })?;
        parts.push(RestoredPart {
            file,
            offset: at % metadata.part_bytes,
            bytes: (stop - at) as usize,
        });
        at = stop;
    }
    let len = metadata.payload_bytes as usize;
    Ok(Region::restored(parts, len, region_options(options))?)
}

/// Applies the changes of a record to the region.
pub(crate) fn apply(
    region: &Region,
    payload_bytes: u64,
    changes: &[(u64, Change<'_>)],
    changed: &mut PageSet,
) -> Result<(), SnapshotError> {
    let before = region.len() as u64;
    let len = usize::try_from(payload_bytes).unwrap_or(usize::MAX);
    if payload_bytes < before {
        region.shrink(len)?;
    } else if payload_bytes > before {
        region.grow(len)?;
    }
    let lengths = before.min(payload_bytes)..before.max(payload_bytes);
    changed.insert_range(pages_of(&lengths));
    for (offset, change) in changes {
        let len = match change {
            Change::Bytes(bytes) => {
                region.copy_in(*offset as usize, bytes)?;
                bytes.len() as u64
            }
            Change::Zeros(len) => {
                zero(region, *offset, *len)?;
                *len
            }
        };
        changed.insert_range(pages_of(&(*offset..offset + len)));
    }
    Ok(())
}

fn zero(region: &Region, offset: u64, len: u64) -> Result<(), SnapshotError> {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    let page = PAGE_BYTES as u64;
    let end = offset + len;
    let whole = offset.next_multiple_of(page).min(end)..(end / page * page).max(offset);
    let write_zeros =
        |from: u64, to: u64| region.copy_in(from as usize, &ZEROS[..(to - from) as usize]);
    if whole.start >= whole.end {
        let middle = offset.next_multiple_of(page).clamp(offset, end);
        write_zeros(offset, middle)?;
        write_zeros(middle, end)?;
        return Ok(());
    }
    write_zeros(offset, whole.start)?;
    region.discard(whole.start as usize..whole.end as usize)?;
    write_zeros(whole.end, end)?;
    Ok(())
}
