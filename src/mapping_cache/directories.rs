//! Folders with entries that a power cut would take back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::MappingError;
use crate::sys;

/// The folders in which files were created since they were last synced. Shared by the files of a
/// group, so that each folder is synced once.
#[derive(Clone, Debug, Default)]
pub struct UnsyncedDirectories {
    /// How often each folder changed: a change during its sync keeps it here.
    changes: Arc<Mutex<BTreeMap<PathBuf, u64>>>,
}

impl UnsyncedDirectories {
    /// Notes that a folder received an entry.
    pub(super) fn note(&self, directory: PathBuf) {
        *self.lock().entry(directory).or_insert(0) += 1;
    }

    /// A folder was renamed, with all that is in it.
    pub(super) fn renamed(&self, from: &Path, to: &Path) {
        let mut unsynced = self.lock();
        *unsynced = std::mem::take(&mut *unsynced)
            .into_iter()
            .map(|(path, changes)| match path.strip_prefix(from) {
                // Joining nothing would add a slash.
                Ok(rest) if rest.as_os_str().is_empty() => (to.to_path_buf(), changes),
                Ok(rest) => (to.join(rest), changes),
                Err(_) => (path, changes),
            })
            .collect();
    }

    /// Makes the new entries durable. A folder that fails stays in the set.
    ///
    /// # Errors
    ///
    /// [`MappingError::SyncFailed`] with the first folder that could not be synced.
    pub fn sync(&self) -> Result<(), MappingError> {
        let changed: Vec<_> = self.lock().clone().into_iter().collect();
        for (path, changes) in changed {
            match sys::openat2::sync_directory(&path) {
                Ok(()) => {}
                // It was removed: so were its entries.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(MappingError::SyncFailed { path, source }),
            }
            let mut unsynced = self.lock();
            if unsynced.get(&path) == Some(&changes) {
                unsynced.remove(&path);
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, u64>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
