//! One logical file of a store: a group of part files. `part_files` keeps all parts full but the
//! last.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::io_context::in_context;
use super::part_files::{FileParts, Shape, parts_in};
use crate::mapping_cache::{Access, FlushMode, MappingError};
use crate::snapshot::file_names::LogicalFile;
use crate::span::{Group, GroupError};
use crate::sys::statvfs;

impl FileParts {
    /// Opens the parts of an existing file. `group` has no entries. Fails with `NotFound` without
    /// parts.
    pub(super) fn open(
        array: LogicalFile,
        part_bytes: u64,
        access: Access,
        group: Group,
    ) -> io::Result<Self> {
        let files = Self::new(array, part_bytes, access, group);
        files.rescan(&mut files.write_shape())?;
        Ok(files)
    }

    /// Creates the first part. Fails with `AlreadyExists` if a part exists.
    pub(super) fn create(
        array: LogicalFile,
        part_bytes: u64,
        access: Access,
        group: Group,
    ) -> io::Result<Self> {
        let files = Self::new(array, part_bytes, access, group);
        {
            let mut shape = files.write_shape();
            let root = shape.group.root();
            if let Some(part) = parts_in(root, array)?.first() {
                let path = root.join(array.part_name(*part));
                let error = io::ErrorKind::AlreadyExists.into();
                return Err(in_context(&path, "create the file", &error));
            }
            files.add_part(&mut shape)?;
        }
        Ok(files)
    }

    /// Returns the present length. Reads it again if another process may write the file.
    pub(super) fn len(&self) -> io::Result<u64> {
        if self.access == Access::ReadOnly {
            self.rescan(&mut self.write_shape())?;
        }
        self.read_shape().refuse_broken()?;
        Ok(self.known_len())
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = Self::end_of(offset, buf.len())?;
        if end > self.known_len() && self.access == Access::ReadOnly {
            // Another process may have extended the file.
            self.rescan(&mut self.write_shape())?;
        }
        let shape = self.read_shape();
        self.require_len(&shape, end)?;
        Ok(shape.group.read_exact_at(offset, buf)?)
    }

    pub(super) fn write(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let end = Self::end_of(offset, buf.len())?;
        loop {
            let shape = self.read_shape();
            shape.refuse_broken()?;
            if end <= self.start_of(shape.parts) {
                shape.group.write_all_at(offset, buf)?;
                if !buf.is_empty() {
                    self.len.fetch_max(end, Ordering::AcqRel);
                }
                return Ok(());
            }
            drop(shape);
            self.add_parts_for(&mut self.write_shape(), end)?;
        }
    }

    pub(super) fn start_writing(&self, range: Range<u64>) {
        // This is a hint. A later sync reports the error.
        drop(self.read_shape().group.flush(range, FlushMode::Async));
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        let mut shape = self.write_shape();
        shape.refuse_broken()?;
        self.add_parts_for(&mut shape, len)?;
        while shape.parts > 1 && self.start_of(shape.parts - 1) >= len {
            self.remove_last(&mut shape)?;
            self.sync_entries(&shape)?;
        }
        let last = shape.parts - 1;
        shape.group.set_file_len(last, len - self.start_of(last))?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Reserves storage. Parts that do not exist yet are only compared with the free space.
    pub(super) fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        let shape = self.read_shape();
        shape.refuse_broken()?;
        let requested = range.end.saturating_sub(range.start);
        for part in 0..shape.parts {
            let inside =
                range.start.max(self.start_of(part))..range.end.min(self.start_of(part + 1));
            if inside.start < inside.end {
                let unreserved = range.end - inside.start;
                shape.group.reserve(inside).map_err(|error| {
                    self.storage_error(&shape, requested, unreserved, error.into())
                })?;
            }
        }
        let unreserved = range
            .end
            .saturating_sub(range.start.max(self.start_of(shape.parts)));
        if unreserved > statvfs::available_bytes(shape.group.root())? {
            let error = io::ErrorKind::StorageFull.into();
            return Err(self.storage_error(&shape, requested, unreserved, error));
        }
        Ok(())
    }

    pub(super) fn discard(&self, range: Range<u64>) -> io::Result<()> {
        let shape = self.read_shape();
        shape.refuse_broken()?;
        self.require_len(&shape, range.end)?;
        Ok(shape.group.discard(range)?)
    }

