//! Files and directories at one moment, and operations on them.
//!
//! After a power cut:
//!
//! - A change of a file is durable if a later fsync(2) of that file returned.
//! - A change of directory entries is durable if a later fsync(2) of that directory returned.
//! - Of other operations nothing or any part survives: only a sync orders two operations.
//! - A write may be torn at multiples of 512 bytes of the file. The length may survive without the
//!   bytes.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fmt,
    ops::Range,
};

pub(super) const ROOT: u64 = 1;

/// By inode. An inode without a name stays, but is not visible.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) files: HashMap<u64, Vec<u8>>,
    pub(super) directories: HashMap<u64, BTreeMap<OsString, u64>>,
}

/// Entry of a directory.
pub(super) type Name = (u64, OsString);

#[derive(Clone, Debug)]
pub(super) enum Op {
    Write(u64, u64, Vec<u8>),
    SetLen(u64, u64),
    Zero(u64, Range<u64>),
    /// Changes only what this model does not store: times, owners, preallocation.
    Nothing(u64),
    Enter(Name, u64),
    Leave(Name, u64),
    Rename(Name, Name, u64),
}

impl Image {
    pub(super) fn empty() -> Self {
        Self {
            files: HashMap::new(),
            directories: HashMap::from([(ROOT, BTreeMap::new())]),
        }
    }

    /// Creates an inode without a name.
    pub(super) fn create(&mut self, inode: u64, is_directory: bool) {
        if is_directory {
            drop(self.directories.insert(inode, BTreeMap::new()));
        } else {
            drop(self.files.insert(inode, Vec::new()));
        }
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(inode, at, bytes) => {
                let file = self.file_of_len(*inode, *at as usize + bytes.len());
                file[*at as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            Op::SetLen(inode, len) => self.file(*inode).resize(*len as usize, 0),
            Op::Zero(inode, range) => {
                let file = self.file(*inode);
                let end = file.len().min(range.end as usize);
                file[end.min(range.start as usize)..end].fill(0);
            }
            Op::Nothing(_) => {}
            Op::Enter(name, inode) => self.enter(name, *inode),
            Op::Leave(name, inode) => self.leave(name, *inode),
            Op::Rename(from, to, inode) => {
                self.leave(from, *inode);
                self.enter(to, *inode);
            }
        }
    }

    /// Extends the file to at least `reach` bytes, and applies some ranges of the write.
    pub(super) fn apply_torn(&mut self, op: &Op, kept: &[Range<usize>], reach: usize) {
        let Op::Write(inode, at, bytes) = op else {
            return self.apply(op);
        };
        let file = self.file_of_len(*inode, *at as usize + reach);
        for range in kept {
            let start = *at as usize + range.start;
            file[start..start + range.len()].copy_from_slice(&bytes[range.clone()]);
        }
    }

    pub(super) fn child(&self, parent: u64, name: &OsStr) -> Option<u64> {
        self.directories.get(&parent)?.get(name).copied()
    }

    fn enter(&mut self, (directory, name): &Name, inode: u64) {
        let entries = self.directories.entry(*directory).or_default();
        entries.insert(name.clone(), inode);
    }

    /// Removes the name unless another inode has taken it since.
    fn leave(&mut self, (directory, name): &Name, inode: u64) {
        let entries = self.directories.entry(*directory).or_default();
        if entries.get(name) == Some(&inode) {
            entries.remove(name);
        }
    }

    fn file(&mut self, inode: u64) -> &mut Vec<u8> {
        self.files.entry(inode).or_default()
    }

    fn file_of_len(&mut self, inode: u64, len: usize) -> &mut Vec<u8> {
        let file = self.file(inode);
        file.resize(file.len().max(len), 0);
        file
    }
}

impl Op {
    /// Returns whether a sync of this file or directory makes the operation durable.
    pub(super) fn is_of(&self, inode: u64) -> bool {
        match self {
            Self::Write(of, ..) | Self::SetLen(of, _) | Self::Zero(of, _) | Self::Nothing(of) => {
                *of == inode
            }
            Self::Enter((directory, _), _) | Self::Leave((directory, _), _) => *directory == inode,
            // Filesystems keep both halves in one transaction of their journal.
            Self::Rename((from, _), (to, _), _) => *from == inode || *to == inode,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(inode, at, bytes) => write!(f, "write #{inode} {at} {}", bytes.len()),
            Self::SetLen(inode, len) => write!(f, "truncate #{inode} {len}"),
            Self::Zero(inode, range) => write!(f, "zero #{inode} {range:?}"),
            Self::Nothing(inode) => write!(f, "touch #{inode}"),
            Self::Enter((_, name), inode) => write!(f, "make {} #{inode}", name.display()),
            Self::Leave((_, name), inode) => write!(f, "remove {} #{inode}", name.display()),
            Self::Rename((_, from), (_, to), _) => {
                write!(f, "rename {} {}", from.display(), to.display())
            }
        }
    }
}
