//! Files of an open store: the backend, the locks and the journal.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::{StorageBackend, StoreLocks};
use super::error::StoreError;
use super::file_names::LogicalFile;
use super::format::StoreId;
use super::journal::Journal;
use super::modes::Durability;
use super::poison::Poison;
use crate::numbers::Generation;

/// Files of an open store.
#[derive(Debug)]
pub(crate) struct StoreFiles {
    pub(crate) backend: Arc<dyn StorageBackend>,
    pub(crate) locks: StoreLocks,
    pub(crate) journal: Journal,
    pub(crate) id: StoreId,
    pub(crate) durability: Durability,
    /// Durable generation.
    generation: AtomicU64,
    poison: Arc<Poison>,
}

impl StoreFiles {
    pub(crate) fn new(
        backend: Arc<dyn StorageBackend>,
        locks: StoreLocks,
        journal: Journal,
        (id, generation): (StoreId, Generation),
        durability: Durability,
        poison: Arc<Poison>,
    ) -> Self {
        Self {
            backend,
            locks,
            journal,
            id,
            durability,
            generation: AtomicU64::new(generation.get()),
            poison,
        }
    }

    /// Returns the durable generation.
    pub(crate) fn generation(&self) -> Generation {
        let generation = self.generation.load(Ordering::Relaxed);
        Generation::new(generation).expect("generations are above 0")
    }

    /// Sets the durable generation.
    pub(crate) fn set_generation(&self, generation: Generation) {
        self.generation.store(generation.get(), Ordering::Relaxed);
    }

    /// Syncs a file. A failure poisons the store, since the state of the disk is then unknown.
    pub(crate) fn sync(&self, array: LogicalFile) -> Result<(), StoreError> {
        self.backend
            .sync(array)
            .map_err(StoreError::disk("sync", array))
            .inspect_err(|error| self.poison(error))
    }

    /// Starts the writeback of a range, so that a later sync takes less time.
    pub(crate) fn start_writeback(&self, array: LogicalFile, range: Range<u64>) {
        if self.durability == Durability::Power {
            self.backend.start_writeback(array, range);
        }
    }

    /// Waits until a record is durable. A failure poisons the store.
    pub(crate) fn commit(&self, sequence: u64) -> Result<(), StoreError> {
        let committed = self.journal.commit(sequence);
        committed.inspect_err(|error| self.poison(error))
    }

    /// Poisons the store.
    pub(crate) fn poison(&self, error: &StoreError) {
        self.poison.set(error);
    }

    /// Fails if the store is poisoned.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.poison.check()?;
        self.journal.check()
    }
}
