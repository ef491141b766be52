//! Operations on files.

use std::{ops::Range, sync::Arc};

use flatspan::snapshot::LogicalFile;

/// Part of a logical file.
pub(crate) type FileId = (LogicalFile, u64);

/// Identity of a file, independent of its later names.
pub(crate) type Inode = u64;

/// Operation on a file or the directory.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Creates a file.
    Create(FileId, Inode),
    /// Removes the name of a file.
    Remove(FileId, Inode),
    /// Writes bytes at an offset, and extends the file if necessary.
    Write(FileId, Inode, u64, Arc<[u8]>),
    /// Sets the length; an extension is zeros.
    SetLen(FileId, Inode, u64),
    /// Zeros a range within the file.
    Discard(FileId, Inode, Range<u64>),
    /// Makes all changes of the file durable.
    Sync(FileId, Inode),
    /// Failed sync: the changes of the file are in doubt.
    SyncFailed(FileId, Inode),
    /// Loses the changes that are in doubt.
    Forget(FileId, Inode),
    /// Makes creations and removals durable.
    SyncDir,
    /// Gives the store its name.
    Publish,
    /// Makes that name durable.
    SyncParent,
    /// No operation: the caller notes an acknowledgement.
    Mark(u64),
}

impl Op {
    /// Returns the file whose bytes or length the operation changes.
    pub(crate) fn changed(&self) -> Option<Inode> {
        match self {
            Self::Write(_, inode, ..) | Self::SetLen(_, inode, _) | Self::Discard(_, inode, _) => {
                Some(*inode)
            }
            _ => None,
        }
    }

    /// Returns whether the operation is about the directory.
    pub(crate) fn is_of_directory(&self) -> bool {
        matches!(self, Self::Create(..) | Self::Remove(..))
    }

    /// Returns whether a crash can undo the operation.
    pub(crate) fn is_change(&self) -> bool {
        self.changed().is_some() || self.is_of_directory() || matches!(self, Self::Publish)
    }

    /// Returns the affected bytes of the file.
    pub(crate) fn range(&self) -> Range<u64> {
        match self {
            Self::Write(_, _, offset, bytes) => *offset..offset + bytes.len() as u64,
            Self::Discard(_, _, range) => range.clone(),
            Self::SetLen(_, _, len) => *len..u64::MAX,
            _ => 0..0,
        }
    }

    /// Returns a description in one line, without the bytes.
    pub(crate) fn describe(&self) -> String {
        let name = |file: &FileId| file.0.part_name(file.1);
        match self {
            Self::Write(file, _, offset, bytes) => {
                format!("write {} {offset}+{}", name(file), bytes.len())
            }
            Self::SetLen(file, _, len) => format!("set length {} {len}", name(file)),
            Self::Discard(file, _, range) => format!("discard {} {range:?}", name(file)),
            Self::Create(file, _) => format!("create {}", name(file)),
            Self::Remove(file, _) => format!("remove {}", name(file)),
            Self::Sync(file, _) => format!("sync {}", name(file)),
            Self::SyncFailed(file, _) => format!("failed sync {}", name(file)),
            Self::Forget(file, _) => format!("forget {}", name(file)),
            other => format!("{other:?}"),
        }
    }
}