    pub(super) fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let shape = self.read_shape();
        let len = self.known_len();
        if offset >= len {
            return Ok(None);
        }
        Ok(shape.group.next_data(offset..len)?)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.refuse_failed()?;
        let synced = self.read_shape().group.sync_all();
        self.keep_failure(synced)
    }

    pub(super) fn forget_cached(&self) -> io::Result<()> {
        Ok(self.read_shape().group.drop_page_cache()?)
    }

    /// Removes the parts, the last one first, so that a crash leaves the first parts of the file.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut shape = self.write_shape();
        let root = shape.group.root().to_path_buf();
        for part in parts_in(&root, self.array)?.into_iter().rev() {
            // Parts after a gap belong to no valid file. If the parts are broken, remove them all.
            if part >= shape.parts as u64 || shape.broken.is_some() {
                let path = root.join(self.array.part_name(part));
                fs::remove_file(&path).map_err(|error| in_context(&path, "remove it", &error))?;
            }
        }
        if shape.broken.is_some() {
            shape.parts = 0;
        }
        while shape.parts > 0 {
            self.remove_last(&mut shape)?;
            if shape.parts > 0 {
                self.sync_entries(&shape)?;
            }
        }
        shape.broken = Some(format!(
            "{}: removed",
            root.join(self.array.to_string()).display()
        ));
        Ok(())
    }

    /// Copies a range to the same offset of another file, in this or another backend. Extends that
    /// file if necessary.
    pub(super) fn clone_range(&self, to: &Self, range: Range<u64>) -> io::Result<()> {
        if std::ptr::eq(self, to) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.require_len(&self.read_shape(), range.end)?;
        to.grow_to(range.end)?;
        // Lock in one order for all threads: two threads that copy in opposite directions, and a
        // third that waits for the write lock, must not wait for each other.
        let rank = |files: &Self| (files.array, std::ptr::from_ref(files));
        let (source, target) = if rank(self) < rank(to) {
            let source = self.read_shape();
            (source, to.read_shape())
        } else {
            let target = to.read_shape();
            (self.read_shape(), target)
        };
        self.require_len(&source, range.end)?;
        let at = range.start;
        Ok(source.group.clone_range(range, &target.group, at)?)
    }

    pub(super) fn part_file(&self, part: u64) -> io::Result<File> {
        let shape = self.read_shape();
        if let Some(part) = usize::try_from(part)
            .ok()
            .filter(|part| *part < shape.parts)
        {
            Ok(shape.group.open_file(part)?)
        } else {
            let path = shape.group.root().join(self.array.part_name(part));
            Err(in_context(
                &path,
                "open it",
                &io::ErrorKind::NotFound.into(),
            ))
        }
    }

    /// Sets the directory after it was renamed.
    pub(super) fn set_root(&self, dir: &Path) -> io::Result<()> {
        Ok(self.write_shape().group.set_root(dir)?)
    }

    fn grow_to(&self, len: u64) -> io::Result<()> {
        if self.known_len() >= len {
            return Ok(());
        }
        self.set_len(len)
    }

    /// Adds the missing bytes to an error of a full disk.
    fn storage_error(
        &self,
        shape: &Shape,
        requested: u64,
        unreserved: u64,
        error: io::Error,
    ) -> io::Error {
        if error.kind() != io::ErrorKind::StorageFull {
            return error;
        }
        let available = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(GroupError::File(MappingError::StorageFull {
                available_bytes, ..
            })) => *available_bytes,
            _ => statvfs::available_bytes(shape.group.root()).unwrap_or(0),
        };
        let missing = unreserved.saturating_sub(available);
        let path = shape.group.root().join(self.array.to_string());
        let path = path.display();
        let message =
            format!("{path}: cannot reserve {requested} bytes, {missing} are missing: {error}");
        io::Error::new(io::ErrorKind::StorageFull, message)
    }

    fn require_len(&self, shape: &Shape, end: u64) -> io::Result<()> {
        let len = self.known_len();
        if end <= len {
            return Ok(());
        }
        shape.refuse_broken()?;
        let path = shape.group.root().join(self.array.to_string());
        let path = path.display();
        let message = format!("{path}: {end} bytes are needed, the file has {len}");
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }

    fn end_of(offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64);
        end.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn known_len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }
}
