//! The state of one file in a cache. All handles of the same file identity share it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::dirty_state::{DirtyState, SyncOutcome};
use super::file_registry::RegisteredFile;
use super::resources::Resources;
use super::storage_state::StorageState;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::Access;
use crate::mapping_cache::stripe::Stripe;
use crate::mapping_cache::window::{Key, SlotTable};
use crate::sys::rotational::is_rotational;
use crate::sys::statx::{FileIdentity, Status};

#[derive(Debug)]
pub(in crate::mapping_cache) struct FileState {
    pub(super) resources: Arc<Resources>,
    /// Number of this state in its cache. Never reused.
    pub(super) id: u64,
    pub(super) identity: FileIdentity,
    pub(in crate::mapping_cache) slots: Arc<SlotTable>,
    pub(in crate::mapping_cache) dirty: Arc<DirtyState>,
    /// Range locks and length lock, shared by all caches of the process.
    pub(in crate::mapping_cache) registered: Arc<RegisteredFile>,
    /// Length and storage, shared by all caches of the process.
    pub(in crate::mapping_cache) storage: Arc<StorageState>,
    mappable: AtomicBool,
    rotational: OnceLock<bool>,
    /// `madvise(2)` values for new mappings: access pattern, huge pages.
    patterns: Mutex<Vec<rustix::mm::Advice>>,
    /// Pins that stay because pages of their windows are locked in memory.
    locked: Mutex<HashMap<(u64, Access), Stripe>>,
}

impl FileState {
    pub(super) fn new(resources: Arc<Resources>, id: u64, status: &Status) -> Self {
        let (registered, storage) = RegisteredFile::get_or_insert(status.identity);
        if status.allocated_bytes < status.len {
            storage.note_holes();
        }
        Self {
            resources,
            id,
            identity: status.identity,
            slots: Arc::new(SlotTable::new()),
            dirty: Arc::default(),
            registered,
            storage,
            mappable: AtomicBool::new(true),
            rotational: OnceLock::new(),
            patterns: Mutex::new(Vec::new()),
            locked: Mutex::new(HashMap::new()),
        }
    }

    #[inline(always)]
    pub(in crate::mapping_cache) fn key(&self, window: u64, access: Access) -> Key {
        let file = self.id;
        Key {
            file,
            window,
            access,
        }
    }

    pub(in crate::mapping_cache) fn lock_length(&self) -> MutexGuard<'_, ()> {
        self.registered.lock_length()
    }

    pub(in crate::mapping_cache) fn is_mappable(&self) -> bool {
        self.mappable.load(Ordering::Relaxed)
    }

    pub(in crate::mapping_cache) fn note_unmappable(&self) {
        self.mappable.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_rotational(&self) -> bool {
        *self
            .rotational
            .get_or_init(|| is_rotational(self.identity.device()))
    }

    /// Returns after every write that ended before the call is durable.
    pub(super) fn sync(&self, path: &Path) -> Result<(), MappingError> {
        match self.dirty.sync() {
            Ok(SyncOutcome::StillWriting) => Ok(()),
            Ok(SyncOutcome::Clean(descriptor)) => {
                self.resources.fd_pool.note_synced(self.id, &self.dirty);
                if let Some(descriptor) = descriptor {
                    self.keep(Access::ReadWrite, descriptor);
                }
                Ok(())
            }
            Err(source) => {
                if self.dirty.close_failed() {
                    self.resources.fd_pool.note_synced(self.id, &self.dirty);
                }
                let path = path.to_path_buf();
                Err(MappingError::SyncFailed { path, source })
            }
        }
    }

    /// Keeps an idle descriptor for later copies.
    pub(super) fn keep(&self, access: Access, descriptor: Arc<File>) {
        self.resources.fd_pool.keep(self.id, access, descriptor);
    }

    /// Unmaps every window that is not pinned. Returns the unmapped bytes, and whether no window is
    /// left.
    pub(super) fn evict_all(&self) -> (u64, bool) {
        let mut bytes = 0;
        let mut all = true;
        for (window, slots) in self.slots.iter() {
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let key = self.key(window, access);
                let slot = slots.slot(access);
                match self
                    .resources
                    .budget
                    .evict(key, slot, &self.resources.wait_table)
                {
                    Some(unmapped) => bytes += unmapped,
                    None => all = false,
                }
            }
        }
        (bytes, all)
    }

    /// Returns the advice for new mappings.
    pub(in crate::mapping_cache) fn patterns(&self) -> Vec<rustix::mm::Advice> {
        self.lock_patterns().clone()
    }

    /// Adds advice for new mappings. Access patterns replace each other. Huge pages combine with
    /// any access pattern.
    pub(in crate::mapping_cache) fn add_pattern(&self, pattern: rustix::mm::Advice) {
        use rustix::mm::Advice;
        let is_huge = |advice: &Advice| matches!(advice, Advice::LinuxHugepage);
        let mut patterns = self.lock_patterns();
        patterns.retain(|known| is_huge(known) != is_huge(&pattern));
        patterns.push(pattern);
    }

    fn lock_patterns(&self) -> MutexGuard<'_, Vec<rustix::mm::Advice>> {
        self.patterns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a pin that stays because pages of its window are locked. Returns whether it is the
    /// first such pin of the window.
    pub(in crate::mapping_cache) fn note_locked(&self, key: Key, stripe: Stripe) -> bool {
        let mut locked = self.lock_locked();
        match locked.entry((key.window, key.access)) {
            Entry::Vacant(vacant) => {
                vacant.insert(stripe);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Removes the record of such a pin.
    pub(in crate::mapping_cache) fn take_locked(&self, key: Key) -> Option<Stripe> {
        self.lock_locked().remove(&(key.window, key.access))
    }

    /// Unpins all windows with locked pages. Unmapping them unlocks the pages.
    pub(super) fn unpin_all_locked(&self) {
        for ((window, access), stripe) in self.lock_locked().drain() {
            let slots = self.slots.get(window).expect("locked windows are mapped");
            slots.slot(access).unpin(stripe);
        }
    }

    fn lock_locked(&self) -> MutexGuard<'_, HashMap<(u64, Access), Stripe>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FileState {
    fn drop(&mut self) {
        self.unpin_all_locked();
        self.evict_all();
        self.resources.fd_pool.close_idle(self.id);
        self.resources.fd_pool.forget(self.id, &self.dirty);
    }
}
