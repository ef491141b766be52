//! A file in the cache: a path, a declared length, and its state once it was opened.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::file_registry::RegisteredFile;
use super::file_table::{FileTable, ListedFile};
use super::resources::Resources;
use super::storage_state::StorageState;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::location::Location;
use crate::mapping_cache::options::{Access, FileOptions, FlushMode, PreallocationStatus};
use crate::mapping_cache::window::SlotTable;
use crate::sys::{statx, sync_file_range};

/// A file whose bytes are accessed through a [`MappingCache`](crate::mapping_cache::MappingCache).
///
/// It holds a path, not a descriptor. The file is opened when it is needed, and each time the cache
/// checks that the path still leads to the same file. The declared length is the length that the
/// owner expects. It bounds preallocation and pins. A shorter file can be read up to its end, and
/// writing extends it.
///
/// Dropping a file does not sync it.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use flatspan::mapping_cache::{Access, CacheOptions, FileOptions, Location, MappingCache};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = std::env::temp_dir();
/// let name = format!("flatspan-file-{}", std::process::id());
/// let cache = MappingCache::new(CacheOptions::default())?;
/// let location = Location::beneath(Arc::from(directory.as_path()), name.clone().into())?;
/// let options = FileOptions::default().access(Access::ReadWrite).create(true);
///
/// let file = cache.file(location, 1000, options);
/// file.write_at(990, b"the end")?;
/// file.sync()?;
/// file.sync_directories()?;
/// # std::fs::remove_file(directory.join(&name))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CachedFile {
    pub(in crate::mapping_cache) resources: Arc<Resources>,
    pub(super) table: Arc<FileTable>,
    pub(super) location: Location,
    pub(in crate::mapping_cache) declared_bytes: u64,
    pub(in crate::mapping_cache) options: FileOptions,
    pub(super) opened: OnceLock<Opened>,
}

/// The state of a file that was opened.
#[derive(Debug)]
pub(in crate::mapping_cache) struct Opened {
    pub(in crate::mapping_cache) state: Arc<ListedFile>,
    /// Copies of three references in `state`, which spare a hit one dereference each.
    pub(in crate::mapping_cache) slots: Arc<SlotTable>,
    pub(in crate::mapping_cache) registered: Arc<RegisteredFile>,
    pub(in crate::mapping_cache) storage: Arc<StorageState>,
}

impl CachedFile {
    pub(in crate::mapping_cache) fn new(
        table: Arc<FileTable>,
        location: Location,
        declared_bytes: u64,
        options: FileOptions,
    ) -> Self {
        Self {
            resources: Arc::clone(&table.resources),
            table,
            location,
            declared_bytes,
            options,
            opened: OnceLock::new(),
        }
    }

    /// Returns the declared length of the file.
    #[must_use]
    pub fn declared_bytes(&self) -> u64 {
        self.declared_bytes
    }

    /// Sets the declared length, which only grows. The file itself grows when it is written.
    ///
    /// # Errors
    ///
    /// - [`MappingError::InvalidOption`] if `bytes` is less than
    ///   [`declared_bytes`](Self::declared_bytes).
    pub fn set_declared_bytes(&mut self, bytes: u64) -> Result<(), MappingError> {
        let before = self.declared_bytes;
        if bytes < before {
            return Err(MappingError::InvalidOption {
                field: "declared_bytes",
                reason: format!("{bytes} is less than the present {before}; it may only grow"),
            });
        }
        self.declared_bytes = bytes;
        Ok(())
    }

    /// Returns the location of the file.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Returns whether the requested storage was preallocated.
    #[must_use]
    pub fn preallocation_status(&self) -> PreallocationStatus {
        match self.opened() {
            Some(opened) => opened.state.storage.preallocation_status(),
            None => PreallocationStatus::NotRequested,
        }
    }

