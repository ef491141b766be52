//! The memory that a state is restored into.

use std::os::fd::OwnedFd;

use super::disk::{Array, Disk};
use super::error::SnapshotError;
use super::format::{METADATA_BYTES, Metadata};
use super::options::{Memory, StoreOptions};
use super::region::{Region, RegionError, RegionOptions, RestoredPart};

/// Memory for so many bytes, or memory that has its content.
pub(crate) fn to_copy_into(
    payload_bytes: u64,
    options: &StoreOptions,
) -> Result<Region, SnapshotError> {
    let region = region_options(options);
    // Lossless: no more than is reserved.
    let len = payload_bytes as usize;
    let own = |memfd: &OwnedFd| {
        let failed = RegionError::io("duplicate a descriptor");
        memfd.try_clone().map_err(failed)
    };
    Ok(match &options.memory {
        Memory::Private => Region::anonymous(len, region)?,
        Memory::Shared => Region::memfd(len, region)?,
        Memory::Adopted(memfd) => Region::adopted(own(memfd)?, len, region)?,
        Memory::Live(memfd) => Region::live(own(memfd)?, region)?,
    })
}

fn region_options(options: &StoreOptions) -> RegionOptions {
    RegionOptions {
        // Lossless: checked by the options.
        reserve_bytes: options.reserve_bytes as usize,
        address: options.address,
        huge_pages: options.huge_pages,
    }
}

/// PAYLOAD as private memory, file by file.
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
            reason: "this disk has no files to map".to_owned(),
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
