//! An image as a store of its own.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::facts::StoreReader;
use super::image::Image;
use crate::snapshot::backend::Disk;
use crate::snapshot::backend::GroupDisk;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{METADATA_BYTES, Metadata};
use crate::snapshot::heap::{self, now};
use crate::snapshot::journal::{Record, record_bytes};

/// A journal is copied in such steps.
const STEP_BYTES: usize = 1 << 20;

/// How much of each journal file belongs to an image.
#[derive(Clone, Debug, Default)]
pub(super) struct JournalEnds(BTreeMap<u64, u64>);

impl JournalEnds {
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let end = record.offset + record_bytes(&record.header);
        self.0.insert(record.journal, end);
    }
}

impl Image {
    /// Makes a store of exactly this image: its heap, and as much of the journal as belongs to it. Where the filesystem can, they
    /// share storage (xfs, btrfs), and this takes no longer for a larger region; elsewhere all that is not a hole is copied. A
    /// checkpoint that wants this heap waits meanwhile.
    ///
    /// The new store has the same id and generation. It appears as a whole, durably, or not at all. Its pages are not verified:
    /// what is damaged here is damaged there, and is found by whoever opens or verifies it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` in [`SnapshotError::Disk`] where there is anything but an empty directory; those of the disk; `ResourceBusy`
    /// in [`SnapshotError::Directory`] if the heap could not be locked and a checkpoint has entered it.
    pub fn clone_to(&self, directory: impl AsRef<Path>) -> Result<(), SnapshotError> {
        let metadata = *self.metadata();
        let heap = Array::Heap(metadata.heap);
        let made = GroupDisk::create(directory.as_ref(), metadata.part_bytes);
        let target = made.map_err(SnapshotError::disk("make a clone of", heap))?;

        let table = Array::Table(metadata.heap);
        let table_bytes = self.hold.disk.len(table);
        let table_bytes = table_bytes.map_err(SnapshotError::disk("ask the length of", table))?;
        self.clone_array(&target, table, 0..table_bytes)?;
        for (number, end) in &self.journal_ends.0 {
            self.copy_journal(&target, *number, *end)?;
        }
        let payload = METADATA_BYTES..METADATA_BYTES + metadata.payload_bytes;
        self.clone_array(&target, heap, payload)?;
        // METADATA is of the image as it was found: a running writer may have gone on from there. Nobody has verified the clone, so it
        // counts as one that was not closed.
        let own = Metadata {
            closed: false,
            end: 0,
            committed_at: now(),
            ..metadata
        };
        heap::write_metadata(&target, &own)?;
        heap::sync(&target, heap)?;
        self.check_unchanged()?;
        let made = StoreReader::open(target.dir())?.newest_to_clone()?;
        if !made.is_same_state(self) {
            let differs = io::Error::other("what was copied is not what was there");
            return Err(SnapshotError::disk("make a clone of", heap)(differs));
        }
        let published = target.publish();
        published.map_err(SnapshotError::disk("publish a clone of", heap))
    }

    /// Is it the same, byte for byte, as far as checksums tell?
    pub(in crate::snapshot) fn is_same_state(&self, other: &Self) -> bool {
        let identity = |image: &Self| {
            let heap = image.metadata();
            let journal = (image.sequence(), image.chain);
            (
                heap.store,
                heap.root,
                heap.payload_bytes,
                heap.sequence,
                journal,
            )
        };
        identity(self) == identity(other)
    }

    fn clone_array(
        &self,
        target: &GroupDisk,
        array: Array,
        range: Range<u64>,
    ) -> Result<(), SnapshotError> {
        let cloned = self.hold.disk.clone_array(array, target, range);
        cloned.map_err(SnapshotError::disk("clone", array))?;
        heap::sync(target, array)
    }

    /// Copied, not shared: what is reserved behind the end of a journal that shares storage is worth nothing on btrfs.
    fn copy_journal(&self, target: &GroupDisk, number: u64, end: u64) -> Result<(), SnapshotError> {
        let array = Array::Journal(number);
        let source = &self.hold.disk;
        let copy = || {
            target.set_part_bytes(array, source.part_bytes_of(array))?;
            target.create(array)?;
            let mut buf = vec![0; STEP_BYTES];
            for at in (0..end).step_by(STEP_BYTES) {
                let buf = &mut buf[..STEP_BYTES.min((end - at) as usize)];
                source.read(array, at, buf)?;
                target.write(array, at, buf)?;
            }
            Ok(())
        };
        copy().map_err(SnapshotError::disk("copy", array))?;
        heap::sync(target, array)
    }
}