    /// Returns the present length of the file. Opens the file on first use.
    ///
    /// # Errors
    ///
    /// - [`MappingError::NotFound`] if the file is missing.
    /// - Any other error of opening the file.
    pub fn actual_bytes(&self) -> Result<u64, MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        statx::len(&file).map_err(|source| self.io_error("query its length", source))
    }

    /// Returns the bytes of storage that the file occupies. They are fewer than its length if it
    /// has holes, and more if storage is preallocated past its end.
    ///
    /// # Errors
    ///
    /// Returns any error of opening the file.
    pub fn allocated_bytes(&self) -> Result<u64, MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        let allocated = fs2::FileExt::allocated_size(&*file);
        allocated.map_err(|source| self.io_error("query its allocated size", source))
    }

    /// Creates the file if it is missing and the options permit it.
    ///
    /// # Errors
    ///
    /// Returns any error of opening or creating the file.
    pub fn create_if_missing(&self) -> Result<(), MappingError> {
        drop(self.begin_write()?);
        Ok(())
    }

    /// Returns after all data that was written before the call, and the length, are durable.
    ///
    /// The entry of a new file in its directory is made durable by
    /// [`sync_directories`](Self::sync_directories), which is called after this.
    ///
    /// # Errors
    ///
    /// - [`MappingError::SyncFailed`] if a write may be lost. Later calls return the error again
    ///   until the file is [closed without a sync](Self::close_without_sync).
    pub fn sync(&self) -> Result<(), MappingError> {
        match self.opened() {
            Some(opened) => opened.state.sync(&self.location.full_path()),
            None => Ok(()),
        }
    }

    /// Syncs the directories in which files of this cache were created, renamed or removed.
    ///
    /// # Errors
    ///
    /// - [`MappingError::SyncFailed`] with the first directory whose sync failed.
    pub fn sync_directories(&self) -> Result<(), MappingError> {
        self.resources.directories.sync()
    }

    /// Writes the range to disk. [`FlushMode::Sync`] syncs the whole file. [`FlushMode::Async`]
    /// starts writeback of the range and does not wait.
    ///
    /// # Errors
    ///
    /// - [`MappingError::SyncFailed`] if a sync failed.
    /// - [`MappingError::Io`] if writeback cannot be started.
    /// - Any other error of opening the file.
    pub fn flush(&self, range: Range<u64>, mode: FlushMode) -> Result<(), MappingError> {
        match (mode, self.opened_state()) {
            (_, None) => Ok(()),
            // The kernel treats a length of zero as "up to the end".
            (FlushMode::Async, _) if range.is_empty() => Ok(()),
            (FlushMode::Sync, Some(_)) => self.sync(),
            (FlushMode::Async, Some(state)) => {
                if !state.dirty.has_unsynced() {
                    return Ok(());
                }
                let (file, _) = self.descriptor(Access::ReadOnly)?;
                let len = range.end.saturating_sub(range.start);
                let started = sync_file_range::start(&file, range.start, len);
                started.map_err(|source| self.io_error("start writeback", source))
            }
        }
    }

    /// Syncs the file, unmaps all of it and closes it, so that it can be renamed, replaced or
    /// deleted. The next use opens the file that is at the path then.
    ///
    /// # Errors
    ///
    /// - [`MappingError::WindowPinned`] if a window is pinned.
    /// - [`MappingError::SyncFailed`] if the sync failed.
    ///
    /// The file stays open on error.
    pub fn close(&mut self) -> Result<(), MappingError> {
        let Some(state) = self.opened_state() else {
            return Ok(());
        };
        state.sync(&self.location.full_path())?;
        self.unmap_and_close_idle()?;
        if let Some(Opened { state, .. }) = self.opened.take() {
            let _length = state.lock_length();
            state.storage.forget_len();
        }
        Ok(())
    }

    /// Unmaps all of the file and closes it without a sync. This is for a file whose sync failed,
    /// that was truncated by another process, or that is to be deleted.
    ///
    /// Other handles of the file in this cache have to be closed in the same way. Until then they
    /// use the old state of the file. The present length is accepted for all handles in the
    /// process.
    ///
    /// # Errors
    ///
    /// - [`MappingError::WindowPinned`] if a window is pinned.
    pub fn close_without_sync(&mut self) -> Result<(), MappingError> {
        self.unmap_and_close_idle()?;
        self.forget();
        Ok(())
    }

    /// Forgets the state of the file, which is closed or removed. Cannot fail, since a removal is
    /// done: another handle may have windows mapped again.
    pub(crate) fn forget(&mut self) {
        if let Some(Opened { state, .. }) = self.opened.take() {
            self.resources.fd_pool.close_idle(state.id);
            // Accepts the length that the file has now, for all caches of the process.
            let _length = state.lock_length();
            state.storage.forget();
            // The next handle that opens the file gets a new state, even while others hold this.
            self.table.remove(&state);
        }
    }

    /// Returns whether the file is stored on a rotational device (sysfs `queue/rotational`).
    pub(crate) fn is_rotational(&self) -> Result<bool, MappingError> {
        Ok(self.state()?.is_rotational())
    }

    #[inline(always)]
    pub(in crate::mapping_cache) fn opened_state(&self) -> Option<&Arc<ListedFile>> {
        Some(&self.opened()?.state)
    }

    #[inline(always)]
    pub(in crate::mapping_cache) fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }
}
