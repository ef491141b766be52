//! What a group is made of.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::SpanError;
use super::layout::Extent;
use crate::mapping_cache::{CachedFile, MappingError};

/// One entry of a group.
#[derive(Debug)]
pub(super) struct Entry {
    /// As given to the builder.
    pub(super) path: PathBuf,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    File {
        file: CachedFile,
        /// Where the entry starts in the file.
        start: u64,
        /// The entry is a range of the file, which may go on behind it.
        is_range: bool,
    },
    Padding,
}

/// What kind of entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A whole file.
    File,
    /// A range of a file.
    FileRange,
    /// Virtual zeros, never on disk.
    Padding,
}

/// An entry as its group sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryInfo<'a> {
    /// Path as given to the builder; empty for padding.
    pub path: &'a Path,
    /// Where it lies in the group.
    pub range: Range<u64>,
    /// What it is.
    pub kind: EntryKind,
}

impl Entry {
    pub(super) fn kind(&self) -> EntryKind {
        match self.body {
            Body::File {
                is_range: false, ..
            } => EntryKind::File,
            Body::File { is_range: true, .. } => EntryKind::FileRange,
            Body::Padding => EntryKind::Padding,
        }
    }

    pub(super) fn file(&self) -> Option<&CachedFile> {
        match &self.body {
            Body::File { file, .. } => Some(file),
            Body::Padding => None,
        }
    }

    pub(super) fn file_mut(&mut self) -> Option<&mut CachedFile> {
        match &mut self.body {
            Body::File { file, .. } => Some(file),
            Body::Padding => None,
        }
    }

    /// The file and the range of it that an extent of this entry is.
    pub(super) fn place(&self, extent: Extent) -> Option<(&CachedFile, Range<u64>)> {
        match &self.body {
            Body::File { file, start, .. } => {
                let from = start + extent.offset;
                Some((file, from..from + extent.len))
            }
            Body::Padding => None,
        }
    }

    /// Reads a part of the entry that is claimed; `Ok(n)` with fewer bytes than asked when the file ends before.
    pub(super) fn read(&self, extent: Extent, buf: &mut [u8]) -> Result<usize, MappingError> {
        match self.place(extent) {
            Some((file, range)) => file.read_locked(range.start, buf),
            None => {
                buf.fill(0);
                Ok(buf.len())
            }
        }
    }

    /// Writes a part of the entry that is claimed. Zeros may be written to padding: they are there already.
    pub(super) fn write(&self, extent: Extent, buf: &[u8]) -> Result<(), SpanError> {
        match self.place(extent) {
            Some((file, range)) => Ok(file.write_locked(range.start, buf)?),
            None if buf.iter().all(|byte| *byte == 0) => Ok(()),
            None => Err(SpanError::Padding {
                entry: extent.entry,
            }),
        }
    }

    /// The error for bytes that the file does not have.
    pub(super) fn short(&self, extent: Extent) -> SpanError {
        let Some((file, range)) = self.place(extent) else {
            unreachable!("padding is never short");
        };
        match file.present_bytes() {
            Ok(present_bytes) => MappingError::ShortFile {
                path: file.location().full_path(),
                needed_bytes: range.end,
                present_bytes,
            }
            .into(),
            Err(error) => error.into(),
        }
    }
}
