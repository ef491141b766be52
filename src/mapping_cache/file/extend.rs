//! Extending a file and preallocating its storage for writes, and undoing both after a failure.
//!
//! This process changes the length of a file under its length lock only. Undoing never truncates
//! below the present length of a file that another process extended meanwhile [I37].

use std::fs::File;
use std::io;
use std::ops::Range;

use super::cached_file::CachedFile;
use super::file_state::FileState;
use super::open::WriteGuard;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::{Preallocation, PreallocationFallback, PreallocationStatus};
use crate::sys::fallocate::{self, Coverage};
use crate::sys::statx;

impl CachedFile {
    /// Creates the file if it is missing, whatever
    /// [`FileOptions::create`](crate::mapping_cache::FileOptions::create) says, and extends it to
    /// its declared length if it is shorter. Returns its length, which is larger if the file was
    /// longer. Several threads, caches and processes may call this at the same time. No data is
    /// lost.
    ///
    /// # Errors
    ///
    /// - [`MappingError::ReadOnly`] if the file is opened for reading only.
    /// - [`MappingError::StorageFull`] if the filesystem is full.
    /// - [`MappingError::FileTooShort`] if another process truncated the file.
    /// - Any other error of opening or creating the file.
    pub fn create_or_extend(&self) -> Result<u64, MappingError> {
        match self.create_new() {
            Err(MappingError::Io { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists => {}
            created => created?,
        }
        let writing = self.begin_write()?;
        let WriteGuard { state, file } = &writing;
        let _length = state.lock_length();
        let present = self.checked_len(state, file)?;
        if self.options.preallocation == Preallocation::Full {
            self.preallocate_declared(state, file, present)?;
        }
        self.extend(state, file, present, self.declared_bytes)
    }

    /// Prepares a window for stores. Extends the file to the end of the window or to its declared
    /// length, and preallocates storage as the options say. Returns the length of the file.
    pub(in crate::mapping_cache) fn prepare_for_stores(
        &self,
        state: &FileState,
        file: &File,
        window: u64,
    ) -> Result<u64, MappingError> {
        let start = self.resources.windows.start(window);
        let _length = state.lock_length();
        let present = self.checked_len(state, file)?;
        let end = start
            .saturating_add(self.resources.windows.bytes() as u64)
            .min(self.declared_bytes.max(present));
        if end <= start {
            return Err(self.too_short_error(start + 1, self.declared_bytes.max(present)));
        }
        match self.options.preallocation {
            Preallocation::Full => self.preallocate_declared(state, file, present)?,
            Preallocation::Window => self.preallocate_range(state, file, start..end, present)?,
            Preallocation::Sparse => {}
        }
        self.extend(state, file, present, end)
    }

    /// Preallocates the declared length and extends the file to it, once. Requires the length lock.
    pub(in crate::mapping_cache) fn preallocate_declared(
        &self,
        state: &FileState,
        file: &File,
        present: u64,
    ) -> Result<(), MappingError> {
        if self.is_preallocated(state) {
            return Ok(());
        }
        self.preallocate_range(state, file, 0..self.declared_bytes, present)?;
        self.extend(state, file, present, self.declared_bytes)?;
        state.storage.note_preallocated_to(self.declared_bytes);
        Ok(())
    }

    /// Returns whether everything is preallocated that the options request before the first write.
    pub(in crate::mapping_cache) fn is_preallocated(&self, state: &FileState) -> bool {
        self.options.preallocation != Preallocation::Full
            || state.storage.is_preallocated_to(self.declared_bytes)
    }

    /// Returns the length of the file. Returns an error if another process truncated it. Requires
    /// the length lock.
    pub(in crate::mapping_cache) fn checked_len(
        &self,
        state: &FileState,
        file: &File,
    ) -> Result<u64, MappingError> {
        let present = statx::len(file).map_err(|e| self.io_error("query its length", e))?;
        let known = state.storage.known_bytes();
        if present < known {
            return Err(self.too_short_error(known, present));
        }
        state.storage.note_len(present);
        Ok(present)
    }

    pub(super) fn preallocate_range(
        &self,
        state: &FileState,
        file: &File,
        range: Range<u64>,
        present: u64,
    ) -> Result<(), MappingError> {
        let len = range.end - range.start;
        let preallocated = fallocate::preallocate(file, range.start, len);
        if preallocated.is_ok() {
            state.storage.note_reserved(&range, present);
        }
        match preallocated {
            Ok(Coverage::EveryWrite) => {
                state
                    .storage
                    .set_preallocation_status(PreallocationStatus::Reserved);
            }
            Ok(Coverage::FirstWrite) => {
                state
                    .storage
                    .set_preallocation_status(PreallocationStatus::FirstWriteOnly);
            }
            Err(error) if fallocate::is_unsupported(&error) => {
                if self.options.preallocation_fallback == PreallocationFallback::Fail {
                    let (path, operation) = (self.path(), "preallocation (fallocate)");
                    return Err(MappingError::Unsupported { path, operation });
                }
                state
                    .storage
                    .set_preallocation_status(PreallocationStatus::Unsupported);
            }
            Err(error) => {
                state.undo_growth(file, present, present);
                return Err(self.storage_error("preallocate storage", len, error));
            }
        }
        Ok(())
    }

    /// Extends the file to `end` bytes if it is shorter, and returns its length. With `fallocate`
    /// it never becomes shorter, even if another process changes its length at the same moment.
    fn extend(
        &self,
        state: &FileState,
        file: &File,
        before: u64,
        end: u64,
    ) -> Result<u64, MappingError> {
        let query = || statx::len(file).map_err(|error| self.io_error("query its length", error));
        let present = query()?;
        if present >= end {
            return Ok(present);
        }
        let mut extended = fallocate::extend(file, end);
        if extended.as_ref().is_err_and(fallocate::is_unsupported) {
            extended = file.set_len(end);
        }
        if let Err(error) = extended {
            state.undo_growth(file, before, before);
            return Err(self.storage_error("extend", end - present, error));
        }
        state.storage.note_holes();
        let reached = query()?;
        state.storage.note_len(reached);
        Ok(reached)
    }
}

impl FileState {
    /// Undoes the growth of a failed preallocation or write. `before` is the length of the file
    /// before it, and `ours` the length after it. Requires the length lock.
    ///
    /// Truncating also frees what earlier calls have preallocated past the end. That storage is
    /// preallocated again.
    pub(in crate::mapping_cache) fn undo_growth(&self, file: &File, before: u64, ours: u64) {
        // Any other length was set by another process and stays.
        if !statx::len(file).is_ok_and(|now| now == before || now == ours) {
            return;
        }
        let reserved = self.storage.reserved_past(before);
        // An error here is ignored: the caller reports the failure that is undone.
        if file.set_len(before).is_err() {
            return;
        }
        self.storage.note_truncated(before);
        for range in reserved {
            match fallocate::preallocate(file, range.start, range.end - range.start) {
                Ok(_) => self.storage.note_reserved(&range, before),
                // Another process was faster to use the freed storage.
                Err(_) => self.storage.note_storage_freed(range.start),
            }
        }
    }
}
