//! Opening and creating a file, and checking its identity.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::FileType;

use super::cached_file::{CachedFile, Opened};
use super::errors::is_out_of_descriptors;
use super::file_state::FileState;
use super::file_table::ListedFile;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::Access;
use crate::sys::statx::{self, Status};

/// A write in progress. The file has held the descriptor that will report writeback errors since
/// before the write began.
#[derive(Debug)]
pub(in crate::mapping_cache) struct WriteGuard<'a> {
    pub(in crate::mapping_cache) state: &'a Arc<ListedFile>,
    pub(in crate::mapping_cache) file: Arc<File>,
}

impl<'a> WriteGuard<'a> {
    /// Continues the write until the caller ends it with `state.dirty.end()`. The file keeps the
    /// descriptor until then.
    pub(in crate::mapping_cache) fn continue_without_guard(self) -> &'a FileState {
        let state = self.state;
        state.dirty.join_without_descriptor();
        state
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        self.state.dirty.end_with_descriptor();
    }
}

impl CachedFile {
    /// Opens a new read-only descriptor, which the caller owns.
    ///
    /// # Errors
    ///
    /// - [`MappingError::FileReplaced`] if the path leads to another file than before.
    /// - Any other error of opening the file.
    pub(crate) fn open_read_only(&self) -> Result<File, MappingError> {
        Ok(self.open(Access::ReadOnly)?.0)
    }

    /// Returns the state of the file. Opens the file on first use.
    pub(in crate::mapping_cache) fn state(&self) -> Result<&Arc<ListedFile>, MappingError> {
        match self.opened_state() {
            Some(state) => Ok(state),
            None => Ok(self.descriptor(Access::ReadOnly)?.1),
        }
    }

    /// Returns a descriptor that is already open.
    pub(in crate::mapping_cache) fn open_descriptor(&self, access: Access) -> Option<Arc<File>> {
        let state = self.opened_state()?;
        if access == Access::ReadOnly
            && let Some(file) = state.current.get()
        {
            return Some(file);
        }
        let idle = self.resources.fd_pool.get(state.id, access);
        idle.or_else(|| state.dirty.file())
    }

    /// Returns a descriptor for copies and queries, and opens one if none is open.
    pub(in crate::mapping_cache) fn descriptor(
        &self,
        access: Access,
    ) -> Result<(Arc<File>, &Arc<ListedFile>), MappingError> {
        if let Some(file) = self.open_descriptor(access)
            && let Some(state) = self.opened_state()
        {
            return Ok((file, state));
        }
        let (file, access, state) = self.open_for_copies(access)?;
        let file = Arc::new(file);
        state.keep(access, Arc::clone(&file));
        Ok((file, state))
    }

    /// Opens a descriptor for copies. The first descriptor of a writable file is opened for writing
    /// if possible. Overlayfs replaces the file when it is first opened for writing, and an earlier
    /// descriptor for reading would refer to the old file.
    fn open_for_copies(
        &self,
        access: Access,
    ) -> Result<(File, Access, &Arc<ListedFile>), MappingError> {
        if self.opened_state().is_none() && self.options.access == Access::ReadWrite {
            match self.open_as(Access::ReadWrite, false) {
                Ok((file, state)) => return Ok((file, Access::ReadWrite, state)),
                // No write permission, or no space for the copy that overlayfs makes.
                Err(MappingError::Io { .. } | MappingError::StorageFull { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let (file, state) = self.open(access)?;
        Ok((file, access, state))
    }

    /// Opens the file at its path and checks that it is the same file as before [I39].
    pub(in crate::mapping_cache) fn open(
        &self,
        access: Access,
    ) -> Result<(File, &Arc<ListedFile>), MappingError> {
        // A file that was opened before and is missing now was deleted by another process, and is
        // not created again.
        let create = self.options.create && self.opened_state().is_none();
        self.open_as(access, create)
    }

    fn open_as(
        &self,
        access: Access,
        create: bool,
    ) -> Result<(File, &Arc<ListedFile>), MappingError> {
        let file = self.open_or_create(access, create)?;
        let status =
            statx::status(&file).map_err(|source| self.io_error("query its status", source))?;
        if status.kind != FileType::RegularFile {
            let (path, found) = (self.path(), name_of(status.kind));
            return Err(MappingError::NotRegularFile { path, found });
        }
        let state = match self.opened_state() {
            Some(state) => state,
            None => self.attach_state(&file, &status)?,
        };
        if state.identity != status.identity {
            let path = self.path();
            return Err(MappingError::FileReplaced { path });
        }
        Ok((file, state))
    }

    /// Attaches the state of the file with this status to the handle, which has none.
    fn attach_state(&self, file: &File, status: &Status) -> Result<&Arc<ListedFile>, MappingError> {
        let state = self.table.get_or_insert(status);
        {
            // Under the length lock, so that growth that a failed write will undo is not recorded.
            let _length = state.lock_length();
            let present = statx::len(file);
            state
                .storage
                .note_len(present.map_err(|error| self.io_error("query its length", error))?);
        }
        let opened = Opened {
            slots: Arc::clone(&state.slots),
            registered: Arc::clone(&state.registered),
            storage: Arc::clone(&state.storage),
            state,
        };
        Ok(&self.opened.get_or_init(|| opened).state)
    }

    /// Begins a write. The file has its descriptor before anything changes.
    pub(in crate::mapping_cache) fn begin_write(&self) -> Result<WriteGuard<'_>, MappingError> {
        if self.options.access == Access::ReadOnly {
            return Err(self.read_only_error());
        }
        if let Some(state) = self.opened_state()
            && let Some(file) = state.dirty.join()
        {
            return Ok(WriteGuard { state, file });
        }
        let fd_pool = &self.resources.fd_pool;
        fd_pool.close_oldest_if_full();
        let idle = self
            .opened_state()
            .and_then(|state| Some((fd_pool.take_writable(state.id)?, state)));
        let (file, state) = if let Some(idle) = idle {
            idle
        } else {
            let (file, state) = self.open(Access::ReadWrite)?;
            (Arc::new(file), state)
        };
        let (file, is_first) = state.dirty.begin(file);
        if is_first {
            state.current.set(&file);
            fd_pool.add_dirty(state.id, &state.dirty);
        }
        Ok(WriteGuard { state, file })
    }

    fn open_or_create(&self, access: Access, create: bool) -> Result<File, MappingError> {
        let mut opened = self.try_open_or_create(access, create);
        if opened.as_ref().is_err_and(is_out_of_descriptors) {
            self.resources.fd_pool.close_all();
            opened = self.try_open_or_create(access, create);
        }
        opened.map_err(|error| self.open_error(error))
    }

    fn try_open_or_create(&self, access: Access, create: bool) -> io::Result<File> {
        let writable = access == Access::ReadWrite;
        match self.location.open(writable) {
            Err(error) if writable && create && error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let created = self
            .location
            .create(|changed| self.resources.directories.note(changed));
        match created {
            // Another process created the file at the same moment.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.note_directory_of(&self.location);
                self.location.open(writable)
            }
            created => created,
        }
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "a file of an unknown type",
    }
}
