//! File operations of the kernel as operations on the medium.

use std::{
    ffi::{OsStr, OsString},
    sync::MutexGuard,
    time::SystemTime,
};

use fuser::{Errno, FileAttr, FileType, INodeNo};

use super::{
    image::{Name, Op},
    medium::Medium,
    orders::{Shared, locked},
};

/// Limit of a file, because files are held in memory as a whole.
const FILE_BYTES_MAX: u64 = 64 << 20;

pub(super) struct PoweredFs(pub(super) Shared);

impl PoweredFs {
    pub(super) fn medium(&self) -> MutexGuard<'_, Medium> {
        locked(&self.0)
    }

    pub(super) fn on(&self) -> Result<MutexGuard<'_, Medium>, Errno> {
        let medium = self.medium();
        medium.refuse_off()?;
        Ok(medium)
    }

    pub(super) fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        is_directory: bool,
    ) -> Result<FileAttr, Errno> {
        let mut medium = self.on()?;
        if medium.seen.child(parent.0, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let inode = medium.new_inode(name, is_directory);
        medium.change(Op::Enter((parent.0, name.to_owned()), inode))?;
        attr(&medium, inode)
    }

    pub(super) fn remove(&self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let mut medium = self.on()?;
        let inode = child(&medium, parent, name)?;
        refuse_full(&medium, inode)?;
        medium.change(Op::Leave((parent.0, name.to_owned()), inode))
    }

    pub(super) fn move_to(&self, from: Name, to: Name) -> Result<(), Errno> {
        let mut medium = self.on()?;
        let inode = child(&medium, INodeNo(from.0), &from.1)?;
        match medium.seen.child(to.0, &to.1) {
            Some(same) if same == inode => return Ok(()),
            Some(replaced) => refuse_full(&medium, replaced)?,
            None => {}
        }
        medium.change(Op::Rename(from, to, inode))
    }

    pub(super) fn set_len(&self, inode: INodeNo, len: Option<u64>) -> Result<FileAttr, Errno> {
        let mut medium = self.on()?;
        if len.is_some_and(|len| len > FILE_BYTES_MAX) {
            return Err(Errno::EFBIG);
        }
        medium.change(len.map_or(Op::Nothing(inode.0), |len| Op::SetLen(inode.0, len)))?;
        attr(&medium, inode.0)
    }

    pub(super) fn write_bytes(&self, inode: INodeNo, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        if at + bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Errno::EFBIG);
        }
        self.medium().change(Op::Write(inode.0, at, bytes.to_vec()))
    }

    pub(super) fn allocate(
        &self,
        inode: INodeNo,
        at: u64,
        len: u64,
        mode: i32,
    ) -> Result<(), Errno> {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let mut medium = self.on()?;
        let present = attr(&medium, inode.0)?.size;
        let end = at + len;
        if end > FILE_BYTES_MAX {
            return Err(Errno::EFBIG);
        }
        medium.change(match mode {
            0 if end > present => Op::SetLen(inode.0, end),
            0 | libc::FALLOC_FL_KEEP_SIZE => Op::Nothing(inode.0),
            PUNCH => Op::Zero(inode.0, at..end),
            _ => return Err(Errno::EOPNOTSUPP),
        })
    }

    pub(super) fn read_bytes(&self, inode: INodeNo, at: u64, len: u32) -> Result<Vec<u8>, Errno> {
        let medium = self.on()?;
        let file = medium.seen.files.get(&inode.0).ok_or(Errno::ENOENT)?;
        let from = file.len().min(at as usize);
        let end = file.len().min(from + len as usize);
        Ok(file[from..end].to_vec())
    }

    pub(super) fn list(&self, inode: INodeNo) -> Result<Vec<(u64, FileType, OsString)>, Errno> {
        let medium = self.on()?;
        let entries = medium.seen.directories.get(&inode.0).ok_or(Errno::ENOENT)?;
        let dots = [".", ".."].map(|name| (inode.0, FileType::Directory, OsString::from(name)));
        let listed = entries.iter().map(|(name, inode)| {
            let kind = attr(&medium, *inode)?.kind;
            Ok((*inode, kind, name.clone()))
        });
        dots.into_iter().map(Ok).chain(listed).collect()
    }
}

pub(super) fn child(medium: &Medium, parent: INodeNo, name: &OsStr) -> Result<u64, Errno> {
    medium.seen.child(parent.0, name).ok_or(Errno::ENOENT)
}

fn refuse_full(medium: &Medium, inode: u64) -> Result<(), Errno> {
    match medium.seen.directories.get(&inode) {
        Some(entries) if !entries.is_empty() => Err(Errno::ENOTEMPTY),
        _ => Ok(()),
    }
}

pub(super) fn attr(medium: &Medium, inode: u64) -> Result<FileAttr, Errno> {
    let (kind, size) = match medium.seen.files.get(&inode) {
        Some(file) => (FileType::RegularFile, file.len() as u64),
        None if medium.seen.directories.contains_key(&inode) => (FileType::Directory, 0),
        None => return Err(Errno::ENOENT),
    };
    let time = SystemTime::UNIX_EPOCH;
    Ok(FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: 0o777,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}
