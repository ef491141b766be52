//! Copy of an image as a store of its own.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use super::image::Image;
use super::inspect::StoreReader;
use crate::numbers::JournalNumber;
use crate::snapshot::backend::DirectoryBackend;
use crate::snapshot::backend::StorageBackend as _;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{METADATA_BYTES, Metadata};
use crate::snapshot::heap;

/// Unit in which journals are copied.
const STEP_BYTES: usize = 1 << 20;

impl Image {
    /// Creates a store with exactly this state: the heap, and the journal records that belong to
    /// the image.
    ///
    /// On filesystems with reflinks (XFS, btrfs) the stores share storage, so the time does not
    /// depend on the size of the region. Elsewhere all data except holes is copied. A checkpoint
    /// that has to write this heap waits.
    ///
    /// The new store has the same id and generation. It appears complete and durable, or not at
    /// all. Pages are not verified: corruption is copied, and is found when the new store is opened
    /// or verified.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Backend`] with `AlreadyExists` if `directory` exists and is not an empty
    ///   directory.
    /// - [`StoreError::Backend`] with another kind if a file cannot be read or written.
    /// - [`StoreError::Directory`] with `ResourceBusy` if the heap could not be locked and a
    ///   checkpoint has changed it.
    pub fn clone_to(&self, directory: impl AsRef<Path>) -> Result<(), StoreError> {
        let metadata = *self.metadata();
        let heap = LogicalFile::Heap(metadata.heap);
        let made = DirectoryBackend::create(directory.as_ref(), metadata.part_bytes);
        let target = made.map_err(StoreError::disk("clone", heap))?;

        let table = LogicalFile::Table(metadata.heap);
        let table_bytes = self.heap_lock.disk.len(table);
        let table_bytes = table_bytes.map_err(StoreError::disk("read the length of", table))?;
        self.clone_array(&target, table, 0..table_bytes)?;
        for (number, end) in self.journal_ends.iter() {
            self.copy_journal(&target, number, end)?;
        }
        let payload = METADATA_BYTES..METADATA_BYTES + metadata.payload_bytes;
        self.clone_array(&target, heap, payload)?;
        // The image has METADATA as it was read; a running writer may have changed it since. The
        // clone was not verified, so it must not look like a store after a clean shutdown.
        let own = Metadata {
            closed: false,
            end_sequence: None,
            committed_at: SystemTime::now(),
            ..metadata
        };
        heap::write_metadata(&target, &own)?;
        heap::sync(&target, heap)?;
        self.verify_unchanged()?;
        let made = StoreReader::open(target.dir())?.newest_to_clone()?;
        if !made.is_same_state(self) {
            let differs = io::Error::other("the copy differs from the image");
            return Err(StoreError::disk("clone", heap)(differs));
        }
        let published = target.publish();
        published.map_err(StoreError::disk("publish the clone of", heap))
    }

    /// Whether both images are equal byte for byte, as far as checksums show.
    pub(in crate::snapshot) fn is_same_state(&self, other: &Self) -> bool {
        let identity = |image: &Self| {
            let heap = image.metadata();
            let journal = (image.sequence(), image.chain);
            (
                heap.store_id,
                heap.tree_root_hash,
                heap.payload_bytes,
                heap.last_sequence,
                journal,
            )
        };
        identity(self) == identity(other)
    }

    fn clone_array(
        &self,
        target: &DirectoryBackend,
        array: LogicalFile,
        range: Range<u64>,
    ) -> Result<(), StoreError> {
        let cloned = self.heap_lock.disk.clone_array(array, target, range);
        cloned.map_err(StoreError::disk("clone", array))?;
        heap::sync(target, array)
    }

    /// Copies instead of sharing storage: preallocation past the end of a journal with shared
    /// storage has no effect on btrfs.
    fn copy_journal(
        &self,
        target: &DirectoryBackend,
        number: JournalNumber,
        end: u64,
    ) -> Result<(), StoreError> {
        let array = LogicalFile::Journal(number);
        let source = &self.heap_lock.disk;
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
        copy().map_err(StoreError::disk("copy", array))?;
        heap::sync(target, array)
    }
}
