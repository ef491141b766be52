//! Moving a file to another location.

use std::io;

use super::claims::Sharing;
use super::error::MappingError;
use super::file::CachedFile;
use super::location::Location;
use crate::sys::rename::{self, Place};

impl CachedFile {
    /// Moves the file to another location, where nothing may be yet, and goes on from there: by
    /// renaming it, or by copying it and removing the old one when the new location is on another
    /// filesystem. It is [released](Self::release) first. Says whether there was a file to move;
    /// without one, only the location changes.
    ///
    /// # Errors
    ///
    /// Those of releasing it; [`MappingError::Io`] with `AlreadyExists` and others; then the file is
    /// where it was.
    pub fn move_to(&mut self, location: Location) -> Result<bool, MappingError> {
        self.release()?;
        // Nobody writes it meanwhile, through another cache: that would be lost with the old one.
        let whole = usize::try_from(i64::MAX).unwrap_or(usize::MAX);
        let claim = match self.claim_for_copy(0, whole, Sharing::Shared) {
            Err(MappingError::Missing { .. }) => None,
            claim => claim?,
        };
        let carried = self.carry(&location);
        drop(claim);
        let moved = match carried {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.present_bytes() {
                Err(MappingError::Missing { .. }) => false,
                // The file is there: what was not found is the new root.
                _ => return Err(self.io("move it", error)),
            },
            Err(error) => return Err(self.io("move it", error)),
        };
        self.relocate(location)?;
        Ok(moved)
    }

    /// Goes on at another location, where somebody has put the file.
    ///
    /// # Errors
    ///
    /// [`MappingError::WindowPinned`] while a window is pinned.
    pub fn relocate(&mut self, location: Location) -> Result<(), MappingError> {
        self.abandon()?;
        self.location = location;
        Ok(())
    }

    fn carry(&self, location: &Location) -> io::Result<()> {
        // Asked first, so that no folders are made for a file that is missing.
        let file = self.location.open(false)?;
        let (old_folder, old_name) = self.location.parent()?;
        let (new_folder, new_name) = location.make_parent(&self.directories)?;
        let old = Place {
            folder: &old_folder,
            name: old_name,
        };
        let new = Place {
            folder: &new_folder,
            name: new_name,
        };
        match rename::rename(&old, &new) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.note_entry(location);
                let made_durable = || self.directories.sync().map_err(io::Error::from);
                rename::copy_over(&file, &old, &new, made_durable)?;
            }
            renamed => renamed?,
        }
        self.note_entry(location);
        self.note_entry(&self.location);
        Ok(())
    }

    pub(super) fn note_entry(&self, location: &Location) {
        if let Some(folder) = location.full_path().parent() {
            self.directories.note(folder.to_path_buf());
        }
    }
}
