//! Opening and creating files under a root directory that paths cannot leave.
//!
//! The kernel enforces containment for each path component: by
//! [`openat2(2)`](https://man7.org/linux/man-pages/man2/openat2.2.html), or by a walk with
//! `O_NOFOLLOW` where a sandbox or an old kernel lacks it. A symlink that another process creates
//! between check and use is therefore refused.
//!
//! See also [`open(2)`](https://man7.org/linux/man-pages/man2/open.2.html) and
//! [`mkdir(2)`](https://man7.org/linux/man-pages/man2/mkdir.2.html).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::{Errno, retry_on_intr};

/// Files that a path may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Containment {
    /// Files under the root. The kernel refuses `..`, absolute paths and symlinks.
    Beneath,
    /// Any file.
    Anywhere,
}

/// A name in an open directory.
#[derive(Debug)]
pub(crate) struct DirectoryEntry<'a> {
    pub(crate) directory: &'a OwnedFd,
    pub(crate) name: &'a Path,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// `NONBLOCK`: opening a FIFO must not block. Regular files ignore the flag.
const FILE: OFlags = OFlags::CLOEXEC
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Opens an existing file.
pub(crate) fn open(
    root: &Path,
    path: &Path,
    writable: bool,
    containment: Containment,
) -> io::Result<File> {
    let flags = FILE
        | if writable {
            OFlags::RDWR
        } else {
            OFlags::RDONLY
        };
    if containment == Containment::Anywhere {
        let path = root.join(path);
        return Ok(retry_on_intr(|| openat(CWD, &path, flags, Mode::empty()))?.into());
    }
    let directory = openat(CWD, root, DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match retry_on_intr(|| openat2(&directory, path, flags, Mode::empty(), resolve)) {
        // A sandbox filters the call, or the kernel is older than Linux 5.6.
        Err(Errno::NOSYS | Errno::PERM) => {
            let (parent, name) = parent(root, path, containment)?;
            let flags = flags | OFlags::NOFOLLOW;
            Ok(retry_on_intr(|| openat(&parent, name, flags, Mode::empty()))?.into())
        }
        opened => Ok(opened?.into()),
    }
}

/// Creates a file that does not exist yet, and missing parent directories.
///
/// Calls `changed` with each directory that received an entry. The file is durable after all of
/// these are synced.
pub(crate) fn create(
    root: &Path,
    path: &Path,
    containment: Containment,
    mut changed: impl FnMut(PathBuf),
) -> io::Result<File> {
    let (parent, name) = create_parent(root, path, containment, &mut changed)?;
    let file = create_in(&DirectoryEntry {
        directory: &parent,
        name,
    })?;
    if let Some(parent) = root.join(path).parent() {
        changed(parent.to_path_buf());
    }
    Ok(file)
}

/// Creates a file. The name must not exist.
pub(crate) fn create_in(entry: &DirectoryEntry<'_>) -> io::Result<File> {
    let flags = FILE | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o666);
    Ok(retry_on_intr(|| openat(entry.directory, entry.name, flags, mode))?.into())
}

/// Opens the parent directory of a path, and creates missing directories. Returns it with the last
/// name of the path. `changed` is as for [`create`].
pub(crate) fn create_parent<'p>(
    root: &Path,
    path: &'p Path,
    containment: Containment,
    changed: &mut impl FnMut(PathBuf),
) -> io::Result<(OwnedFd, &'p Path)> {
    let (base, follow) = start_of_walk(root, path, containment);
    let directory = openat(CWD, base, DIRECTORY, Mode::empty())?;
    walk(directory, path, follow, |missing, step| {
        match mkdirat(missing.parent, missing.name, Mode::from_raw_mode(0o777)) {
            // A directory that another process has just created is not durable yet either.
            Ok(()) | Err(Errno::EXIST) => {
                let above = path.components().filter(is_step).take(step);
                changed(base.join(above.collect::<PathBuf>()));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// Opens the parent directory of a path. Returns it with the last name of the path.
pub(crate) fn parent<'p>(
    root: &Path,
    path: &'p Path,
    containment: Containment,
) -> io::Result<(OwnedFd, &'p Path)> {
    let (base, follow) = start_of_walk(root, path, containment);
    let directory = openat(CWD, base, DIRECTORY, Mode::empty())?;
    walk(directory, path, follow, |_, _| Err(Errno::NOENT.into()))
}

/// Syncs the entries of a directory.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory: File = openat(CWD, path, flags, Mode::empty())?.into();
    directory.sync_all()
}

/// The directory in which a walk starts, and whether it may follow symlinks.
fn start_of_walk<'r>(root: &'r Path, path: &Path, containment: Containment) -> (&'r Path, OFlags) {
    match containment {
        Containment::Beneath => (root, OFlags::NOFOLLOW),
        Containment::Anywhere if path.is_absolute() => (Path::new("/"), OFlags::empty()),
        Containment::Anywhere => (root, OFlags::empty()),
    }
}

struct Missing<'a> {
    parent: &'a OwnedFd,
    name: &'a Path,
}

fn is_step(component: &Component<'_>) -> bool {
    matches!(component, Component::Normal(_) | Component::ParentDir)
}

/// Opens the parent directory of `path`, one component at a time. Returns it with the last name.
///
/// `missing` creates a missing directory, or refuses. Its second argument is the index of the
/// component.
fn walk(
    mut directory: OwnedFd,
    path: &Path,
    follow: OFlags,
    mut missing: impl FnMut(Missing<'_>, usize) -> io::Result<()>,
) -> io::Result<(OwnedFd, &Path)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directories = path.parent().unwrap_or_else(|| Path::new(""));
    for (step, component) in directories.components().filter(is_step).enumerate() {
        if component == Component::ParentDir && follow == OFlags::NOFOLLOW {
            return Err(Errno::XDEV.into());
        }
        let name = Path::new(component.as_os_str());
        let flags = DIRECTORY | follow;
        directory = match openat(&directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                let parent = &directory;
                missing(Missing { parent, name }, step)?;
                openat(&directory, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
    }
    Ok((directory, Path::new(name)))
}
