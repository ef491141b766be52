//! The files of the process by identity: the state of a file that all caches share.
//!
//! It consists of the range locks [I33], the length and storage, and the lock under which both
//! change [I37].

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use super::storage_state::StorageState;
use crate::mapping_cache::range_lock::LockTable;
use crate::sys::statx::FileIdentity;

/// Device and inode, without the birth time. Two files that are mistaken for one only wait for each
/// other. One file that is mistaken for two would not be locked.
type RegistryKey = ((u32, u32), u64);
type Files = HashMap<RegistryKey, Weak<RegisteredFile>>;

static FILES: LazyLock<Mutex<Files>> = LazyLock::new(Mutex::default);

/// One file, independent of the cache, group or path that leads to it.
#[derive(Debug)]
pub(in crate::mapping_cache) struct RegisteredFile {
    key: RegistryKey,
    pub(in crate::mapping_cache) locks: LockTable,
    /// Held while the length changes [I37].
    length: Mutex<()>,
    /// Length and storage of the file that has this key now, while a cache has it open.
    storage: Mutex<(FileIdentity, Weak<StorageState>)>,
}

impl RegisteredFile {
    /// Returns the file with this identity, and what is known of its storage. Registers the file if
    /// no cache has it open.
    pub(super) fn get_or_insert(identity: FileIdentity) -> (Arc<Self>, Arc<StorageState>) {
        let key = (identity.device(), identity.inode());
        let mut files = lock_files();
        if let Some(file) = files.get(&key).and_then(Weak::upgrade) {
            let storage = file.storage_of(identity);
            return (file, storage);
        }
        let storage = Arc::new(StorageState::new());
        let file = Arc::new(Self {
            key,
            locks: LockTable::new(),
            length: Mutex::new(()),
            storage: Mutex::new((identity, Arc::downgrade(&storage))),
        });
        files.insert(key, Arc::downgrade(&file));
        (file, storage)
    }

    /// Returns what is known of the storage of the file. A file with another birth time has
    /// replaced the one that was known, which some cache may still have open.
    fn storage_of(&self, identity: FileIdentity) -> Arc<StorageState> {
        let mut known = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 == identity
            && let Some(storage) = known.1.upgrade()
        {
            return storage;
        }
        let storage = Arc::new(StorageState::new());
        *known = (identity, Arc::downgrade(&storage));
        storage
    }

    pub(super) fn lock_length(&self) -> MutexGuard<'_, ()> {
        self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RegisteredFile {
    fn drop(&mut self) {
        let mut files = lock_files();
        // Another thread may have registered the file again after the last reference was dropped.
        let listed = files.get(&self.key).map(Weak::as_ptr);
        if listed.is_some_and(|listed| std::ptr::eq(listed, self)) {
            files.remove(&self.key);
        }
    }
}

fn lock_files() -> MutexGuard<'static, Files> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}
