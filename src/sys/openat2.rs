//! Opening files beneath a root directory, without being led out of it.
//!
//! Containment is kept by the kernel, one path component at a time
//! ([`openat2(2)`](https://man7.org/linux/man-pages/man2/openat2.2.html) where there is one, a walk
//! with `O_NOFOLLOW` where it is filtered or missing), so that a symlink put in place between check
//! and use leads nowhere.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::{Errno, retry_on_intr};

use super::rename::Place;

/// May the path leave its root or pass through symlinks?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Containment {
    /// `..`, absolute paths and symlinks are refused by the kernel.
    Beneath,
    /// Any path that `open(2)` takes.
    Anywhere,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// `NONBLOCK`: a FIFO in place of a file must not hang us; regular files do not heed it.
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
        // Filtered by a sandbox, or older than Linux 5.6.
        Err(Errno::NOSYS | Errno::PERM) => {
            let (parent, name) = parent(root, path, containment)?;
            let flags = flags | OFlags::NOFOLLOW;
            Ok(retry_on_intr(|| openat(&parent, name, flags, Mode::empty()))?.into())
        }
        opened => Ok(opened?.into()),
    }
}

/// Creates a file that is not there yet, with the folders it needs. `changed` is called with each
/// folder that received a new entry; it has to be synced before the file is durable.
pub(crate) fn create(
    root: &Path,
    path: &Path,
    containment: Containment,
    mut changed: impl FnMut(PathBuf),
) -> io::Result<File> {
    let (parent, name) = make_parent(root, path, containment, &mut changed)?;
    let file = create_in(&Place {
        folder: &parent,
        name,
    })?;
    if let Some(parent) = root.join(path).parent() {
        changed(parent.to_path_buf());
    }
    Ok(file)
}

/// Creates a file of this name in an open folder, where there must be none.
pub(crate) fn create_in(place: &Place<'_>) -> io::Result<File> {
    let flags = FILE | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o666);
    Ok(retry_on_intr(|| openat(place.folder, place.name, flags, mode))?.into())
}

/// Opens the folder a path lies in, creating the folders that are missing. Returns it with the
/// path's last name. `changed` as for [`create`].
pub(crate) fn make_parent<'p>(
    root: &Path,
    path: &'p Path,
    containment: Containment,
    changed: &mut impl FnMut(PathBuf),
) -> io::Result<(OwnedFd, &'p Path)> {
    let (base, follow) = start_of_walk(root, path, containment);
    let directory = openat(CWD, base, DIRECTORY, Mode::empty())?;
    walk(directory, path, follow, |missing, step| {
        match mkdirat(missing.parent, missing.name, Mode::from_raw_mode(0o777)) {
            // Where somebody else was faster, that is not durable yet either.
            Ok(()) | Err(Errno::EXIST) => {
                let above = path.components().filter(is_step).take(step);
                changed(base.join(above.collect::<PathBuf>()));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// Opens the folder a path lies in. Returns it with the path's last name.
pub(crate) fn parent<'p>(
    root: &Path,
    path: &'p Path,
    containment: Containment,
) -> io::Result<(OwnedFd, &'p Path)> {
    let (base, follow) = start_of_walk(root, path, containment);
    let directory = openat(CWD, base, DIRECTORY, Mode::empty())?;
    walk(directory, path, follow, |_, _| Err(Errno::NOENT.into()))
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory: File = openat(CWD, path, flags, Mode::empty())?.into();
    directory.sync_all()
}

/// The folder a walk starts in, and whether it may follow symlinks.
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

/// Goes down to the folder of `path`, one component at a time; `missing` may create a folder that is
/// not there (its place among the steps is given) or refuse. Returns the folder and the last name.
fn walk(
    mut directory: OwnedFd,
    path: &Path,
    follow: OFlags,
    mut missing: impl FnMut(Missing<'_>, usize) -> io::Result<()>,
) -> io::Result<(OwnedFd, &Path)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folders = path.parent().unwrap_or(Path::new(""));
    for (step, component) in folders.components().filter(is_step).enumerate() {
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
