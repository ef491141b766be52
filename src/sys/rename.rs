//! Moving a file: by renaming it, or by copying its data where the new place is on another filesystem.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, RenameFlags, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::openat2::create_in;
use super::seek_data;

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

/// Renames a directory to a name that must not exist, or be an empty directory; `AlreadyExists` otherwise.
pub(crate) fn rename_directory(from: &Path, to: &Path) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    match renameat_with(CWD, from, CWD, to, flags) {
        // Taken, or the filesystem does not know the flag. Without it only an empty directory is replaced.
        Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => match renameat(CWD, from, CWD, to) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => Err(Errno::EXIST.into()),
            renamed => Ok(renamed?),
        },
        renamed => Ok(renamed?),
    }
}

/// Moves a file to another filesystem: copies it to a name of its own, renames that once it is whole
/// and durable, and removes the old one once `made_durable` says that the new entry is, too. If the old
/// file changes meanwhile, or anything fails, it stays and the new one goes.
pub(crate) fn copy_over(
    file: &File,
    old: &Place<'_>,
    new: &Place<'_>,
    made_durable: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Not made of the file's own name, which may be as long as names can be.
    let name = format!(".flatspan-{}-{number}", std::process::id());
    let part = Place {
        folder: new.folder,
        name: name.as_ref(),
    };
    let before = file.metadata()?;
    let to = create_in(&part)?;
    if let Err(error) = copy(file, &to).and_then(|()| rename(&part, new)) {
        let _ = remove(&part);
        return Err(error);
    }
    let finished = made_durable()
        .and_then(|()| unchanged(file, &before, old))
        .and_then(|()| remove(old));
    if finished.is_err() {
        let _ = remove(new);
    }
    finished
}

/// Is the file as it was, and still the one of that name?
fn unchanged(file: &File, before: &Metadata, place: &Place<'_>) -> io::Result<()> {
    let now = file.metadata()?;
    let named = statat(place.folder, place.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let same = (
        now.len(),
        now.mtime(),
        now.mtime_nsec(),
        now.ctime(),
        now.ctime_nsec(),
    ) == (
        before.len(),
        before.mtime(),
        before.mtime_nsec(),
        before.ctime(),
        before.ctime_nsec(),
    ) && (named.st_dev, named.st_ino) == (now.dev(), now.ino());
    if same {
        return Ok(());
    }
    Err(io::Error::other("the file was changed while it was copied"))
}

/// Removes a file.
pub(crate) fn remove(place: &Place<'_>) -> io::Result<()> {
    Ok(unlinkat(place.folder, place.name, AtFlags::empty())?)
}

/// Copies length and data, holes left out, and makes both durable.
fn copy(from: &File, to: &File) -> io::Result<()> {
    let len = super::statx::len(from)?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while let Some(run) = seek_data::next_data(from, at)? {
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
