//! Moving files: by renaming, or by copying to another filesystem.
//!
//! See [`rename(2)`](https://man7.org/linux/man-pages/man2/rename.2.html) and
//! [`unlink(2)`](https://man7.org/linux/man-pages/man2/unlink.2.html).

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, RenameFlags, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::openat2::{DirectoryEntry, create_in};
use super::seek_data;

/// Renames a file to a name that must not exist. Fails with `CrossesDevices` between filesystems.
pub(crate) fn rename(from: &DirectoryEntry<'_>, to: &DirectoryEntry<'_>) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    match renameat_with(from.directory, from.name, to.directory, to.name, flags) {
        // The filesystem does not support the flag: check, then rename.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match statat(to.directory, to.name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Ok(_) => return Err(Errno::EXIST.into()),
                Err(error) => return Err(error.into()),
            }
            Ok(renameat(from.directory, from.name, to.directory, to.name)?)
        }
        renamed => Ok(renamed?),
    }
}

/// Renames a directory to a name that must not exist or be an empty directory. Otherwise fails with
/// `AlreadyExists`.
pub(crate) fn rename_directory(from: &Path, to: &Path) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    match renameat_with(CWD, from, CWD, to, flags) {
        // The name exists, or the filesystem does not support the flag. Without the flag only an
        // empty directory is replaced.
        Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => match renameat(CWD, from, CWD, to) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => Err(Errno::EXIST.into()),
            renamed => Ok(renamed?),
        },
        renamed => Ok(renamed?),
    }
}

/// Moves a file to another filesystem.
///
/// Copies it to a temporary name, renames the durable copy, and removes the old file after
/// `sync_entry` has made the new entry durable. If the old file changes during the copy, or on any
/// error, the old file stays and the new one is removed.
pub(crate) fn copy_over(
    file: &File,
    old: &DirectoryEntry<'_>,
    new: &DirectoryEntry<'_>,
    sync_entry: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // The name of the file may already have the maximum length, so it is not part of this name.
    let name = format!(".flatspan-{}-{number}", std::process::id());
    let part = DirectoryEntry {
        directory: new.directory,
        name: name.as_ref(),
    };
    let before = file.metadata()?;
    let to = create_in(&part)?;
    if let Err(error) = copy(file, &to).and_then(|()| rename(&part, new)) {
        // The first error is reported.
        drop(remove(&part));
        return Err(error);
    }
    let finished = sync_entry()
        .and_then(|()| check_unchanged(file, &before, old))
        .and_then(|()| remove(old));
    if finished.is_err() {
        // The first error is reported.
        drop(remove(new));
    }
    finished
}

/// Refuses a file that has changed, or that the name no longer refers to.
fn check_unchanged(file: &File, before: &Metadata, entry: &DirectoryEntry<'_>) -> io::Result<()> {
    let now = file.metadata()?;
    let named = statat(entry.directory, entry.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let version = |of: &Metadata| {
        (
            of.len(),
            of.mtime(),
            of.mtime_nsec(),
            of.ctime(),
            of.ctime_nsec(),
        )
    };
    let is_same_file = (named.st_dev, named.st_ino) == (now.dev(), now.ino());
    if version(&now) == version(before) && is_same_file {
        return Ok(());
    }
    Err(io::Error::other("the file was changed while it was copied"))
}

/// Removes a file.
pub(crate) fn remove(entry: &DirectoryEntry<'_>) -> io::Result<()> {
    Ok(unlinkat(entry.directory, entry.name, AtFlags::empty())?)
}

/// Copies length, permissions and data except holes, and syncs the copy.
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
