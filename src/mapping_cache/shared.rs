//! What all caches of the process share of one file: its claims, and the lock under which its length
//! changes (hazards 33 and 37).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use super::claims::Claims;
use crate::sys::statx::FileIdentity;

/// By device and inode only: two files taken for one wait for each other, one taken for two would not.
type Files = HashMap<((u32, u32), u64), Weak<SharedFile>>;

static FILES: LazyLock<Mutex<Files>> = LazyLock::new(Mutex::default);

/// One file, whichever cache, group or path it is reached by.
#[derive(Debug)]
pub(super) struct SharedFile {
    key: ((u32, u32), u64),
    pub(super) claims: Claims,
    /// Held while the length changes (hazard 37).
    length: Mutex<()>,
}

impl SharedFile {
    /// The one of this identity; made if nobody has the file.
    pub(super) fn of(identity: FileIdentity) -> Arc<Self> {
        let key = (identity.device(), identity.inode());
        let mut files = lock_files();
        if let Some(shared) = files.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        let shared = Arc::new(Self {
            key,
            claims: Claims::new(),
            length: Mutex::new(()),
        });
        files.insert(key, Arc::downgrade(&shared));
        shared
    }

    pub(super) fn lock_length(&self) -> MutexGuard<'_, ()> {
        self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        let mut files = lock_files();
        // Somebody may have opened the file anew since the last one let go of it.
        let listed = files.get(&self.key).map(Weak::as_ptr);
        if listed.is_some_and(|listed| std::ptr::eq(listed, self)) {
            files.remove(&self.key);
        }
    }
}

fn lock_files() -> MutexGuard<'static, Files> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}
