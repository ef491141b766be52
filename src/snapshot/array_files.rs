//! One array of a store on its files: a group of parts, all but the last of them full (`part_row` sees to that).

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::disk::Array;
use super::group_disk::in_context;
use super::part_row::parts_in;
use crate::mapping_cache::{Access, FlushMode, MappingError};
use crate::span::{Group, SpanError};
use crate::sys::statvfs;

#[derive(Debug)]
pub(super) struct ArrayFiles {
    pub(super) array: Array,
    pub(super) part_bytes: u64,
    access: Access,
    shape: RwLock<Shape>,
    /// Changed by writes into the last part without the lock on the shape.
    pub(super) len: AtomicU64,
    /// What the first sync that failed has said (hazards 3 and 4).
    failed: OnceLock<(io::ErrorKind, String)>,
}

#[derive(Debug)]
pub(super) struct Shape {
    /// Has an entry for every part, and maybe more: entries never go.
    pub(super) group: Group,
    /// Those that are there, from 0 on without a gap.
    pub(super) parts: usize,
    /// What is wrong with the row of files, if it is.
    pub(super) broken: Option<String>,
}

impl ArrayFiles {
    /// The files of an array as they are; `group` is without entries. `NotFound` without any.
    pub(super) fn open(
        array: Array,
        part_bytes: u64,
        access: Access,
        group: Group,
    ) -> io::Result<Self> {
        let files = Self::new(array, part_bytes, access, group);
        files.look(&mut files.write_shape())?;
        Ok(files)
    }

