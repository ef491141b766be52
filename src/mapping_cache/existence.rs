//! That a file is there at all: making a new one, removing it, and following it when its folder was renamed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::claims::Sharing;
use super::error::MappingError;
use super::file::CachedFile;
use super::options::Access;
use crate::sys::rename::{self, Place};

impl CachedFile {
    /// Creates the file, which must not be there, whether or not the options allow to create it when it is written.
    ///
    /// # Errors
    ///
    /// [`MappingError::ReadOnly`]; [`MappingError::Io`] with `AlreadyExists` and others.
    pub fn create_new(&self) -> Result<(), MappingError> {
        if self.options.access == Access::ReadOnly {
            let path = self.path();
            return Err(MappingError::ReadOnly { path });
        }
        let created = match self.opened_entry() {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => self.location.create(&self.directories),
        };
        created.map_err(|source| self.io("create it", source))?;
        // Counts as a write, so that the next sync makes the file itself durable.
        drop(self.begin_write()?);
        Ok(())
    }

    /// Removes the file, with all that was written and not synced. The next use takes whatever is at its path then.
    /// Other handles of it have to be [abandoned](Self::abandon).
    ///
    /// # Errors
    ///
    /// [`MappingError::Busy`] while a span lives, [`MappingError::WindowPinned`] while a window is pinned;
    /// [`MappingError::ReadOnly`], [`MappingError::Missing`]; [`MappingError::Replaced`] if it is not the file that
    /// was opened; [`MappingError::Io`].
    pub fn remove(&mut self) -> Result<(), MappingError> {
        if self.options.access == Access::ReadOnly {
            let path = self.path();
            return Err(MappingError::ReadOnly { path });
        }
        // Nothing of another file's name is removed.
        drop(self.open(Access::ReadOnly)?);
        let whole = usize::try_from(i64::MAX).unwrap_or(usize::MAX);
        let claim = self.claim_for_copy(0, whole, Sharing::Exclusive)?;
        self.let_go()?;
        let removed = self.location.parent().and_then(|(folder, name)| {
            let folder = &folder;
            rename::remove(&Place { folder, name })
        });
        drop(claim);
        removed.map_err(|source| self.io("remove it", source))?;
        self.note_entry(&self.location);
        self.abandon()
    }

    /// The folder `from` was renamed to `to` with the file in it: it goes on as the same file, with all that is
    /// mapped and not yet synced.
    pub(crate) fn follow(&mut self, from: &Path, to: &Arc<Path>) {
        self.directories.renamed(from, to);
        self.location = self.location.moved_to(to.clone());
    }

    /// A descriptor of its own for reading.
    ///
    /// # Errors
    ///
    /// Those of opening the file, [`MappingError::Replaced`] among them.
    pub fn open_for_reading(&self) -> Result<File, MappingError> {
        Ok(self.open(Access::ReadOnly)?.0)
    }
}
