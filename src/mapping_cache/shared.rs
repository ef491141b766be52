//! What all caches of the process share of one file: its claims, and the lock under which its length
//! changes (hazards 33 and 37).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use super::claims::Claims;
use crate::sys::identity::FileIdentity;

type Files = HashMap<FileIdentity, Weak<SharedFile>>;

static FILES: LazyLock<Mutex<Files>> = LazyLock::new(Mutex::default);

/// One file, whichever cache, group or path it is reached by.
#[derive(Debug)]
pub(super) struct SharedFile {
    identity: FileIdentity,
    pub(super) claims: Claims,
    /// Held while the length changes (hazard 37).
    length: Mutex<()>,
}

impl SharedFile {
    /// The one of this identity; made if nobody has the file.
    pub(super) fn of(identity: FileIdentity) -> Arc<Self> {
        let mut files = lock_files();
        if let Some(shared) = files.get(&identity).and_then(Weak::upgrade) {
            return shared;
        }
        let shared = Arc::new(Self {
            identity,
            claims: Claims::new(),
            length: Mutex::new(()),
        });
        files.insert(identity, Arc::downgrade(&shared));
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
        let listed = files.get(&self.identity).map(Weak::as_ptr);
        if listed.is_some_and(|listed| std::ptr::eq(listed, self)) {
            files.remove(&self.identity);
        }
    }
}

fn lock_files() -> MutexGuard<'static, Files> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}
