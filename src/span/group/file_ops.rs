//! Operations on the files of a group: create, resize, preallocate, punch holes, find data.

use std::fs::File;
use std::ops::{Range, RangeBounds};

use super::entry::{EntryBody, GroupEntry};
use super::group::Group;
use crate::mapping_cache::{CachedFile, MappingError};
use crate::span::error::GroupError;

impl Group {
    /// Creates the file of an entry, which must not exist. Its directory is synced by
    /// [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::File`] if the file exists, the group is read-only or the disk is full.
    pub fn create_file(&self, entry: usize) -> Result<(), GroupError> {
        Ok(self.file_of(entry)?.create_new()?)
    }

    /// Creates the file of an entry if it is missing, and extends it to its declared length if it
    /// is shorter. Returns the length of the file, which is larger if the file was longer.
    ///
    /// Ignores [`GroupBuilder::create`](super::GroupBuilder::create). Any number of threads, groups
    /// and processes may call this at the same time. Bytes that exist are kept; added bytes are a
    /// hole unless the options of the group preallocate them.
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::File`] if the group is read-only, the disk is full, or the file cannot be
    ///   opened.
    ///
    /// # Examples
    ///
    /// ```
    /// use flatspan::mapping_cache::Access;
    /// use flatspan::span::Group;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let root = directory.path();
    /// let builder = Group::builder(root).access(Access::ReadWrite);
    /// let group = builder.file("a", 1000).open()?;
    /// assert_eq!(group.create_or_extend_file(0)?, 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_or_extend_file(&self, entry: usize) -> Result<u64, GroupError> {
        Ok(self.file_of(entry)?.create_or_extend()?)
    }

    /// Returns the actual length of the file of an entry, in bytes. An entry that is a range of a
    /// file returns the length of the whole file.
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::File`] if the file is missing or cannot be opened.
    pub fn actual_bytes(&self, entry: usize) -> Result<u64, GroupError> {
        Ok(self.file_of(entry)?.actual_bytes()?)
    }

    /// Sets the length of the file of an entry, up to its declared length.
    ///
    /// Added bytes are a hole, removed bytes are lost. The file becomes dirty even if the length
    /// does not change.
    ///
    /// # Errors
    ///
    /// The length is unchanged on error.
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::InvalidArgument`] if `bytes` exceeds the declared length, or if the entry is
    ///   a range of a file.
    /// - [`GroupError::File`] if a span or a pin extends past the new end, the group is read-only,
    ///   the disk is full, or another process changed the length.
    pub fn set_file_len(&self, entry: usize, bytes: u64) -> Result<(), GroupError> {
        let file = self.file_of(entry)?;
        let invalid = |reason: String| GroupError::InvalidArgument {
            argument: "bytes",
            reason,
        };
        if let EntryBody::File { is_range: true, .. } = self.entries[entry].body {
            return Err(invalid(format!("entry {entry} is a range of a file")));
        }
        let declared_bytes = file.declared_bytes();
        if bytes > declared_bytes {
            return Err(invalid(format!(
                "{bytes} exceeds the declared length of {declared_bytes} bytes"
            )));
        }
        Ok(file.set_len(bytes)?)
    }

    /// Preallocates storage for a range regardless of the options, without changing the length of
    /// any file.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::File`] if a file cannot be opened or the disk is full. The preallocation of
    ///   the files before it remains.
    pub fn reserve(&self, range: impl RangeBounds<u64>) -> Result<(), GroupError> {
        self.for_each_file_range(&range, CachedFile::reserve)
    }

    /// Replaces a range by zeros, and frees its storage where the filesystem supports it. The
    /// lengths of the files do not change.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::File`] if a span holds the range, the group is read-only or a file fails.
    pub fn discard(&self, range: impl RangeBounds<u64>) -> Result<(), GroupError> {
        let range = self.layout.resolve_range(range)?;
        let _locks = self.lock_for_writing(range.clone())?;
        self.for_each_file_range(&range, CachedFile::discard_locked)
    }

    /// Returns the first part of a range that may contain other bytes than zero: it is neither
    /// padding nor a hole.
    ///
    /// Bytes that a file lacks count as data. The part ends with its file.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::File`] if a file cannot be opened.
    pub fn next_data(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<Option<Range<u64>>, GroupError> {
        for extent in self.layout.extents(range)? {
            let Some((file, part)) = self.entries[extent.entry].file_range(extent) else {
                continue;
            };
            if let Some(run) = file.next_data(part.start, part.end)? {
                let start = self.layout.bounds(extent.entry).start + extent.offset;
                let in_group = |offset: u64| start + (offset - part.start);
                return Ok(Some(in_group(run.start)..in_group(run.end)));
            }
        }
        Ok(None)
    }

    /// Drops the files from the page cache, so that the next read comes from the disk. Missing
    /// files are skipped. See [`CachedFile::drop_page_cache`].
    ///
    /// # Errors
    ///
    /// Some files may remain in the page cache on error.
    ///
    /// - [`GroupError::File`] if a window is pinned or a file cannot be opened.
    pub fn drop_page_cache(&self) -> Result<(), GroupError> {
        for file in self.entries.iter().filter_map(GroupEntry::file) {
            match file.drop_page_cache() {
                Ok(()) | Err(MappingError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Opens a new descriptor of the file of an entry for reading.
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::File`] if the file cannot be opened.
    pub(crate) fn open_file(&self, entry: usize) -> Result<File, GroupError> {
        Ok(self.file_of(entry)?.open_read_only()?)
    }

    fn file_of(&self, entry: usize) -> Result<&CachedFile, GroupError> {
        let file = self.entries.get(entry).and_then(GroupEntry::file);
        file.ok_or_else(|| self.no_such_file(entry))
    }
}
