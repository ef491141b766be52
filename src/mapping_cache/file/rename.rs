//! Renaming a file, and following it after a rename.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cached_file::CachedFile;
use super::lock::WHOLE_FILE;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::location::Location;
use crate::mapping_cache::range_lock::Sharing;
use crate::sys::openat2::DirectoryEntry;
use crate::sys::rename;

impl CachedFile {
    /// Renames the file to a location where no file exists, and uses the new location from then on.
    /// The file is [closed](Self::close) first. On another filesystem the file is copied and the
    /// old one removed. Returns whether the file existed. If not, only the location changes.
    ///
    /// # Errors
    ///
    /// - [`MappingError::Io`] with `AlreadyExists` if a file exists at the new location, or with
    ///   another error of renaming it. The file then stays at its old location.
    /// - [`MappingError::WindowPinned`] if a window is pinned.
    /// - [`MappingError::SyncFailed`] if the sync failed.
    pub fn rename_to(&mut self, location: Location) -> Result<bool, MappingError> {
        self.close()?;
        // A rename keeps the file, so range locks of other caches do not matter. It therefore also
        // undoes an earlier one without waiting.
        let renamed = match self.with_entries(&location, |_, old, new| rename::rename(old, new)) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                // Keeps other caches from writing meanwhile: their writes would be lost with the
                // old file.
                let _lock = self.lock_for_copy(WHOLE_FILE, Sharing::Shared)?;
                self.copy_to(&location)
            }
            renamed => renamed,
        };
        let existed = match renamed {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.actual_bytes() {
                Err(MappingError::NotFound { .. }) => false,
                // The file exists, so the missing one is the new root.
                _ => return Err(self.io_error("move", error)),
            },
            Err(error) => return Err(self.io_error("move", error)),
        };
        self.set_location(location);
        Ok(existed)
    }

    /// Sets the location of a file that was moved there. Cannot fail, since the move is done: the
    /// next use opens the file at its new location. Another handle may have windows mapped.
    pub(crate) fn set_location(&mut self, location: Location) {
        self.opened.take();
        self.location = location;
    }

    /// Follows the rename of its root directory to `to`. The file keeps its mappings and its dirty
    /// state.
    pub(crate) fn follow(&mut self, to: &Arc<Path>) {
        self.location = self.location.with_root(Arc::clone(to));
    }

    fn copy_to(&self, location: &Location) -> io::Result<()> {
        self.with_entries(location, |file, old, new| {
            self.note_directory_of(location);
            let sync_directories = || self.resources.directories.sync().map_err(io::Error::from);
            rename::copy_over(file, old, new, sync_directories)
        })
    }

    /// Moves the file by `act`, which gets the file and its old and new directory entry.
    fn with_entries(
        &self,
        location: &Location,
        act: impl FnOnce(&File, &DirectoryEntry<'_>, &DirectoryEntry<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        // Opened first, so that no directories are created for a file that is missing.
        let file = self.location.open(false)?;
        let (old_directory, old_name) = self.location.parent()?;
        let (new_directory, new_name) =
            location.create_parent(|changed| self.resources.directories.note(changed))?;
        let old = DirectoryEntry {
            directory: &old_directory,
            name: old_name,
        };
        let new = DirectoryEntry {
            directory: &new_directory,
            name: new_name,
        };
        act(&file, &old, &new)?;
        self.note_directory_of(location);
        self.note_directory_of(&self.location);
        Ok(())
    }

    /// Marks the directory of a location as dirty.
    pub(super) fn note_directory_of(&self, location: &Location) {
        if let Some(directory) = location.full_path().parent() {
            self.resources.directories.note(directory.to_path_buf());
        }
    }
}
