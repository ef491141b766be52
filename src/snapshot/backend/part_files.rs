//! Part files of one logical file: how many exist, how they are added and removed.
//!
//! After a crash a directory may have any subset of the entries that were not synced, and a file
//! any part of the length that was not synced. To leave no gap between the parts, a part is created
//! only when the part before it is durably full. It is removed only when all parts after it are
//! durably removed. This costs a sync where a file grows or is truncated across the end of a part.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::io_context::in_context;
use crate::mapping_cache::{Access, FlushMode};
use crate::snapshot::file_names::LogicalFile;
use crate::span::{Group, GroupError};

/// Parts of one logical file.
#[derive(Debug)]
pub(super) struct FileParts {
    pub(super) array: LogicalFile,
    pub(super) part_bytes: u64,
    pub(super) access: Access,
    shape: RwLock<Shape>,
    /// Present length. Writes into the last part change it without the lock on the shape.
    pub(super) len: AtomicU64,
    /// First failed sync. Later syncs fail with the same error [I3], [I4].
    failed: OnceLock<(io::ErrorKind, String)>,
}

/// Part files that exist.
#[derive(Debug)]
pub(super) struct Shape {
    /// Has an entry for every part, and possibly more: entries are never removed.
    pub(super) group: Group,
    /// Number of parts, counted from part 0 up to the first gap.
    pub(super) parts: usize,
    /// Error in the part files, if there is one.
    pub(super) broken: Option<String>,
}

impl FileParts {
    /// Returns the parts of a file that is not read yet. `group` has no entries.
    pub(super) fn new(array: LogicalFile, part_bytes: u64, access: Access, group: Group) -> Self {
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

    /// Reads the number and the lengths of the part files, and checks that they have no gap.
    pub(super) fn rescan(&self, shape: &mut Shape) -> io::Result<()> {
        let found = parts_in(shape.group.root(), self.array)?;
        let contiguous = (0..).zip(&found).take_while(|(index, part)| index == *part);
        shape.parts = contiguous.count();
        shape.broken = None;
        let path = |part: usize| shape.group.root().join(self.array.part_name(part as u64));
        let missing = path(shape.parts);
        if found.is_empty() {
            shape.broken = Some(format!("{}: missing", missing.display()));
            let error = io::ErrorKind::NotFound.into();
            return Err(in_context(&missing, "open it", &error));
        }
        if shape.parts < found.len() {
            let missing = missing.display();
            shape.broken = Some(format!("{missing}: missing, but later parts exist"));
        }
        let mut len = 0;
        for part in 0..shape.parts {
            self.add_entry(shape, part)?;
            let present = shape.group.actual_bytes(part)?;
            len += present.min(self.part_bytes);
            let is_last = part + 1 == found.len();
            if present > self.part_bytes || present < self.part_bytes && !is_last {
                let path = shape.group.root().join(self.array.part_name(part as u64));
                let (path, required) = (path.display(), self.part_bytes);
                shape.broken = Some(format!("{path}: {present} bytes long, not {required}"));
                break;
            }
        }
        // Another process may create a removed part again as another file.
        for removed in shape.parts..shape.group.entry_count() {
            shape.group.close_file_without_sync(removed)?;
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn add_entry(&self, shape: &mut Shape, part: usize) -> io::Result<()> {
        if part == shape.group.entry_count() {
            let name = self.array.part_name(part as u64);
            shape.group.append_file(name, self.part_bytes)?;
        }
        Ok(())
    }

    /// Adds parts until the last byte before `end` is in a part.
    pub(super) fn add_parts_for(&self, shape: &mut Shape, end: u64) -> io::Result<()> {
        while self.start_of(shape.parts) < end {
            let last = shape.parts - 1;
            shape.group.set_file_len(last, self.part_bytes)?;
            self.len
                .store(self.start_of(shape.parts), Ordering::Release);
            let range = self.start_of(last)..self.start_of(shape.parts);
            self.refuse_failed()?;
            self.keep_failure(shape.group.flush(range, FlushMode::Sync))?;
            self.sync_entries(shape)?;
            self.add_part(shape)?;
        }
        Ok(())
    }

    /// Creates the next part.
    pub(super) fn add_part(&self, shape: &mut Shape) -> io::Result<()> {
        let part = shape.parts;
        self.add_entry(shape, part)?;
        shape.group.create_file(part)?;
        shape.parts += 1;
        Ok(())
    }

    /// Removes the last part.
    pub(super) fn remove_last(&self, shape: &mut Shape) -> io::Result<()> {
        let last = shape.parts - 1;
        shape.group.remove_file(last)?;
        shape.parts = last;
        self.len.fetch_min(self.start_of(last), Ordering::AcqRel);
        Ok(())
    }

    /// Syncs the directories of the parts.
    pub(super) fn sync_entries(&self, shape: &Shape) -> io::Result<()> {
        self.keep_failure(shape.group.sync_directories())
    }

    /// Fails if an earlier sync failed.
    pub(super) fn refuse_failed(&self) -> io::Result<()> {
        match self.failed.get() {
            None => Ok(()),
            Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
        }
    }

    /// Records the first failed sync.
    pub(super) fn keep_failure(&self, synced: Result<(), GroupError>) -> io::Result<()> {
        synced.map_err(|error| {
            let message = format!("{}: {}", self.array, with_causes(&error));
            self.failed.get_or_init(|| (error.kind(), message));
            error.into()
        })
    }

    /// Returns the offset of a part in the logical file.
    pub(super) fn start_of(&self, part: usize) -> u64 {
        self.part_bytes.saturating_mul(part as u64)
    }

    pub(super) fn read_shape(&self) -> RwLockReadGuard<'_, Shape> {
        self.shape.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_shape(&self) -> RwLockWriteGuard<'_, Shape> {
        self.shape.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shape {
    /// Fails if the part files have an error.
    pub(super) fn refuse_broken(&self) -> io::Result<()> {
        match &self.broken {
            None => Ok(()),
            Some(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.clone())),
        }
    }
}

fn with_causes(error: &GroupError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Returns the numbers of the parts of a file in a directory, in order.
pub(super) fn parts_in(dir: &Path, array: LogicalFile) -> io::Result<Vec<u64>> {
    let files = files_in(dir)?;
    let mut parts: Vec<_> = files
        .filter_map(|file| {
            file.map(|(of, part)| (of == array).then_some(part))
                .transpose()
        })
        .collect::<io::Result<_>>()?;
    parts.sort_unstable();
    Ok(parts)
}

/// Returns the parts of all logical files in a directory. Skips other files.
pub(super) fn files_in(
    dir: &Path,
) -> io::Result<impl Iterator<Item = io::Result<(LogicalFile, u64)>> + use<>> {
    let listed = |error: io::Error| in_context(dir, "list the directory", &error);
    let entries = fs::read_dir(dir).map_err(listed)?;
    let dir = dir.to_path_buf();
    Ok(entries.filter_map(move |entry| match entry {
        Ok(entry) => Ok(entry
            .file_name()
            .to_str()
            .and_then(LogicalFile::parse_part_name))
        .transpose(),
        Err(error) => Some(Err(in_context(&dir, "list the directory", &error))),
    }))
}
