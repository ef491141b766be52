//! Creating and removing a file.

use std::io;

use super::cached_file::CachedFile;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::Access;
use crate::sys::openat2::DirectoryEntry;
use crate::sys::rename;

impl CachedFile {
    /// Creates the file, which must not exist. Ignores
    /// [`FileOptions::create`](crate::mapping_cache::FileOptions::create).
    ///
    /// # Errors
    ///
    /// - [`MappingError::ReadOnly`] if the file is opened for reading only.
    /// - [`MappingError::Io`] with `AlreadyExists` if the file exists, or with another error of
    ///   creating it.
    pub fn create_new(&self) -> Result<(), MappingError> {
        if self.options.access == Access::ReadOnly {
            return Err(self.read_only_error());
        }
        let created = match self.opened_state() {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => self
                .location
                .create(|changed| self.resources.directories.note(changed)),
        };
        created.map_err(|source| self.io_error("create", source))?;
        // Counts as a write, so that the next sync makes the file itself durable.
        drop(self.begin_write()?);
        Ok(())
    }

    /// Removes the file, including writes that were not synced. The next use opens the file that is
    /// at the path then. Other handles of the file have to be
    /// [closed without a sync](Self::close_without_sync).
    ///
    /// # Errors
    ///
    /// - [`MappingError::RangeLocked`] if a span holds a range of the file.
    /// - [`MappingError::WindowPinned`] if a window is pinned.
    /// - [`MappingError::ReadOnly`] if the file is opened for reading only.
    /// - [`MappingError::NotFound`] if the file is missing.
    /// - [`MappingError::FileReplaced`] if the path leads to another file than before.
    /// - [`MappingError::Io`] if removing it fails.
    pub fn remove(&mut self) -> Result<(), MappingError> {
        if self.options.access == Access::ReadOnly {
            return Err(self.read_only_error());
        }
        // Checks that the path still leads to this file.
        drop(self.open(Access::ReadOnly)?);
        self.unlock_pages_with_last_handle();
        let lock = self.lock_and_unmap_from(0)?;
        let removed = self.location.parent().and_then(|(directory, name)| {
            rename::remove(&DirectoryEntry {
                directory: &directory,
                name,
            })
        });
        drop(lock);
        removed.map_err(|source| self.io_error("remove", source))?;
        self.note_directory_of(&self.location);
        self.forget();
        Ok(())
    }
}
