//! Construction of errors that name a cached file.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::cached_file::CachedFile;
use crate::mapping_cache::error::{MappingError, is_storage_full};
use crate::mapping_cache::options::Access;
use crate::sys::{rlimits, statvfs};

impl CachedFile {
    pub(in crate::mapping_cache) fn path(&self) -> PathBuf {
        self.location.full_path()
    }

    pub(in crate::mapping_cache) fn io_error(
        &self,
        operation: &'static str,
        source: io::Error,
    ) -> MappingError {
        if is_storage_full(&source) {
            return self.storage_full_error(0, source);
        }
        MappingError::Io {
            path: self.path(),
            operation,
            source,
        }
    }

    /// The error of an operation that needed storage for `needed_bytes` bytes.
    pub(in crate::mapping_cache) fn storage_error(
        &self,
        operation: &'static str,
        needed_bytes: u64,
        error: io::Error,
    ) -> MappingError {
        if is_storage_full(&error) {
            self.storage_full_error(needed_bytes, error)
        } else {
            self.io_error(operation, error)
        }
    }

    fn storage_full_error(&self, needed_bytes: u64, source: io::Error) -> MappingError {
        let path = self.path();
        // Used in the message only. 0 if the filesystem does not report it.
        let available_bytes = statvfs::available_bytes(&path).unwrap_or(0);
        MappingError::StorageFull {
            path,
            required_bytes: needed_bytes,
            available_bytes,
            source,
        }
    }

    pub(in crate::mapping_cache) fn too_short_error(
        &self,
        needed_bytes: u64,
        present_bytes: u64,
    ) -> MappingError {
        MappingError::FileTooShort {
            path: self.path(),
            required_bytes: needed_bytes,
            actual_bytes: present_bytes,
        }
    }

    pub(in crate::mapping_cache) fn read_only_error(&self) -> MappingError {
        MappingError::ReadOnly { path: self.path() }
    }

    pub(in crate::mapping_cache) fn window_pinned_error(&self, window: u64) -> MappingError {
        MappingError::WindowPinned {
            path: self.path(),
            offset: self.resources.windows.start(window),
        }
    }

    /// Returns an error if a range ends past 2^63 - 1, the largest offset of a file.
    pub(in crate::mapping_cache) fn check_offset(
        &self,
        offset: u64,
        len: u64,
    ) -> Result<(), MappingError> {
        let end = offset.checked_add(len);
        if end.is_some_and(|end| i64::try_from(end).is_ok()) {
            return Ok(());
        }
        let path = self.path();
        Err(MappingError::OffsetOverflow { path, offset, len })
    }

    /// Returns an error if the file is shorter than `end` bytes now.
    pub(crate) fn must_reach(&self, end: u64) -> Result<(), MappingError> {
        let present = self.actual_bytes()?;
        if present < end {
            return Err(self.too_short_error(end, present));
        }
        Ok(())
    }

    /// The error of populating the pages of a range.
    pub(crate) fn page_error(
        &self,
        range: Range<u64>,
        access: Access,
        error: io::Error,
    ) -> MappingError {
        match error.raw_os_error() {
            Some(libc::EFAULT) => self.bad_page(range, access),
            _ => self.io_error("populate its pages", error),
        }
    }

    /// The error of a page in a range that cannot be read, stored or populated: the error that
    /// positioned I/O would return.
    pub(crate) fn bad_page(&self, range: Range<u64>, access: Access) -> MappingError {
        match self.actual_bytes() {
            Err(error) => error,
            Ok(present) if present < range.end => self.too_short_error(range.end, present),
            Ok(_) if access == Access::ReadWrite || self.is_readable(range.clone()) => {
                let len = range.end - range.start;
                self.storage_full_error(len, io::ErrorKind::StorageFull.into())
            }
            Ok(_) => MappingError::Poisoned {
                path: self.path(),
                offset: range.start,
            },
        }
    }

    /// Returns whether positioned reads of a range succeed. Mapping a hole of a tmpfs needs
    /// storage, and reading it does not.
    fn is_readable(&self, range: Range<u64>) -> bool {
        let mut buf = [0; 4096];
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(buf.len() as u64) as usize;
            match self.read_locked(at, &mut buf[..len]) {
                Ok(copied) if copied == len => at += len as u64,
                _ => return false,
            }
        }
        true
    }

    /// The error of opening the file.
    pub(super) fn open_error(&self, source: io::Error) -> MappingError {
        let path = self.path();
        if is_out_of_descriptors(&source) {
            let descriptors_max = rlimits::descriptors_max();
            return MappingError::TooManyDescriptors {
                path,
                descriptors_max,
            };
        }
        match source.raw_os_error() {
            Some(libc::ENOENT) => MappingError::NotFound { path },
            Some(libc::EXDEV) => MappingError::OutsideRoot { path },
            Some(libc::ELOOP) => MappingError::NotRegularFile {
                path,
                found: "a symlink",
            },
            Some(libc::EISDIR) => MappingError::NotRegularFile {
                path,
                found: "a directory",
            },
            Some(libc::ENXIO | libc::ENODEV) => MappingError::NotRegularFile {
                path,
                found: "a socket, FIFO or device",
            },
            _ => self.io_error("open", source),
        }
    }
}

pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
