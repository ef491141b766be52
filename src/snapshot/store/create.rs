//! Creation of a store.

use crate::numbers::{Generation, JournalNumber, Sequence};
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{
    HeapName, METADATA_BYTES, Metadata, PAGE_BYTES, StoreId, is_part_length,
};
use crate::snapshot::heap;
use crate::snapshot::options::StoreOptions;
use crate::snapshot::random;
use std::time::SystemTime;

/// Creates a store that has generation 1 of a region of zeros, and publishes it [I19].
pub(super) fn create(disk: &dyn StorageBackend, options: &StoreOptions) -> Result<(), StoreError> {
    let name = HeapName::A;
    let part_bytes = disk.part_bytes();
    if !is_part_length(part_bytes) {
        return Err(StoreError::InvalidOption {
            option: "part_bytes",
            reason: format!("{part_bytes} is not a multiple of 64 KiB"),
        });
    }
    let payload_bytes = options.initial_bytes.next_multiple_of(PAGE_BYTES as u64);
    let metadata = Metadata {
        store_id: StoreId(random::id()),
        heap: name,
        closed: false,
        part_bytes,
        generation: Generation::FIRST,
        complete: true,
        revision: 0,
        payload_bytes,
        tree_root_hash: 0,
        last_sequence: Sequence::default(),
        last_record_checksum: 0,
        first_journal: JournalNumber::FIRST,
        end_sequence: None,
        committed_at: SystemTime::now(),
        min_base_generation: Generation::FIRST,
    };
    for array in [LogicalFile::Heap(name), LogicalFile::Table(name)] {
        disk.create(array)
            .map_err(StoreError::disk("create", array))?;
    }
    let array = LogicalFile::Heap(name);
    disk.set_len(array, METADATA_BYTES + payload_bytes)
        .map_err(StoreError::disk("set the length of", array))?;
    heap::write_metadata(disk, &metadata)?;
    heap::sync(disk, LogicalFile::Table(name))?;
    heap::sync(disk, array)?;
    disk.publish().map_err(StoreError::disk("publish", array))
}
