//! Giving a file another length, room ahead, or holes, as its owner says: not as writing it needs (that is in `length`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use super::claims::Sharing;
use super::entry::FileEntry;
use super::error::MappingError;
use super::file::{CachedFile, Writing};
use super::options::Access;
use crate::sys::{fallocate, statx};

/// Written where no holes can be made.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl CachedFile {
    /// Makes the file this long: what is added is a hole, what is cut off is gone. Durable with the next
    /// [`sync`](Self::sync), also where the length was this before.
    ///
    /// Copies that are going on behind the new end are waited for. To other caches of the process a file that was
    /// cut is one that somebody has cut: [`abandon`](Self::abandon) it there.
    ///
    /// # Errors
    ///
    /// [`MappingError::Busy`] where a span lies behind the new end, [`MappingError::WindowPinned`] for a pin, of
    /// this cache, of a window that reaches behind it; [`MappingError::ReadOnly`], [`MappingError::StorageFull`],
    /// [`MappingError::ShortFile`] when somebody has cut the file; those of opening it. Then it is as long as before.
    pub fn set_len(&self, bytes: u64) -> Result<(), MappingError> {
        let behind = usize::try_from(i64::MAX as u64 - bytes.min(i64::MAX as u64));
        self.check_offset(bytes, 0)?;
        let _claim =
            self.claim_for_copy(bytes, behind.unwrap_or(usize::MAX), Sharing::Exclusive)?;
        let writing = self.begin_write()?;
        let Writing { entry, file } = &writing;
        self.unmap_behind(entry, bytes)?;
        let _length = entry.lock_length();
        let present = self.uncut_len(entry, file)?;
        if bytes == present {
            return Ok(());
        }
        let needed = bytes.saturating_sub(present);
        file.set_len(bytes)
            .map_err(|error| self.room_error("set its length", needed, error))?;
        if bytes > present {
            entry.note_holes();
            entry.saw_len(bytes);
        } else {
            entry.was_cut_to(bytes);
            entry.reserved_to.fetch_min(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Unmaps what reaches behind a new end. Not under the length lock: who maps waits for it.
    fn unmap_behind(&self, entry: &FileEntry, bytes: u64) -> Result<(), MappingError> {
        if bytes >= entry.known_bytes() {
            return Ok(());
        }
        self.evict(bytes..u64::MAX)?;
        let windows = self.core.windows;
        let pinned = entry.slots.iter().find(|(window, slots)| {
            let pins = |access| slots.slot(access).pins();
            *window >= windows.of(bytes) && pins(Access::ReadOnly) + pins(Access::ReadWrite) > 0
        });
        match pinned {
            None => Ok(()),
            Some((window, _)) => {
                let (path, offset) = (self.path(), windows.start(window));
                Err(MappingError::WindowPinned { path, offset })
            }
        }
    }

    /// Reserves storage for a range, also behind the end of the file, without changing its length. What came of it
    /// [`reservation`](Self::reservation) tells.
    ///
    /// # Errors
    ///
    /// [`MappingError::StorageFull`]; [`MappingError::Unsupported`] if the options say so; [`MappingError::ReadOnly`];
    /// those of opening the file.
    pub fn reserve(&self, range: Range<u64>) -> Result<(), MappingError> {
        let len = range.end.saturating_sub(range.start);
        self.check_range(range.start, len)?;
        if len == 0 {
            return Ok(());
        }
        let writing = self.begin_write()?;
        let Writing { entry, file } = &writing;
        let _length = entry.lock_length();
        let present = self.uncut_len(entry, file)?;
        self.reserve_storage(entry, file, range, present)
    }

    /// Makes a range zeros and gives its storage back; where the filesystem cannot, zeros are written. The length
    /// stays: what of the range lies behind the end of the file is left alone. Durable with the next
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// [`MappingError::Busy`] beside a span; [`MappingError::ReadOnly`]; [`MappingError::StorageFull`], as a
    /// filesystem may want room to note a hole; those of opening the file.
    pub fn discard(&self, range: Range<u64>) -> Result<(), MappingError> {
        let len = range.end.saturating_sub(range.start);
        self.check_range(range.start, len)?;
        // Lossless where files can be mapped: at most 2^63 - 1.
        let claimed = usize::try_from(len).unwrap_or(usize::MAX);
        let _claim = self.claim_for_copy(range.start, claimed, Sharing::Exclusive)?;
        self.discard_claimed(range)
    }

    /// As [`discard`](Self::discard), for who has a claim.
    pub(crate) fn discard_claimed(&self, range: Range<u64>) -> Result<(), MappingError> {
        let writing = self.begin_write()?;
        let Writing { entry, file } = &writing;
        // So that zeros make nothing longer, nor are put where somebody cuts.
        let _length = entry.lock_length();
        let end = range.end.min(self.uncut_len(entry, file)?);
        if range.start >= end {
            return Ok(());
        }
        let len = end - range.start;
        entry.reserved_to.fetch_min(range.start, Ordering::Relaxed);
        let done = match fallocate::punch(file, range.start, len) {
            Err(error) if fallocate::is_unsupported(&error) => write_zeros(file, range.start..end),
            Ok(()) => {
                entry.note_holes();
                Ok(())
            }
            failed => failed,
        };
        done.map_err(|error| self.room_error("discard some of it", len, error))
    }

    /// What is read next comes from the disk: writes what the page cache has, then drops it. Whether the former
    /// succeeds is not said here: pages whose writing failed look clean to the kernel and better than they are
    /// (hazard 3), and these are the ones to get rid of. Writes made through this cache have their error from
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// [`MappingError::WindowPinned`], as mapped pages stay; [`MappingError::Io`]; those of opening the file.
    pub fn forget_cached(&self) -> Result<(), MappingError> {
        let (file, entry) = self.descriptor(Access::ReadOnly)?;
        // Heard of by who syncs; and a file of another process's writes has nobody to tell.
        let _ = entry.sync(&self.path());
        let _ = file.sync_data();
        if !entry.evict_all().1 {
            let (path, offset) = (self.path(), 0);
            return Err(MappingError::WindowPinned { path, offset });
        }
        // No length is all that follows.
        crate::sys::sync_file_range::drop_cached(&file, 0, 0)
            .map_err(|source| self.io("drop what is in memory of it", source))
    }

    fn check_range(&self, offset: u64, len: u64) -> Result<(), MappingError> {
        match offset.checked_add(len) {
            Some(end) if i64::try_from(end).is_ok() => Ok(()),
            _ => {
                let path = self.path();
                Err(MappingError::Offset { path, offset, len })
            }
        }
    }
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    // Asked once more: another process may have cut it.
    let end = range.end.min(statx::len(file)?);
    let mut at = range.start;
    while at < end {
        let len = usize::try_from(end - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        file.write_all_at(&ZEROS[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
