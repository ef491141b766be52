//! The state of one file in a cache. All handles of the same file identity share it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::current_descriptor::CurrentDescriptor;
use super::dirty_state::{DirtyState, SyncOutcome};
use super::file_registry::RegisteredFile;
use super::resources::Resources;
use super::storage_state::StorageState;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::Access;
use crate::mapping_cache::stripe::Stripe;
use crate::mapping_cache::window::{BlockId, Key, PinBlock, SlotTable};
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
    pub(super) current: Arc<CurrentDescriptor>,
    /// Range locks and length lock, shared by all caches of the process.
    pub(in crate::mapping_cache) registered: Arc<RegisteredFile>,
    /// Length and storage, shared by all caches of the process.
    pub(in crate::mapping_cache) storage: Arc<StorageState>,
    mappable: AtomicBool,
    rotational: OnceLock<bool>,
    /// `madvise(2)` values for new mappings: access pattern, huge pages.
    patterns: Mutex<Vec<rustix::mm::Advice>>,
    /// Pins that stay because pages of their mappings are locked in memory, by window.
    locked: Mutex<LockedPins>,
}

type LockedPins = BTreeMap<(u64, BlockId), Stripe>;

/// How often a window is tried to be unmapped whose pins are ending.
const ENDING_PIN_ATTEMPTS: u32 = 50;
const ENDING_PIN_PAUSE: Duration = Duration::from_millis(1);

impl FileState {
    pub(super) fn new(resources: Arc<Resources>, id: u64, status: &Status) -> Self {
        let (registered, storage) = RegisteredFile::get_or_insert(status.identity);
        if status.allocated_bytes < status.len {
            storage.note_holes();
        }
        Self {
            id,
            identity: status.identity,
            slots: Arc::new(SlotTable::new(Arc::clone(resources.budget.pool()))),
            dirty: Arc::default(),
            current: Arc::default(),
            registered,
            storage,
            mappable: AtomicBool::new(true),
            rotational: OnceLock::new(),
            patterns: Mutex::new(Vec::new()),
            locked: Mutex::new(BTreeMap::new()),
            resources,
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
        let fd_pool = &self.resources.fd_pool;
        fd_pool.keep(self.id, access, descriptor, &self.current);
    }

    /// Unmaps the windows of a range that are not pinned. Visits no other window. Returns the
    /// unmapped bytes, and the first window that is pinned.
    pub(super) fn evict_windows(&self, windows: RangeInclusive<u64>) -> (u64, Option<u64>) {
        let Resources {
            budget, wait_table, ..
        } = &*self.resources;
        let (mut bytes, mut pinned) = budget.evict_retired(self.id, windows.clone(), wait_table);
        for (window, slots) in self.slots.iter(windows) {
            for access in [Access::ReadOnly, Access::ReadWrite] {
                match budget.evict(slots.slot(access), wait_table) {
                    Some(unmapped) => bytes += unmapped,
                    None => pinned = Some(pinned.unwrap_or(window).min(window)),
                }
            }
        }
        (bytes, pinned)
    }

    /// Unmaps the windows of a range that no span and no copy pins. Waits a little for pins that
    /// are ending: those of advice, and those that their thread is about to undo (`window_slot`,
    /// case 8). Returns the first window that stays pinned.
    pub(super) fn evict_windows_patiently(&self, windows: RangeInclusive<u64>) -> Option<u64> {
        for _ in 0..ENDING_PIN_ATTEMPTS {
            self.evict_windows(windows.clone()).1?;
            thread::sleep(ENDING_PIN_PAUSE);
        }
        self.evict_windows(windows).1
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

    /// Records a pin that stays because pages of its mapping are locked. Returns whether it is the
    /// first such pin of the mapping.
    pub(in crate::mapping_cache) fn note_locked(
        &self,
        window: u64,
        block: BlockId,
        stripe: Stripe,
    ) -> bool {
        let mut locked = self.lock_locked();
        match locked.entry((window, block)) {
            Entry::Vacant(vacant) => {
                vacant.insert(stripe);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Removes the record of such a pin of a window.
    pub(in crate::mapping_cache) fn take_locked(&self, window: u64) -> Option<(&PinBlock, Stripe)> {
        let mut locked = self.lock_locked();
        let mut of_window = locked.range((window, BlockId::MIN)..=(window, BlockId::MAX));
        let at = *of_window.next()?.0;
        let stripe = locked.remove(&at)?;
        Some((self.slots.pool().get(at.1), stripe))
    }

    /// Unpins all windows with locked pages. Unmapping them unlocks the pages.
    pub(super) fn unpin_all_locked(&self) {
        let locked = std::mem::take(&mut *self.lock_locked());
        let Resources {
            budget, wait_table, ..
        } = &*self.resources;
        for ((_, block), stripe) in locked {
            let pins = self.slots.pool().get(block);
            pins.unpin(stripe);
            budget.after_unpin(pins, wait_table);
        }
    }

    fn lock_locked(&self) -> MutexGuard<'_, LockedPins> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FileState {
    fn drop(&mut self) {
        self.unpin_all_locked();
        // No handle is left, so only pins that are ending could keep a window.
        self.evict_windows_patiently(0..=u64::MAX);
        self.resources.fd_pool.close_idle(self.id);
        self.resources.fd_pool.forget(self.id, &self.dirty);
    }
}
