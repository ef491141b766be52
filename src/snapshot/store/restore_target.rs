//! Region that a state is restored into, and the changes of journal records in it.

use std::os::fd::OwnedFd;

use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{Change, METADATA_BYTES, Metadata, PAGE_BYTES};
use crate::snapshot::memory::pages_of;
use crate::snapshot::options::{MemorySource, StoreOptions};
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::{PrivateFilePart, Region, RegionError, RegionOptions};

/// Creates the region of the memory source, with `payload_bytes` unless it has its content already.
pub(crate) fn to_copy_into(
    payload_bytes: u64,
    options: &StoreOptions,
) -> Result<Region, StoreError> {
    let region = region_options(options);
    // Lossless: within the reserved addresses.
    let len = payload_bytes as usize;
    let duplicate = |memfd: &OwnedFd| {
        let failed = RegionError::io("duplicate a descriptor");
        memfd.try_clone().map_err(failed)
    };
    Ok(match &options.memory_source {
        MemorySource::Private => Region::new_anonymous(len, region)?,
        MemorySource::NewMemfd => Region::new_memfd(len, region)?,
        MemorySource::RestoreInto(memfd) => Region::reset_memfd(duplicate(memfd)?, len, region)?,
        MemorySource::Attach(memfd) => Region::attach_memfd(duplicate(memfd)?, region)?,
    })
}

fn region_options(options: &StoreOptions) -> RegionOptions {
    let region_options = RegionOptions::default()
        // Lossless: `StoreOptions::check` has checked it.
        .reserve_bytes(options.reserve_bytes as usize)
        .huge_pages(options.huge_pages);
    match options.fixed_address {
        Some(address) => region_options.fixed_address(address),
        None => region_options,
    }
}

/// Maps PAYLOAD privately, one part file after the other.
pub(crate) fn map(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
    options: &StoreOptions,
) -> Result<Region, StoreError> {
    let array = LogicalFile::Heap(metadata.heap);
    let end = METADATA_BYTES + metadata.payload_bytes;
    let mut parts = Vec::new();
    let mut at = METADATA_BYTES;
    while at < end {
        let part = at / metadata.part_bytes;
        let stop = ((part + 1) * metadata.part_bytes).min(end);
        let file = disk.part_file(array, part);
        let file = file.map_err(StoreError::disk("map", array))?;
        let file = file.ok_or_else(|| StoreError::InvalidOption {
            option: "restore",
            reason: "the storage backend has no files to map".to_owned(),
        })?;
        parts.push(PrivateFilePart {
            file,
            offset: at % metadata.part_bytes,
            bytes: (stop - at) as usize,
        });
        at = stop;
    }
    let len = metadata.payload_bytes as usize;
    Ok(Region::map_private_files(
        parts,
        len,
        region_options(options),
    )?)
}

/// Applies the changes of a record to the region.
pub(crate) fn apply(
    region: &Region,
    payload_bytes: u64,
    changes: &[(u64, Change<'_>)],
    changed: &mut PageSet,
) -> Result<(), StoreError> {
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
                region.write_at(*offset as usize, bytes)?;
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

fn zero(region: &Region, offset: u64, len: u64) -> Result<(), StoreError> {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    let page = PAGE_BYTES as u64;
    let end = offset + len;
    let whole = offset.next_multiple_of(page).min(end)..(end / page * page).max(offset);
    let write_zeros =
        |from: u64, to: u64| region.write_at(from as usize, &ZEROS[..(to - from) as usize]);
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
