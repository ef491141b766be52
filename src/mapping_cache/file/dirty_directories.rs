//! Directories with entries that a power failure would remove.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mapping_cache::error::MappingError;
use crate::sys;

/// The directories that received entries since their last sync. The files of a cache share the
/// set: whichever group syncs, each directory is synced once.
#[derive(Clone, Debug, Default)]
pub(in crate::mapping_cache) struct DirtyDirectories {
    /// Number of changes of each directory. A directory that changes during its sync stays dirty.
    changes: Arc<Mutex<BTreeMap<PathBuf, u64>>>,
}

impl DirtyDirectories {
    /// Records that a directory received an entry.
    pub(super) fn note(&self, directory: PathBuf) {
        *self.lock().entry(directory).or_insert(0) += 1;
    }

    /// Records that a directory was renamed together with its content.
    pub(in crate::mapping_cache) fn renamed(&self, from: &Path, to: &Path) {
        let mut dirty = self.lock();
        *dirty = std::mem::take(&mut *dirty)
            .into_iter()
            .map(|(path, changes)| match path.strip_prefix(from) {
                // Joining an empty path would add a slash.
                Ok(rest) if rest.as_os_str().is_empty() => (to.to_path_buf(), changes),
                Ok(rest) => (to.join(rest), changes),
                Err(_) => (path, changes),
            })
            .collect();
    }

    /// Makes the new entries durable. A directory whose sync fails stays in the set.
    ///
    /// # Errors
    ///
    /// - [`MappingError::SyncFailed`] with the first directory whose sync failed.
    pub(in crate::mapping_cache) fn sync(&self) -> Result<(), MappingError> {
        let changed: Vec<_> = self.lock().clone().into_iter().collect();
        for (path, changes) in changed {
            match sys::openat2::sync_directory(&path) {
                Ok(()) => {}
                // The directory was removed together with its entries.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(MappingError::SyncFailed { path, source }),
            }
            let mut dirty = self.lock();
            if dirty.get(&path) == Some(&changes) {
                dirty.remove(&path);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, u64>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_shared_set_is_synced_once_and_removed_directories_need_no_sync() {
        let directory = std::env::temp_dir();
        let removed = directory.join(format!("flatspan-removed-{}", std::process::id()));
        let set = DirtyDirectories::default();
        let shared = set.clone();
        shared.note(directory.clone());
        shared.note(directory);
        shared.note(removed);
        assert_eq!(set.lock().len(), 2);
        set.sync().expect("a removed directory needs no sync");
        assert!(shared.lock().is_empty());
        shared.sync().expect("nothing is left");
    }
}
