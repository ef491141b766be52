//! Permanent refusal of further writes after an error that left the state of the disk or the memory
//! unknown.

use std::sync::{Mutex, PoisonError};

use super::error::{StoreError, error_chain};

/// First error that poisoned the store, if there was one. The memory and the files share it.
#[derive(Debug, Default)]
pub(crate) struct Poison(Mutex<Option<String>>);

impl Poison {
    /// Poisons the store. Only the first error is kept.
    pub(crate) fn set(&self, error: &StoreError) {
        let mut reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reason.get_or_insert_with(|| error_chain(error));
    }

    /// Fails if the store is poisoned.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*reason {
            Some(reason) => Err(StoreError::Poisoned {
                why: reason.clone(),
            }),
            None => Ok(()),
        }
    }
}
