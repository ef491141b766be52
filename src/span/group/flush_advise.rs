//! Flush, sync, advice, prefetch and eviction of the files of a range.

use std::ops::{Range, RangeBounds};

use super::entry::GroupEntry;
use super::group::Group;
use crate::mapping_cache::{Advice, CachedFile, FlushMode, MappingError};
use crate::span::error::GroupError;

impl Group {
    /// Writes a range to the disk.
    ///
    /// With [`FlushMode::Sync`], all data written to the files of the range is durable on return.
    /// New directory entries are synced by [`sync_all`](Self::sync_all) only.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::File`] with [`MappingError::SyncFailed`] if a sync fails. The file is
    ///   poisoned.
    pub fn flush(&self, range: impl RangeBounds<u64>, mode: FlushMode) -> Result<(), GroupError> {
        if mode == FlushMode::Sync {
            // Start all writes before waiting for the first, so that the waits overlap.
            self.for_each_file_range(&range, |file, part| file.flush(part, FlushMode::Async))?;
        }
        self.for_each_file_range(&range, |file, part| file.flush(part, mode))
    }

    /// Makes all writes to the group durable: data, lengths, and the directory entries of new
    /// files. Entries that other groups of the same cache made become durable, too.
    ///
    /// # Errors
    ///
    /// - [`GroupError::File`] with the first [`MappingError::SyncFailed`]. The other files are
    ///   synced. The file that failed is poisoned.
    pub fn sync_all(&self) -> Result<(), GroupError> {
        let files = || self.entries.iter().filter_map(GroupEntry::file);
        for file in files() {
            // Overlaps the waits of the syncs, which report any failure.
            drop(file.flush(0..file.declared_bytes(), FlushMode::Async));
        }
        let synced: Vec<_> = files().map(CachedFile::sync).collect();
        let directories = self.cache.sync_directories();
        for result in synced {
            result?;
        }
        Ok(directories?)
    }

    /// Makes the creation and removal of files durable by syncing their directories.
    ///
    /// # Errors
    ///
    /// - [`GroupError::File`] with [`MappingError::SyncFailed`] and the directory.
    pub(crate) fn sync_directories(&self) -> Result<(), GroupError> {
        Ok(self.cache.sync_directories()?)
    }

    /// Advises the kernel about the expected use of a range (madvise(2)).
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::File`] if a file cannot be opened or memory cannot be locked.
    pub fn advise(&self, range: impl RangeBounds<u64>, advice: Advice) -> Result<(), GroupError> {
        self.for_each_file_range(&range, |file, part| file.advise(part, advice))
    }

    /// Requests that the kernel reads a range soon, without waiting. Missing files are skipped.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::File`] if a file cannot be opened.
    pub fn prefetch(&self, range: impl RangeBounds<u64>) -> Result<(), GroupError> {
        self.for_each_file_range(&range, |file, part| match file.prefetch(part) {
            Err(MappingError::NotFound { .. }) => Ok(()),
            result => result,
        })
    }

    /// Returns whether all of a range is in memory. Padding always is. Bytes that a file lacks are
    /// not.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::File`] if a file cannot be opened or mapped.
    pub fn is_resident(&self, range: impl RangeBounds<u64>) -> Result<bool, GroupError> {
        let mut resident = true;
        self.for_each_file_range(&range, |file, part| {
            resident = resident
                && match file.is_resident(part) {
                    Err(MappingError::NotFound { .. }) => false,
                    result => result?,
                };
            Ok(())
        })?;
        Ok(resident)
    }

    /// Unmaps the windows of a range that are not pinned. Returns the number of unmapped bytes.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    pub fn evict(&self, range: impl RangeBounds<u64>) -> Result<u64, GroupError> {
        let mut bytes = 0;
        self.for_each_file_range(&range, |file, part| {
            bytes += file.evict(part)?;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Whether a range contains anything but padding and holes. Bytes that a file lacks count as
    /// data.
    pub(in crate::span) fn has_data(&self, range: Range<u64>) -> Result<bool, GroupError> {
        Ok(self.next_data(range)?.is_some())
    }

    /// Whether the byte at this offset is in the page cache. `false` if its file cannot be read.
    #[cfg(feature = "rayon")]
    pub(in crate::span) fn is_cached(&self, offset: u64) -> bool {
        let Ok(mut extents) = self.layout.extents(offset..offset + 1) else {
            return false;
        };
        extents.all(
            |extent| match self.entries[extent.entry].file_range(extent) {
                Some((file, part)) => {
                    matches!(file.read_page_cache_at(part.start, &mut [0]), Ok(Some(1)))
                }
                None => true,
            },
        )
    }

    /// Whether any file is stored on a rotational device.
    #[cfg(feature = "rayon")]
    pub(in crate::span) fn is_rotational(&self) -> bool {
        let mut files = self.entries.iter().filter_map(GroupEntry::file);
        files.any(|file| matches!(file.is_rotational(), Ok(true)))
    }

    pub(super) fn for_each_file_range(
        &self,
        range: &impl RangeBounds<u64>,
        mut act: impl FnMut(&CachedFile, Range<u64>) -> Result<(), MappingError>,
    ) -> Result<(), GroupError> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        for extent in self.layout.extents(bounds)? {
            if let Some((file, part)) = self.entries[extent.entry].file_range(extent) {
                act(file, part)?;
            }
        }
        Ok(())
    }
}
