//! The writes of a file that are not synced [I4].
//!
//! The kernel reports a writeback error once, to the descriptors that were open when it happened
//! (`fsync(2)`). So the descriptor that was opened before the first write stays open until a sync
//! has returned. A failed sync is remembered: the kernel may have dropped the pages, and a second
//! sync would succeed although data is lost.
//!
//! ```text
//!   CLEAN (no descriptor) --begin--> WRITING --end--> DIRTY --sync ok, no writer--> CLEAN
//!                                       ^---begin---'   `--sync failed--> FAILED (permanent)
//! ```

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::sync_file_range;

#[derive(Debug, Default)]
pub(in crate::mapping_cache) struct DirtyState {
    state: Mutex<State>,
    /// Held during a sync. The kernel reports an error to one caller per descriptor, and every
    /// caller that waits for the same writes must return it.
    syncing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Open from before the first write that is not synced.
    file: Option<Arc<File>>,
    writers: u32,
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

impl DirtyState {
    /// Begins a write if the file already has its descriptor.
    pub(super) fn join(&self) -> Option<Arc<File>> {
        let mut state = self.lock();
        let file = state.file.clone()?;
        state.writers += 1;
        Some(file)
    }

    /// Begins a write with a descriptor that was opened for it. If another thread's descriptor is
    /// already in use, that one is returned. Returns whether `opened` is used.
    pub(super) fn begin(&self, opened: Arc<File>) -> (Arc<File>, bool) {
        let mut state = self.lock();
        state.writers += 1;
        if let Some(file) = &state.file {
            return (Arc::clone(file), false);
        }
        state.file = Some(Arc::clone(&opened));
        (opened, true)
    }

    /// Ends a write. A failed write may have changed the file too.
    pub(in crate::mapping_cache) fn end(&self) {
        let mut state = self.lock();
        assert!(state.writers > 0, "every write that ends has begun");
        state.writers -= 1;
        state.dirty = true;
    }

    /// Starts writeback and does not wait for it.
    pub(super) fn start_writeback(&self, offset: u64, len: u64) -> io::Result<()> {
        let Some(file) = self.lock().file.clone() else {
            return Ok(());
        };
        sync_file_range::start(&file, offset, len)
    }

    /// Returns after all writes that ended before the call are durable.
    pub(super) fn sync(&self) -> io::Result<SyncOutcome> {
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = {
            let mut state = self.lock();
            if let Some(failed) = &state.failed {
                return Err(failed.to_io_error());
            }
            let Some(file) = state.file.clone() else {
                return Ok(SyncOutcome::Clean(None));
            };
            // A write that ends after this is not covered by the sync and sets it again.
            state.dirty = false;
            file
        };
        let synced = file.sync_data();
        let mut state = self.lock();
        match synced {
            Ok(()) if state.dirty || state.writers > 0 => Ok(SyncOutcome::StillWriting),
            Ok(()) => Ok(SyncOutcome::Clean(state.file.take())),
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

    /// Closes the descriptor if a sync failed and no write is in progress: it will not report
    /// another error. Returns whether it was closed.
    pub(super) fn close_failed(&self) -> bool {
        let mut state = self.lock();
        let closes = state.failed.is_some() && state.writers == 0;
        if closes {
            state.file = None;
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
