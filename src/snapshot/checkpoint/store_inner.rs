//! Open store: its memory and files, and the checkpointer above both.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkpointer::{Checkpointer, StoreParts};
use crate::snapshot::error::StoreError;

/// Open store. The handle and the background thread share it.
#[derive(Debug)]
pub(crate) struct StoreInner {
    pub(crate) parts: StoreParts,
    checkpointer: Mutex<Checkpointer>,
    /// Number of threads that wait for the checkpointer to make a checkpoint.
    pub(super) waiting_checkpoints: AtomicU32,
    /// Error of the last background checkpoint, until a checkpoint succeeds.
    background_error: Mutex<Option<Arc<StoreError>>>,
}

impl StoreInner {
    pub(crate) fn new(parts: StoreParts, checkpointer: Checkpointer) -> Self {
        Self {
            parts,
            checkpointer: Mutex::new(checkpointer),
            waiting_checkpoints: AtomicU32::new(0),
            background_error: Mutex::new(None),
        }
    }

    pub(super) fn checkpointer(&self) -> MutexGuard<'_, Checkpointer> {
        self.checkpointer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn background_error(&self) -> MutexGuard<'_, Option<Arc<StoreError>>> {
        let error = self.background_error.lock();
        error.unwrap_or_else(PoisonError::into_inner)
    }
}
