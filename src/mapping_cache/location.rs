//! Where a file lies: a path beneath a root directory that it may not leave.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::directories::UnsyncedDirectories;
use super::error::MappingError;
use crate::sys::openat2::{self, Containment};

/// A path and the root directory it is seen from.
#[derive(Clone, Debug)]
pub struct Location {
    root: Arc<Path>,
    path: PathBuf,
    containment: Containment,
}

impl Location {
    /// A path that stays beneath `root`: no `..`, not absolute, and no symlink on it, which is
    /// checked by the kernel whenever the file is opened.
    ///
    /// # Errors
    ///
    /// [`MappingError::OutsideRoot`] for a path that would leave, and for one that names nothing.
    pub fn beneath(root: Arc<Path>, path: PathBuf) -> Result<Self, MappingError> {
        let inside = path
            .components()
            .all(|step| matches!(step, Component::Normal(_) | Component::CurDir));
        if !inside || path.file_name().is_none() {
            return Err(MappingError::OutsideRoot { path });
        }
        // One spelling for each file: without `.` and doubled or trailing slashes.
        let path = path.components().filter(|step| *step != Component::CurDir);
        Ok(Self {
            root,
            path: path.collect(),
            containment: Containment::Beneath,
        })
    }

    /// Any path; a relative one is seen from `root`. Symlinks are followed.
    #[must_use]
    pub fn anywhere(root: Arc<Path>, path: PathBuf) -> Self {
        Self {
            root,
            path,
            containment: Containment::Anywhere,
        }
    }

    /// The same path beneath another root.
    #[must_use]
    pub fn moved_to(&self, root: Arc<Path>) -> Self {
        Self {
            root,
            ..self.clone()
        }
    }

    /// The root with the path, for messages and for calls that take a whole path.
    #[must_use]
    pub fn full_path(&self) -> PathBuf {
        self.root.join(&self.path)
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open(&self, writable: bool) -> io::Result<File> {
        openat2::open(&self.root, &self.path, writable, self.containment)
    }

    pub(super) fn create(&self, directories: &UnsyncedDirectories) -> io::Result<File> {
        openat2::create(&self.root, &self.path, self.containment, |directory| {
            directories.note(directory);
        })
    }

    /// The folder it lies in, and its name there.
    pub(super) fn parent(&self) -> io::Result<(OwnedFd, &Path)> {
        openat2::parent(&self.root, &self.path, self.containment)
    }

    /// As [`parent`](Self::parent), creating the folders that are missing.
    pub(super) fn make_parent(
        &self,
        directories: &UnsyncedDirectories,
    ) -> io::Result<(OwnedFd, &Path)> {
        let mut changed = |directory| directories.note(directory);
        openat2::make_parent(&self.root, &self.path, self.containment, &mut changed)
    }
}
