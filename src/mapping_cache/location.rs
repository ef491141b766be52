//! The location of a file: a root directory and a path.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::MappingError;
use crate::sys::openat2::{self, Containment};

/// A path and the root directory that it is relative to.
#[derive(Clone, Debug)]
pub struct Location {
    root: Arc<Path>,
    path: PathBuf,
    containment: Containment,
}

impl Location {
    /// Returns the location of a path that stays under `root`: relative, without `..` and without
    /// symlinks. The kernel checks for symlinks each time the file is opened (`RESOLVE_BENEATH` and
    /// `RESOLVE_NO_SYMLINKS` of `openat2(2)`).
    ///
    /// # Errors
    ///
    /// - [`MappingError::OutsideRoot`] if the path is absolute, contains `..` or is empty.
    pub fn beneath(root: Arc<Path>, path: PathBuf) -> Result<Self, MappingError> {
        let inside = path
            .components()
            .all(|step| matches!(step, Component::Normal(_) | Component::CurDir));
        if !inside || path.file_name().is_none() {
            return Err(MappingError::OutsideRoot { path });
        }
        // One spelling for each file: without `.` and without doubled or trailing slashes.
        let path = path.components().filter(|step| *step != Component::CurDir);
        Ok(Self {
            root,
            path: path.collect(),
            containment: Containment::Beneath,
        })
    }

    /// Returns the location of any path. A relative path starts at `root`. Symlinks are followed.
    #[must_use]
    pub fn unrestricted(root: Arc<Path>, path: PathBuf) -> Self {
        Self {
            root,
            path,
            containment: Containment::Anywhere,
        }
    }

    /// Returns the same path under another root.
    #[must_use]
    pub fn with_root(&self, root: Arc<Path>) -> Self {
        Self {
            root,
            ..self.clone()
        }
    }

    /// Returns the root joined with the path.
    #[must_use]
    pub fn full_path(&self) -> PathBuf {
        self.root.join(&self.path)
    }

    /// Returns the path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open(&self, writable: bool) -> io::Result<File> {
        openat2::open(&self.root, &self.path, writable, self.containment)
    }

    /// Creates the file and missing directories. Calls `changed` with each directory that received
    /// an entry.
    pub(super) fn create(&self, changed: impl FnMut(PathBuf)) -> io::Result<File> {
        openat2::create(&self.root, &self.path, self.containment, changed)
    }

    /// Opens the parent directory. Returns it with the name of the file.
    pub(super) fn parent(&self) -> io::Result<(OwnedFd, &Path)> {
        openat2::parent(&self.root, &self.path, self.containment)
    }

    /// Does the same as [`parent`](Self::parent), but creates missing directories. Calls `changed`
    /// with each directory that received an entry.
    pub(super) fn create_parent(
        &self,
        mut changed: impl FnMut(PathBuf),
    ) -> io::Result<(OwnedFd, &Path)> {
        openat2::create_parent(&self.root, &self.path, self.containment, &mut changed)
    }
}
