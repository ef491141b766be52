//! What is done to files.

use std::{ops::Range, sync::Arc};

use flatspan::snapshot::Array;

/// A part of an array.
pub(crate) type FileId = (Array, u64);

/// A file, whatever its name leads to later.
pub(crate) type Inode = u64;

/// An operation on a file or the directory.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A new file.
    Create(FileId, Inode),
    /// Its name is gone.
    Remove(FileId, Inode),
    /// Bytes at an offset; the file becomes longer if it must.
    Write(FileId, Inode, u64, Arc<[u8]>),
    /// Another length, with zeros where it is more.
    SetLen(FileId, Inode, u64),
    /// Zeros, as far as the file goes.
    Discard(FileId, Inode, Range<u64>),
    /// All that was done to the file is durable.
    Sync(FileId, Inode),
    /// It was tried, and what was done to the file is in doubt.
    SyncFailed(FileId, Inode),
    /// What is in doubt is lost.
    Forget(FileId, Inode),
    /// What was created and removed is durable.
    SyncDir,
    /// The store has its name.
    Publish,
    /// ... durably.
    SyncParent,
    /// Nothing is done; the caller notes that something was acknowledged.
    Mark(u64),
}

impl Op {
    /// The file whose bytes or length it changes.
    pub(crate) fn changed(&self) -> Option<Inode> {
        match self {
            Self::Write(_, inode, ..) | Self::SetLen(_, inode, _) | Self::Discard(_, inode, _) => {
                Some(*inode)
            }
            _ => None,
        }
    }

    /// Is it about the directory?
    pub(crate) fn is_of_directory(&self) -> bool {
        matches!(self, Self::Create(..) | Self::Remove(..))
    }

    /// Does it change anything that a crash could take back?
    pub(crate) fn is_change(&self) -> bool {
        self.changed().is_some() || self.is_of_directory() || matches!(self, Self::Publish)
    }

    /// The bytes of the file that it touches.
    pub(crate) fn range(&self) -> Range<u64> {
        match self {
            Self::Write(_, _, offset, bytes) => *offset..offset + bytes.len() as u64,
            Self::Discard(_, _, range) => range.clone(),
            Self::SetLen(_, _, len) => *len..u64::MAX,
            _ => 0..0,
        }
    }

    /// One line, without the bytes.
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
