//! Positioned reads and writes of a group.

use super::group::Group;
use super::layout::Extent;
use crate::span::error::GroupError;

impl Group {
    /// Reads bytes from `offset` and returns their number.
    ///
    /// The read stops when `buf` is full, at the end of the group, or before the first byte that
    /// cannot be read. The number is zero only at the end of the group or for an empty `buf`. An
    /// error after the first byte is not returned here, but by a read that starts at the failing
    /// byte.
    ///
    /// By default the copy uses positioned I/O and maps nothing
    /// ([`CopyMethod::Auto`](crate::mapping_cache::CopyMethod::Auto)).
    ///
    /// # Errors
    ///
    /// - [`GroupError::File`] if the first byte cannot be read, for example with
    ///   [`MappingError::NotFound`], [`MappingError::FileTooShort`] or
    ///   [`MappingError::RangeLocked`].
    ///
    /// [`MappingError::NotFound`]: crate::mapping_cache::MappingError::NotFound
    /// [`MappingError::FileTooShort`]: crate::mapping_cache::MappingError::FileTooShort
    /// [`MappingError::RangeLocked`]: crate::mapping_cache::MappingError::RangeLocked
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, GroupError> {
        let end = offset.saturating_add(buf.len() as u64).min(self.len());
        if offset >= end {
            return Ok(0);
        }
        let (_locks, end, error) = self.lock_readable_prefix(offset..end)?;
        if let Some(error) = error
            && end == offset
        {
            return Err(error);
        }
        let mut done = 0;
        for extent in self.layout.extents(offset..end)? {
            // Lossless: the extents together are no longer than `buf`.
            let part = &mut buf[done..done + extent.len as usize];
            match self.read_extent(extent, part) {
                (copied, None) => done += copied,
                (0, Some(error)) if done == 0 => return Err(error),
                (copied, Some(_)) => return Ok(done + copied),
            }
        }
        Ok(done)
    }

    /// Reads exactly `buf.len()` bytes from `offset`. Copies as [`read_at`](Self::read_at) does.
    ///
    /// # Errors
    ///
    /// The content of `buf` is unspecified on error.
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group. Nothing is read.
    /// - [`GroupError::File`] if any byte of the range cannot be read, as for
    ///   [`read_at`](Self::read_at).
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), GroupError> {
        let range = self.range_at(offset, buf.len())?;
        let (_locks, _, error) = self.lock_for_reading(range)?;
        match error {
            Some(error) => Err(error),
            None => self.read_exact_locked(offset, buf),
        }
    }

    /// Reads exactly `buf.len()` bytes of a range that the caller has locked.
    pub(in crate::span) fn read_exact_locked(
        &self,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), GroupError> {
        let mut done = 0;
        for extent in self.extents_at(offset, buf.len())? {
            let part = &mut buf[done..done + extent.len as usize];
            if let (_, Some(error)) = self.read_extent(extent, part) {
                return Err(error);
            }
            done += part.len();
        }
        Ok(())
    }

    /// Writes bytes at `offset`, up to the end of the group, and returns their number.
    ///
    /// # Errors
    ///
    /// - [`GroupError::UnexpectedEof`] if `offset` is at or after the end of the group.
    /// - The errors of [`write_all_at`](Self::write_all_at).
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<usize, GroupError> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(available) = self.len().checked_sub(offset).filter(|bytes| *bytes > 0) else {
            return Err(GroupError::UnexpectedEof {
                group_bytes: self.len(),
            });
        };
        let len = usize::try_from(available).map_or(buf.len(), |bytes| bytes.min(buf.len()));
        self.write_all_at(offset, &buf[..len])?;
        Ok(len)
    }

    /// Writes all of `buf` at `offset`. The options of the group decide whether files are created,
    /// extended and preallocated.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group. Nothing is written.
    /// - [`GroupError::WriteToPadding`] if bytes other than zero would be written to padding.
    /// - [`GroupError::File`] if a file fails, for example with [`MappingError::ReadOnly`] or
    ///   [`MappingError::StorageFull`]. The files before it are written.
    ///
    /// [`MappingError::ReadOnly`]: crate::mapping_cache::MappingError::ReadOnly
    /// [`MappingError::StorageFull`]: crate::mapping_cache::MappingError::StorageFull
    pub fn write_all_at(&self, offset: u64, buf: &[u8]) -> Result<(), GroupError> {
        let range = self.range_at(offset, buf.len())?;
        let _locks = self.lock_for_writing(range)?;
        self.write_all_locked(offset, buf)
    }

    /// Writes all of `buf` to a range that the caller has locked.
    pub(in crate::span) fn write_all_locked(
        &self,
        offset: u64,
        buf: &[u8],
    ) -> Result<(), GroupError> {
        let mut done = 0;
        for extent in self.extents_at(offset, buf.len())? {
            let part = &buf[done..done + extent.len as usize];
            self.entries[extent.entry].write(extent, part)?;
            done += part.len();
        }
        Ok(())
    }

    /// Reads an extent. Returns the bytes that were read, and the error if they are not all of it.
    fn read_extent(&self, extent: Extent, buf: &mut [u8]) -> (usize, Option<GroupError>) {
        let entry = &self.entries[extent.entry];
        let copied = match entry.read(extent, buf) {
            Ok(copied) if copied == buf.len() => return (copied, None),
            Ok(copied) => copied,
            Err(error) => return (0, Some(error.into())),
        };
        // A disk error in the middle is reported as a short count: the next read returns the error.
        let rest = Extent {
            offset: extent.offset + copied as u64,
            len: extent.len - copied as u64,
            ..extent
        };
        match entry.read(rest, &mut buf[copied..]) {
            Err(error) => (copied, Some(error.into())),
            // Another process has extended the file between the reads.
            Ok(more) if copied + more == buf.len() => (buf.len(), None),
            Ok(more) => (copied + more, Some(entry.too_short(extent))),
        }
    }
}
