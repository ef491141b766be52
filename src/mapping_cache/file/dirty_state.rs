//! The writes of a file that are not synced [I4].
//!
//! The kernel reports a writeback error once, to the descriptors that were open when it happened
//! (`fsync(2)`). So the open file description from before the first write is kept until a sync has
//! returned: by its descriptor, or by a mapping if descriptors are scarce. A failed sync is
//! remembered: the kernel may have dropped the pages, and a second sync would succeed although data
//! is lost.
//!
//! ```text
//!   CLEAN (no descriptor) --begin--> WRITING --end--> DIRTY --sync ok, no writer--> CLEAN
//!                                       ^---begin---'   `--sync failed--> FAILED (permanent)
//! ```
//!
//! WRITING and DIRTY may replace the descriptor by a mapping (`replace_descriptor`), unless a write
//! or a sync uses it. A write that needs a descriptor then opens one more. The mapping stays: it
//! returns the errors that occurred before.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::unsynced_mappings::UnsyncedMappings;

#[derive(Debug, Default)]
pub(in crate::mapping_cache) struct DirtyState {
    state: Mutex<State>,
    /// Held during a sync. The kernel reports an error to one caller per descriptor, and every
    /// caller that waits for the same writes must return it.
    syncing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Open from before the first write that `mappings` do not cover.
    file: Option<Arc<File>>,
    /// Changed only while `syncing` is held.
    mappings: UnsyncedMappings,
    writers: u32,
    /// Writers that use the descriptor. The others use a mapping.
    descriptor_users: u32,
    dirty: bool,
    failed: Option<SavedError>,
    /// Whether the file is no longer open in its cache.
    forgotten: bool,
}

/// An error from which equal `io::Error`s are made.
#[derive(Debug)]
struct SavedError {
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl SavedError {
    fn to_io_error(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => self.kind.into(),
        }
    }
}

/// The state of a file after a successful sync.
#[derive(Debug)]
pub(super) enum SyncOutcome {
    /// Everything is durable. The descriptor is no longer needed.
    Clean(Option<Arc<File>>),
    /// Writes that ended before the sync are durable, but others are in progress or followed.
    StillWriting,
}

impl State {
    fn has_unsynced(&self) -> bool {
        self.file.is_some() || !self.mappings.is_empty()
    }

    fn end(&mut self) {
        assert!(self.writers > 0, "every write that ends has begun");
        self.writers -= 1;
        self.dirty = true;
    }
}

impl DirtyState {
    /// Begins a write if the file already has its descriptor.
    pub(super) fn join(&self) -> Option<Arc<File>> {
        let mut state = self.lock();
        let file = state.file.clone()?;
        state.writers += 1;
        state.descriptor_users += 1;
        Some(file)
    }

    /// Begins a write through a mapping, beside one that uses the descriptor.
    pub(super) fn join_without_descriptor(&self) {
        self.lock().writers += 1;
    }

    /// Begins a write with a descriptor that was opened for it. If another thread's descriptor is
    /// already in use, that one is returned. Returns whether `opened` is used.
    pub(super) fn begin(&self, opened: Arc<File>) -> (Arc<File>, bool) {
        let mut state = self.lock();
        state.writers += 1;
        state.descriptor_users += 1;
        if let Some(file) = &state.file {
            return (Arc::clone(file), false);
        }
        state.file = Some(Arc::clone(&opened));
        (opened, true)
    }

    /// Ends a write through a mapping. A failed write may have changed the file too.
    pub(in crate::mapping_cache) fn end(&self) {
        self.lock().end();
    }

    /// Ends a write that used the descriptor.
    pub(super) fn end_with_descriptor(&self) {
        let mut state = self.lock();
        state.descriptor_users -= 1;
        state.end();
    }

    /// Replaces the descriptor by a mapping. Returns whether no descriptor is left. It stays if a
    /// write or a sync uses it, or if the filesystem does not support mappings.
    pub(super) fn replace_descriptor(&self) -> bool {
        let _no_sync = match self.syncing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let mut state = self.lock();
        let State {
            file,
            mappings,
            descriptor_users,
            ..
        } = &mut *state;
        let Some(descriptor) = file else {
            return true;
        };
        // A write that uses the descriptor may extend the file past the end of the mapping.
        if *descriptor_users > 0 || mappings.add(descriptor).is_err() {
            return false;
        }
        let closing = file.take();
        drop(state);
        // close(2) may take long, so it is not called under the lock.
        drop(closing);
        true
    }

    /// Returns after all writes that ended before the call are durable.
    pub(super) fn sync(&self) -> io::Result<SyncOutcome> {
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, mappings) = {
            let mut state = self.lock();
            if let Some(failed) = &state.failed {
                return Err(failed.to_io_error());
            }
            if !state.has_unsynced() {
                return Ok(SyncOutcome::Clean(None));
            }
            // A write that ends after this is not covered by the sync and sets it again.
            state.dirty = false;
            (state.file.clone(), state.mappings.clone())
        };
        // Both, so that each returns its error once.
        let (written, mapped) = (
            file.as_deref().map_or(Ok(()), File::sync_data),
            mappings.sync(),
        );
        let synced = written.and(mapped);
        let mut state = self.lock();
        match synced {
            Ok(()) if state.dirty || state.writers > 0 => Ok(SyncOutcome::StillWriting),
            Ok(()) => {
                state.mappings = UnsyncedMappings::default();
                Ok(SyncOutcome::Clean(state.file.take()))
            }
            Err(error) => {
                state.dirty = true;
                state.failed = Some(SavedError {
                    kind: error.kind(),
                    code: error.raw_os_error(),
                });
                Err(error)
            }
        }
    }

    /// Records that stores were lost, so that no later sync succeeds.
    pub(in crate::mapping_cache) fn note_lost_stores(&self) {
        let mut state = self.lock();
        state.failed.get_or_insert(SavedError {
            kind: io::ErrorKind::Other,
            code: Some(libc::EIO),
        });
    }

    /// Returns whether a write is in progress.
    pub(super) fn is_writing(&self) -> bool {
        self.lock().writers > 0
    }

    /// Returns the descriptor of the writes that are not synced, if there are any.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.lock().file.clone()
    }

    /// Returns whether a descriptor or a mapping is kept for the next sync.
    pub(super) fn has_unsynced(&self) -> bool {
        self.lock().has_unsynced()
    }

    /// Closes the descriptor if a sync failed and no write is in progress: it will not report
    /// another error. Returns whether it was closed.
    pub(super) fn close_failed(&self) -> bool {
        let mut state = self.lock();
        let closes = state.failed.is_some() && state.writers == 0;
        if closes {
            state.file = None;
            state.mappings = UnsyncedMappings::default();
        }
        closes
    }

    /// Records that the file is no longer open in its cache.
    pub(super) fn note_forgotten(&self) {
        self.lock().forgotten = true;
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.lock().forgotten
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
