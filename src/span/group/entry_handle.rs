//! Positioned I/O relative to one entry of a group.

use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::Path;

use super::entry::EntryKind;
use super::group::Group;
use crate::span::error::GroupError;

/// Handle of one entry, from [`Group::entry`]. Offsets are relative to the start of the entry.
///
/// ```
/// use flatspan::mapping_cache::Access;
/// use flatspan::span::Group;
///
/// # let directory = tempfile::tempdir()?;
/// # let root = directory.path();
/// let builder = Group::builder(root).access(Access::ReadWrite).create(true);
/// let group = builder.file("a", 3).file("b", 5).open()?;
/// let b = group.entry(1)?;
/// b.write_all_at(1, b"end")?;
/// let mut bytes = [0; 3];
/// group.read_exact_at(4, &mut bytes)?;
/// assert_eq!(&bytes, b"end");
/// assert!(b.write_all_at(3, b"end").is_err(), "b has five bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EntryHandle<'g> {
    group: &'g Group,
    entry: usize,
}

impl Group {
    /// Returns a handle of an entry, for reads and writes relative to its start.
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist.
    pub fn entry(&self, entry: usize) -> Result<EntryHandle<'_>, GroupError> {
        if entry >= self.entries.len() {
            return Err(self.no_such_file(entry));
        }
        Ok(EntryHandle { group: self, entry })
    }
}

impl<'g> EntryHandle<'g> {
    /// Returns the number of the entry in the group.
    #[must_use]
    pub fn index(&self) -> usize {
        self.entry
    }

    /// Returns the path as given to the builder. It is empty for padding.
    #[must_use]
    pub fn path(&self) -> &'g Path {
        &self.group.entries[self.entry].path
    }

    /// Returns the kind of the entry.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        self.group.entries[self.entry].kind()
    }

    /// Returns the byte range of the entry in the group.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.group.layout.bounds(self.entry)
    }

    /// Returns the declared length of the entry in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        let range = self.range();
        range.end - range.start
    }

    /// Returns whether the declared length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range().is_empty()
    }

    /// Reads bytes from `offset` and returns their number, as [`Group::read_at`]. The read stops at
    /// the end of the entry.
    ///
    /// # Errors
    ///
    /// The errors of [`Group::read_at`].
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, GroupError> {
        let available = self.len().saturating_sub(offset);
        let len = usize::try_from(available).map_or(buf.len(), |bytes| bytes.min(buf.len()));
        if len == 0 {
            return Ok(0);
        }
        let at = self.range().start + offset;
        self.group.read_at(at, &mut buf[..len])
    }

    /// Reads exactly `buf.len()` bytes from `offset`, as [`Group::read_exact_at`].
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfEntry`] if the range exceeds the entry. Nothing is read.
    /// - The errors of [`Group::read_exact_at`].
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), GroupError> {
        let at = self.offset_in_group(offset, buf.len() as u64)?;
        self.group.read_exact_at(at, buf)
    }

    /// Reads bytes from `offset` into all buffers, as [`Group::read_exact_vectored_at`].
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfEntry`] if the range exceeds the entry. Nothing is read.
    /// - The errors of [`Group::read_exact_vectored_at`].
    pub fn read_exact_vectored_at(
        &self,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<(), GroupError> {
        let len = bufs.iter().map(|buf| buf.len() as u64).sum();
        let at = self.offset_in_group(offset, len)?;
        self.group.read_exact_vectored_at(at, bufs)
    }

    /// Writes all of `buf` at `offset`, as [`Group::write_all_at`].
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfEntry`] if the range exceeds the entry. Nothing is written.
    /// - The errors of [`Group::write_all_at`].
    pub fn write_all_at(&self, offset: u64, buf: &[u8]) -> Result<(), GroupError> {
        let at = self.offset_in_group(offset, buf.len() as u64)?;
        self.group.write_all_at(at, buf)
    }

    /// Writes all buffers, one after the other, from `offset` on, as
    /// [`Group::write_all_vectored_at`].
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfEntry`] if the range exceeds the entry. Nothing is written.
    /// - The errors of [`Group::write_all_vectored_at`].
    pub fn write_all_vectored_at(
        &self,
        offset: u64,
        bufs: &[IoSlice<'_>],
    ) -> Result<(), GroupError> {
        let len = bufs.iter().map(|buf| buf.len() as u64).sum();
        let at = self.offset_in_group(offset, len)?;
        self.group.write_all_vectored_at(at, bufs)
    }

    fn offset_in_group(&self, offset: u64, len: u64) -> Result<u64, GroupError> {
        let entry_bytes = self.len();
        if offset.checked_add(len).is_none_or(|end| end > entry_bytes) {
            return Err(GroupError::OutOfEntry {
                entry: self.entry,
                path: self.path().to_path_buf(),
                range: format!("{offset} + {len}"),
                entry_bytes,
            });
        }
        Ok(self.range().start + offset)
    }
}
