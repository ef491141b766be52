//! What a file has written and not yet synced (hazard 4).
//!
//! The kernel reports an error of writeback to the descriptors that were open when it happened, once.
//! So the descriptor opened before the first write stays open until a barrier has returned, and what a
//! barrier said is never forgotten: after a failure the pages may be gone and a second sync would say
//! "done" about nothing.
//!
//! ```text
//!   CLEAN (no descriptor) --begin--> WRITING --end--> DIRTY --barrier ok, nobody writing--> CLEAN
//!                                       ^---begin---'    `--barrier failed--> FAILED (for good)
//! ```

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::sync_file_range;

#[derive(Debug, Default)]
pub(super) struct UnsyncedWrites {
    state: Mutex<State>,
    /// Held over the barrier: an error is reported to one caller of a descriptor only, and all who
    /// wait for the same writes must hear of it.
    barrier: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Open from before the first unsynced write.
    file: Option<Arc<File>>,
    writers: u32,
    dirty: bool,
    failed: Option<SavedError>,
}

/// An `io::Error` that can be given again.
#[derive(Debug)]
struct SavedError {
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl SavedError {
    fn restore(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => self.kind.into(),
        }
    }
}

/// How a barrier left the file.
#[derive(Debug)]
pub(super) enum Barrier {
    /// Everything is durable; the descriptor was given up.
    Clean(Option<Arc<File>>),
    /// Durable up to the barrier, but others are writing.
    StillWriting,
}

impl UnsyncedWrites {
    /// Takes part in writing if the file has its descriptor already.
    pub(super) fn join(&self) -> Option<Arc<File>> {
        let mut state = self.lock();
        let file = state.file.clone()?;
        state.writers += 1;
        Some(file)
    }

    /// Takes part in writing with a descriptor opened for it. Another thread's may be older: then that
    /// one is used. Says whether `opened` was taken.
    pub(super) fn begin(&self, opened: Arc<File>) -> (Arc<File>, bool) {
        let mut state = self.lock();
        state.writers += 1;
        if let Some(file) = &state.file {
            return (file.clone(), false);
        }
        state.file = Some(opened.clone());
        (opened, true)
    }

    /// The write is done, or failed: either way something may have changed.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        assert!(state.writers > 0, "a write ended that never began");
        state.writers -= 1;
        state.dirty = true;
    }

    /// Starts writeback without waiting.
    pub(super) fn start(&self, offset: u64, len: u64) -> io::Result<()> {
        let Some(file) = self.lock().file.clone() else {
            return Ok(());
        };
        sync_file_range::start(&file, offset, len)
    }

    /// Returns when all writes that ended before are durable.
    pub(super) fn barrier(&self) -> io::Result<Barrier> {
        let _one_at_a_time = self.barrier.lock().unwrap_or_else(PoisonError::into_inner);
        let file = {
            let mut state = self.lock();
            if let Some(failed) = &state.failed {
                return Err(failed.restore());
            }
            let Some(file) = state.file.clone() else {
                return Ok(Barrier::Clean(None));
            };
            // A write that ends from now on is not covered and sets this again.
            state.dirty = false;
            file
        };
        let synced = file.sync_data();
        let mut state = self.lock();
        match synced {
            Ok(()) if state.dirty || state.writers > 0 => Ok(Barrier::StillWriting),
            Ok(()) => Ok(Barrier::Clean(state.file.take())),
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

    /// Stores were lost: no barrier may say that all is durable.
    pub(super) fn lose(&self) {
        let mut state = self.lock();
        state.failed.get_or_insert(SavedError {
            kind: io::ErrorKind::Other,
            code: Some(libc::EIO),
        });
    }

    /// Is a write going on?
    pub(super) fn is_writing(&self) -> bool {
        self.lock().writers > 0
    }

    /// Descriptor of the unsynced writes, if there are any.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.lock().file.clone()
    }

    /// Did a barrier fail? Then this descriptor has told all it will ever tell.
    pub(super) fn give_up_failed(&self) -> bool {
        let mut state = self.lock();
        let done = state.failed.is_some() && state.writers == 0;
        if done {
            state.file = None;
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
