//! Moving a file: by renaming it, or by copying its data where the new place is on another filesystem.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::sparse;

/// A name in an open folder.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a OwnedFd,
    pub(crate) name: &'a Path,
}

/// Renames a file to a name that must not exist; `CrossesDevices` where it has to be copied.
pub(crate) fn rename(from: &Place<'_>, to: &Place<'_>) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    match renameat_with(from.folder, from.name, to.folder, to.name, flags) {
        // The filesystem does not know the flag: ask, then rename.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match statat(to.folder, to.name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Ok(_) => return Err(Errno::EXIST.into()),
                Err(error) => return Err(error.into()),
            }
            Ok(renameat(from.folder, from.name, to.folder, to.name)?)
        }
        renamed => Ok(renamed?),
    }
}

/// Removes a file.
pub(crate) fn remove(place: &Place<'_>) -> io::Result<()> {
    Ok(unlinkat(place.folder, place.name, AtFlags::empty())?)
}

/// Copies length and data, holes left out, and makes both durable.
pub(crate) fn copy(from: &File, to: &File) -> io::Result<()> {
    let len = super::identity::len(from)?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while let Some(run) = sparse::next_data(from, at)? {
        at = run.start;
        while at < run.end {
            let part = usize::try_from(run.end - at).map_or(buf.len(), |left| left.min(buf.len()));
            from.read_exact_at(&mut buf[..part], at)?;
            to.write_all_at(&buf[..part], at)?;
            at += part as u64;
        }
    }
    to.set_len(len)?;
    to.set_permissions(from.metadata()?.permissions())?;
    to.sync_all()
}
