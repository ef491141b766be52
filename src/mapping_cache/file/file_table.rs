//! The files of a cache by identity.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::file_state::FileState;
use super::resources::Resources;
use crate::sys::statx::{FileIdentity, Status};

/// The files of a cache, and what they share.
#[derive(Debug)]
pub(in crate::mapping_cache) struct FileTable {
    pub(in crate::mapping_cache) resources: Arc<Resources>,
    files: Mutex<HashMap<FileIdentity, Weak<ListedFile>>>,
    next_id: AtomicU64,
}

/// The state of a file, listed in the table until it is dropped.
#[derive(Debug)]
pub(in crate::mapping_cache) struct ListedFile {
    table: Arc<FileTable>,
    state: FileState,
}

impl Deref for ListedFile {
    type Target = FileState;

    #[inline(always)]
    fn deref(&self) -> &FileState {
        &self.state
    }
}

impl Drop for ListedFile {
    fn drop(&mut self) {
        self.table.remove(self);
    }
}

impl FileTable {
    pub(in crate::mapping_cache) fn new(resources: Arc<Resources>) -> Self {
        Self {
            resources,
            files: Mutex::new(HashMap::new()),
            next_id: AtomicU64::new(0),
        }
    }

    /// Returns the state of the file with this identity, which all handles of the file share.
    pub(super) fn get_or_insert(self: &Arc<Self>, status: &Status) -> Arc<ListedFile> {
        let mut files = self.lock();
        if let Some(file) = files.get(&status.identity).and_then(Weak::upgrade) {
            return file;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let file = Arc::new(ListedFile {
            table: Arc::clone(self),
            state: FileState::new(Arc::clone(&self.resources), id, status),
        });
        files.insert(status.identity, Arc::downgrade(&file));
        file
    }

    /// Removes a file from the table, unless a newer state of the same identity replaced it.
    pub(super) fn remove(&self, file: &ListedFile) {
        let mut files = self.lock();
        let listed = files.get(&file.identity).map(Weak::as_ptr);
        if listed.is_some_and(|listed| std::ptr::eq(listed, file)) {
            files.remove(&file.identity);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FileIdentity, Weak<ListedFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
