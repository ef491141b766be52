//! Entries of a group and positioned I/O on one of them.

use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::layout::Extent;
use crate::mapping_cache::{CachedFile, MappingError};
use crate::span::error::GroupError;

/// Entry of an open group.
#[derive(Debug)]
pub(in crate::span) struct GroupEntry {
    /// Path as given to the builder.
    pub(in crate::span) path: PathBuf,
    pub(in crate::span) body: EntryBody,
}

#[derive(Debug)]
pub(in crate::span) enum EntryBody {
    File {
        file: CachedFile,
        /// Offset of the entry in the file.
        start: u64,
        /// Whether the entry is a range of the file, which may continue after it.
        is_range: bool,
    },
    Padding,
}

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A whole file.
    File,
    /// A range of a file.
    FileRange,
    /// Virtual zeros that are not stored.
    Padding,
}

/// Description of an entry, from [`Group::entries`](super::Group::entries).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryInfo<'a> {
    /// Path as given to the builder; empty for padding.
    pub path: &'a Path,
    /// Byte range of the entry in the group.
    pub range: Range<u64>,
    /// Kind of the entry.
    pub kind: EntryKind,
}

impl GroupEntry {
    pub(super) fn kind(&self) -> EntryKind {
        match self.body {
            EntryBody::File {
                is_range: false, ..
            } => EntryKind::File,
            EntryBody::File { is_range: true, .. } => EntryKind::FileRange,
            EntryBody::Padding => EntryKind::Padding,
        }
    }

    pub(in crate::span) fn file(&self) -> Option<&CachedFile> {
        match &self.body {
            EntryBody::File { file, .. } => Some(file),
            EntryBody::Padding => None,
        }
    }

    pub(super) fn file_mut(&mut self) -> Option<&mut CachedFile> {
        match &mut self.body {
            EntryBody::File { file, .. } => Some(file),
            EntryBody::Padding => None,
        }
    }

    /// The file of an extent and the range in it; `None` for padding.
    pub(in crate::span) fn file_range(&self, extent: Extent) -> Option<(&CachedFile, Range<u64>)> {
        match &self.body {
            EntryBody::File { file, start, .. } => {
                let from = start + extent.offset;
                Some((file, from..from + extent.len))
            }
            EntryBody::Padding => None,
        }
    }

    /// Reads an extent that the caller has locked; the count is short if the file ends before it.
    pub(super) fn read(&self, extent: Extent, buf: &mut [u8]) -> Result<usize, MappingError> {
        if let Some((file, range)) = self.file_range(extent) {
            return file.read_locked(range.start, buf);
        }
        buf.fill(0);
        Ok(buf.len())
    }

    /// Does the same as [`read`](Self::read) for several buffers, which are used up.
    pub(super) fn read_vectored(
        &self,
        extent: Extent,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<usize, MappingError> {
        if let Some((file, range)) = self.file_range(extent) {
            return file.read_vectored_locked(range.start, bufs);
        }
        let mut filled = 0;
        for buf in bufs {
            buf.fill(0);
            filled += buf.len();
        }
        Ok(filled)
    }

    /// Does the same as [`write`](Self::write) for several buffers, which are used up.
    pub(super) fn write_vectored(
        &self,
        extent: Extent,
        bufs: &mut [IoSlice<'_>],
    ) -> Result<(), GroupError> {
        if let Some((file, range)) = self.file_range(extent) {
            return Ok(file.write_vectored_locked(range.start, bufs)?);
        }
        bufs.iter().try_for_each(|buf| self.write(extent, buf))
    }

    /// Writes an extent that the caller has locked. Padding accepts zeros, which it contains
    /// already.
    pub(super) fn write(&self, extent: Extent, buf: &[u8]) -> Result<(), GroupError> {
        match self.file_range(extent) {
            Some((file, range)) => Ok(file.write_locked(range.start, buf)?),
            None if buf.iter().all(|byte| *byte == 0) => Ok(()),
            None => Err(GroupError::WriteToPadding {
                entry: extent.entry,
            }),
        }
    }

    /// The error for an extent whose file ends before it.
    pub(super) fn too_short(&self, extent: Extent) -> GroupError {
        let Some((file, range)) = self.file_range(extent) else {
            unreachable!("padding is never short");
        };
        match file.actual_bytes() {
            Ok(present_bytes) => MappingError::FileTooShort {
                path: file.location().full_path(),
                required_bytes: range.end,
                actual_bytes: present_bytes,
            }
            .into(),
            Err(error) => error.into(),
        }
    }
}
