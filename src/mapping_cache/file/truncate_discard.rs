//! Changes of length and storage that the caller requests: set the length, preallocate, discard.
//!
//! The module `extend` has those that a write needs.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::cached_file::CachedFile;
use super::open::WriteGuard;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::Access;
use crate::mapping_cache::range_lock::Sharing;
use crate::sys::{fallocate, statx, sync_file_range};

/// Written where the filesystem cannot make holes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl CachedFile {
    /// Sets the length of the file. Extending adds a hole, and truncating discards data. The next
    /// [`sync`](Self::sync) makes the length durable, even if it did not change.
    ///
    /// Waits for copies that overlap the bytes past the new end or the window of the new end. The
    /// new length holds for all caches of the process.
    ///
    /// # Errors
    ///
    /// - [`MappingError::RangeLocked`] if a span holds bytes past the new end.
    /// - [`MappingError::WindowPinned`] if a window of this cache that extends past the new end is
    ///   pinned.
    /// - [`MappingError::ReadOnly`] if the file is opened for reading only.
    /// - [`MappingError::StorageFull`] if the filesystem is full.
    /// - [`MappingError::FileTooShort`] if another process truncated the file.
    /// - Any other error of opening the file.
    ///
    /// The length does not change on error.
    pub fn set_len(&self, bytes: u64) -> Result<(), MappingError> {
        self.check_offset(bytes, 0)?;
        let _lock = self.lock_and_unmap_from(bytes)?;
        let writing = self.begin_write()?;
        let WriteGuard { state, file } = &writing;
        let _length = state.lock_length();
        let present = self.checked_len(state, file)?;
        if bytes == present {
            return Ok(());
        }
        let needed = bytes.saturating_sub(present);
        file.set_len(bytes)
            .map_err(|error| self.storage_error("set its length", needed, error))?;
        if bytes > present {
            state.storage.note_holes();
            state.storage.note_len(bytes);
        } else {
            state.storage.note_truncated(bytes);
        }
        Ok(())
    }

    /// Preallocates storage for a range, which may extend past the end of the file. The length does
    /// not change. [`preallocation_status`](Self::preallocation_status) returns the result.
    ///
    /// # Errors
    ///
    /// - [`MappingError::StorageFull`] if the filesystem is full.
    /// - [`MappingError::Unsupported`] if the filesystem cannot preallocate and the options select
    ///   [`PreallocationFallback::Fail`](crate::mapping_cache::PreallocationFallback::Fail).
    /// - [`MappingError::ReadOnly`] if the file is opened for reading only.
    /// - Any other error of opening the file.
    pub fn reserve(&self, range: Range<u64>) -> Result<(), MappingError> {
        let len = range.end.saturating_sub(range.start);
        self.check_offset(range.start, len)?;
        if len == 0 {
            return Ok(());
        }
        let writing = self.begin_write()?;
        let WriteGuard { state, file } = &writing;
        let _length = state.lock_length();
        let present = self.checked_len(state, file)?;
        self.preallocate_range(state, file, range, present)
    }

    /// Zeroes a range and frees its storage. If the filesystem cannot make holes, zeros are
    /// written. The length does not change, and bytes past the end are ignored. The next
    /// [`sync`](Self::sync) makes the change durable.
    ///
    /// # Errors
    ///
    /// - [`MappingError::RangeLocked`] if a span holds part of the range.
    /// - [`MappingError::ReadOnly`] if the file is opened for reading only.
    /// - [`MappingError::StorageFull`] if the filesystem has no space to record the hole.
    /// - Any other error of opening the file.
    pub fn discard(&self, range: Range<u64>) -> Result<(), MappingError> {
        let len = range.end.saturating_sub(range.start);
        self.check_offset(range.start, len)?;
        let _lock = self.lock_for_copy(range.clone(), Sharing::Exclusive)?;
        self.discard_locked(range)
    }

    /// Does the same as [`discard`](Self::discard) for a caller that has locked the range.
    pub(crate) fn discard_locked(&self, range: Range<u64>) -> Result<(), MappingError> {
        let writing = self.begin_write()?;
        let WriteGuard { state, file } = &writing;
        // Under the length lock, so that zeros neither extend the file nor follow a truncation.
        let _length = state.lock_length();
        let end = range.end.min(self.checked_len(state, file)?);
        if range.start >= end {
            return Ok(());
        }
        let len = end - range.start;
        state.storage.note_storage_freed(range.start);
        let discarded = match fallocate::punch(file, range.start, len) {
            Err(error) if fallocate::is_unsupported(&error) => write_zeros(file, range.start..end),
            discarded => discarded,
        };
        discarded.map_err(|error| self.storage_error("discard a range", len, error))
    }

    /// Drops the file from the page cache, so that the next read comes from the disk. Dirty pages
    /// are written first.
    ///
    /// A failure of that write is not returned here. The kernel marks pages as clean even if
    /// writing them failed, and this method is meant to drop such pages. Writes through this
    /// cache get their error from [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// - [`MappingError::WindowPinned`] if a window is pinned, since mapped pages stay.
    /// - [`MappingError::Io`] if the system call fails.
    /// - Any other error of opening the file.
    pub fn drop_page_cache(&self) -> Result<(), MappingError> {
        let (file, state) = self.descriptor(Access::ReadOnly)?;
        // The next `sync` returns the first error again. The second concerns other processes only.
        drop(state.sync(&self.path()));
        drop(file.sync_data());
        self.unmap_all(state)?;
        // The kernel treats a length of zero as "up to the end".
        sync_file_range::drop_cached(&file, 0, 0)
            .map_err(|source| self.io_error("drop it from the page cache", source))
    }
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    // Queried again, since another process may have truncated the file.
    let end = range.end.min(statx::len(file)?);
    let mut at = range.start;
    while at < end {
        let len = usize::try_from(end - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        file.write_all_at(&ZEROS[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