    /// Makes the first part. `AlreadyExists` if any is there.
    pub(super) fn create(
        array: Array,
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
                return Err(in_context(&path, "create the array", &error));
            }
            files.add_part(&mut shape)?;
        }
        Ok(files)
    }

    fn new(array: Array, part_bytes: u64, access: Access, group: Group) -> Self {
        let shape = Shape {
            group,
            parts: 0,
            broken: None,
        };
        Self {
            array,
            part_bytes,
            access,
            shape: RwLock::new(shape),
            len: AtomicU64::new(0),
            failed: OnceLock::new(),
        }
    }

    /// Of files that another process may be writing it is asked anew.
    pub(super) fn len(&self) -> io::Result<u64> {
        if self.access == Access::ReadOnly {
            self.look(&mut self.write_shape())?;
        }
        self.read_shape().refuse_broken()?;
        Ok(self.known_len())
    }

    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = self.end_of(offset, buf.len())?;
        if end > self.known_len() && self.access == Access::ReadOnly {
            // Another process may have made it longer.
            self.look(&mut self.write_shape())?;
        }
        let shape = self.read_shape();
        self.must_reach(&shape, end)?;
        Ok(shape.group.read_exact_at(offset, buf)?)
    }

    pub(super) fn write(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let end = self.end_of(offset, buf.len())?;
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
        // A hint: syncing tells what goes wrong.
        let _ = self.read_shape().group.flush(range, FlushMode::Async);
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

    /// Behind the last part there is no file to reserve for: there it is only asked whether there is room now.
    pub(super) fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        let shape = self.read_shape();
        shape.refuse_broken()?;
        let asked = range.end.saturating_sub(range.start);
        for part in 0..shape.parts {
            let inside =
                range.start.max(self.start_of(part))..range.end.min(self.start_of(part + 1));
            if inside.start < inside.end {
                let left = range.end - inside.start;
                shape
                    .group
                    .reserve(inside)
                    .map_err(|error| self.no_room(&shape, asked, left, error.into()))?;
            }
        }
        let left = range
            .end
            .saturating_sub(range.start.max(self.start_of(shape.parts)));
        if left > statvfs::available_bytes(shape.group.root())? {
            let error = io::ErrorKind::StorageFull.into();
            return Err(self.no_room(&shape, asked, left, error));
        }
        Ok(())
    }

    pub(super) fn discard(&self, range: Range<u64>) -> io::Result<()> {
        let shape = self.read_shape();
        shape.refuse_broken()?;
        self.must_reach(&shape, range.end)?;
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
        Ok(self.read_shape().group.forget_cached()?)
    }

    /// Removes the last part first, so that what is left after a crash is the begin of the array.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut shape = self.write_shape();
        let root = shape.group.root().to_path_buf();
        for part in parts_in(&root, self.array)?.into_iter().rev() {
            // Behind a gap; not ours, if the array is as we left it. Of a broken row, all.
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
            "{}: was removed",
            root.join(self.array.to_string()).display()
        ));
        Ok(())
    }

    /// Copies a range to the same place of another array, here or on another disk, which becomes longer if it must.
    pub(super) fn clone_range(&self, to: &Self, range: Range<u64>) -> io::Result<()> {
        if std::ptr::eq(self, to) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.must_reach(&self.read_shape(), range.end)?;
        to.grow_to(range.end)?;
        // Two threads that clone to and fro, and a third that waits to grow, must not wait for each other.
        let rank = |files: &Self| (files.array, std::ptr::from_ref(files));
        let (source, target) = if rank(self) < rank(to) {
            let source = self.read_shape();
            (source, to.read_shape())
        } else {
            let target = to.read_shape();
            (self.read_shape(), target)
        };
        self.must_reach(&source, range.end)?;
        let at = range.start;
        Ok(source.group.clone_range(range, &target.group, at)?)
    }

    pub(super) fn part_file(&self, part: u64) -> io::Result<File> {
        let shape = self.read_shape();
        match usize::try_from(part)
            .ok()
            .filter(|part| *part < shape.parts)
        {
            Some(part) => Ok(shape.group.open_file(part)?),
            None => {
                let path = shape.group.root().join(self.array.part_name(part));
                Err(in_context(
                    &path,
                    "open it",
                    &io::ErrorKind::NotFound.into(),
                ))
            }
        }
    }

    /// The directory was renamed.
    pub(super) fn follow(&self, dir: &Path) -> io::Result<()> {
        Ok(self.write_shape().group.follow_root(dir)?)
    }

    pub(super) fn refuse_failed(&self) -> io::Result<()> {
        match self.failed.get() {
            None => Ok(()),
            Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
        }
    }

    fn grow_to(&self, len: u64) -> io::Result<()> {
        if self.known_len() >= len {
            return Ok(());
        }
        self.set_len(len)
    }

    /// The first failure is what every later sync says, too.
    pub(super) fn keep_failure(&self, synced: Result<(), SpanError>) -> io::Result<()> {
        synced.map_err(|error| {
            let message = format!("{}: {}", self.array, with_causes(&error));
            self.failed.get_or_init(|| (error.kind(), message));
            error.into()
        })
    }

    fn no_room(&self, shape: &Shape, asked: u64, left: u64, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::StorageFull {
            return error;
        }
        let available = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(SpanError::File(MappingError::StorageFull {
                available_bytes, ..
            })) => *available_bytes,
            _ => statvfs::available_bytes(shape.group.root()).unwrap_or(0),
        };
        let missing = left.saturating_sub(available);
        let path = shape.group.root().join(self.array.to_string());
        let path = path.display();
        let message = format!("{path}: {asked} bytes to be reserved, {missing} missing: {error}");
        io::Error::new(io::ErrorKind::StorageFull, message)
    }

    fn must_reach(&self, shape: &Shape, end: u64) -> io::Result<()> {
        let len = self.known_len();
        if end <= len {
            return Ok(());
        }
        shape.refuse_broken()?;
        let path = shape.group.root().join(self.array.to_string());
        let path = path.display();
        let message = format!("{path}: bytes up to {end} are needed but the array has {len}");
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }

    fn end_of(&self, offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64);
        end.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Where a part starts in the array.
    pub(super) fn start_of(&self, part: usize) -> u64 {
        self.part_bytes.saturating_mul(part as u64)
    }

    fn known_len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn read_shape(&self) -> RwLockReadGuard<'_, Shape> {
        self.shape.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_shape(&self) -> RwLockWriteGuard<'_, Shape> {
        self.shape.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shape {
    pub(super) fn refuse_broken(&self) -> io::Result<()> {
        match &self.broken {
            None => Ok(()),
            Some(what) => Err(io::Error::new(io::ErrorKind::InvalidData, what.clone())),
        }
    }
}

fn with_causes(error: &SpanError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
