//! Creation of a store.

use crate::snapshot::backend::Disk;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{
    HeapName, METADATA_BYTES, Metadata, PAGE_BYTES, StoreId, is_part_length,
};
use crate::snapshot::heap;
use crate::snapshot::options::StoreOptions;
use crate::snapshot::random;
use std::time::SystemTime;

/// Creates a store that has generation 1 of a region of zeros, and publishes it [I19].
pub(super) fn create(disk: &dyn Disk, options: &StoreOptions) -> Result<(), SnapshotError> {
    let name = HeapName::A;
    let part_bytes = disk.part_bytes();
    if !is_part_length(part_bytes) {
        return Err(SnapshotError::Option {
            option: "part_bytes",
            reason: format!("{part_bytes} is not a multiple of 64 KiB"),
        });
    }
    let payload_bytes = options.initial_bytes.next_multiple_of(PAGE_BYTES as u64);
    let metadata = Metadata {
        store: StoreId(random::id()),
        heap: name,
        closed: false,
        part_bytes,
        generation: 1,
        released: true,
        revision: 0,
        payload_bytes,
        root: 0,
        sequence: 0,
        chain: 0,
        journal: 1,
        end: None,
        committed_at: SystemTime::now(),
        floor: 1,
    };
    for array in [Array::Heap(name), Array::Table(name)] {
        disk.create(array)
            .map_err(SnapshotError::disk("create", array))?;
    }
    let array = Array::Heap(name);
    disk.set_len(array, METADATA_BYTES + payload_bytes)
        .map_err(SnapshotError::disk("set the length of", array))?;
    heap::write_metadata(disk, &metadata)?;
    heap::sync(disk, Array::Table(name))?;
    heap::sync(disk, array)?;
    disk.publish()
        .map_err(SnapshotError::disk("publish", array))
}
