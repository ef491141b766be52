//! Files and folders at one moment, and what can be done to them.
//!
//! What a cut leaves: what was done to a file is durable after a later fsync of it, what was done to the entries of a
//! folder after a later fsync of that one. Of the rest nothing is there, or any part: nothing orders two
//! operations but a sync between them. A write may be torn at multiples of 512 bytes of the file, and its length be
//! there without its bytes.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fmt,
    ops::Range,
};

pub(super) const ROOT: u64 = 1;

/// By inode; an inode without a name stays, unseen.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) files: HashMap<u64, Vec<u8>>,
    pub(super) folders: HashMap<u64, BTreeMap<OsString, u64>>,
}

/// An entry of a folder.
pub(super) type Name = (u64, OsString);

#[derive(Clone, Debug)]
pub(super) enum Op {
    Write(u64, u64, Vec<u8>),
    SetLen(u64, u64),
    Zero(u64, Range<u64>),
    /// Changes nothing that is kept here: times, owners, room.
    Nothing(u64),
    Enter(Name, u64),
    Leave(Name, u64),
    Rename(Name, Name, u64),
}

impl Image {
    pub(super) fn empty() -> Self {
        Self {
            files: HashMap::new(),
            folders: HashMap::from([(ROOT, BTreeMap::new())]),
        }
    }

    /// Something new, without a name yet.
    pub(super) fn bear(&mut self, inode: u64, is_folder: bool) {
        if is_folder {
            drop(self.folders.insert(inode, BTreeMap::new()))
        } else {
            drop(self.files.insert(inode, Vec::new()))
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

    /// Makes the file at least so long, and puts in some ranges of what is written there.
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
        self.folders.get(&parent)?.get(name).copied()
    }

    fn enter(&mut self, (folder, name): &Name, inode: u64) {
        let entries = self.folders.entry(*folder).or_default();
        entries.insert(name.clone(), inode);
    }

    /// Not the name of something that has taken it since.
    fn leave(&mut self, (folder, name): &Name, inode: u64) {
        let entries = self.folders.entry(*folder).or_default();
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
    /// Whether a sync of this file or folder makes it durable.
    pub(super) fn is_of(&self, inode: u64) -> bool {
        match self {
            Self::Write(of, ..) | Self::SetLen(of, _) | Self::Zero(of, _) | Self::Nothing(of) => {
                *of == inode
            }
            Self::Enter((folder, _), _) | Self::Leave((folder, _), _) => *folder == inode,
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
