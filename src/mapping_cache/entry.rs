//! What the cache knows of one file, by its identity. All handles that reach the file share it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::cache::Core;
use super::error::MappingError;
use super::ledger::Key;
use super::options::{Access, Reservation};
use super::shared::SharedFile;
use super::slot_table::SlotTable;
use super::stripe::Stripe;
use super::unsynced::{Barrier, UnsyncedWrites};
use crate::sys::rotational::is_rotational;
use crate::sys::statx::{FileIdentity, Status};

#[derive(Debug)]
pub(super) struct FileEntry {
    pub(super) core: Arc<Core>,
    /// Number of this entry in its cache; never used again.
    pub(super) id: u64,
    pub(super) identity: FileIdentity,
    pub(super) slots: Arc<SlotTable>,
    pub(super) unsynced: UnsyncedWrites,
    /// Claims and length lock, shared by all caches of the process.
    pub(super) shared: Arc<SharedFile>,
    /// The length the file was seen with or given, changed under the length lock: no write in progress
    /// that may be undone counts. A file that is shorter was cut by somebody.
    known_bytes: AtomicU64,
    may_have_holes: AtomicBool,
    mappable: AtomicBool,
    reservation: AtomicU8,
    /// [`Preallocation::Full`](super::Preallocation::Full) has been done up to here.
    pub(super) reserved_to: AtomicU64,
    rotational: OnceLock<bool>,
    /// `madvise` values for mappings to come: access pattern, huge pages.
    patterns: Mutex<Vec<rustix::mm::Advice>>,
    /// Pins that stay because pages of their windows are locked in memory.
    locked: Mutex<HashMap<(u64, Access), Stripe>>,
}

const RESERVATIONS: [Reservation; 4] = [
    Reservation::None,
    Reservation::Reserved,
    Reservation::FirstWriteOnly,
    Reservation::Unsupported,
];

impl FileEntry {
    pub(super) fn new(core: Arc<Core>, id: u64, status: &Status) -> Self {
        Self {
            core,
            id,
            identity: status.identity,
            slots: Arc::new(SlotTable::new()),
            unsynced: UnsyncedWrites::default(),
            shared: SharedFile::of(status.identity),
            known_bytes: AtomicU64::new(0),
            may_have_holes: AtomicBool::new(status.allocated_bytes < status.len),
            mappable: AtomicBool::new(true),
            reservation: AtomicU8::new(0),
            reserved_to: AtomicU64::new(0),
            rotational: OnceLock::new(),
            patterns: Mutex::new(Vec::new()),
            locked: Mutex::new(HashMap::new()),
        }
    }

    #[inline(always)]
    pub(super) fn key(&self, window: u64, access: Access) -> Key {
        let file = self.id;
        Key {
            file,
            window,
            access,
        }
    }

    pub(super) fn lock_length(&self) -> MutexGuard<'_, ()> {
        self.shared.lock_length()
    }

    #[inline(always)]
    pub(super) fn known_bytes(&self) -> u64 {
        self.known_bytes.load(Ordering::Relaxed)
    }

    /// Notes a length the file has been seen with or was given. Under the length lock.
    pub(super) fn saw_len(&self, bytes: u64) {
        self.known_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The file was cut back to this length. Under the length lock.
    pub(super) fn was_cut_to(&self, bytes: u64) {
        self.known_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn may_have_holes(&self) -> bool {
        self.may_have_holes.load(Ordering::Relaxed)
    }

    pub(super) fn note_holes(&self) {
        self.may_have_holes.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_mappable(&self) -> bool {
        self.mappable.load(Ordering::Relaxed)
    }

    pub(super) fn note_unmappable(&self) {
        self.mappable.store(false, Ordering::Relaxed);
    }

    pub(super) fn reservation(&self) -> Reservation {
        RESERVATIONS[usize::from(self.reservation.load(Ordering::Relaxed))]
    }

    pub(super) fn note_reservation(&self, reservation: Reservation) {
        let index = RESERVATIONS.iter().position(|known| *known == reservation);
        let index = index.and_then(|index| u8::try_from(index).ok());
        self.reservation
            .store(index.expect("four kinds"), Ordering::Relaxed);
    }

    pub(super) fn is_rotational(&self) -> bool {
        *self
            .rotational
            .get_or_init(|| is_rotational(self.identity.device()))
    }

    /// Returns when every write that ended before is durable.
    pub(super) fn sync(&self, path: &Path) -> Result<(), MappingError> {
        match self.unsynced.barrier() {
            Ok(Barrier::Clean(None) | Barrier::StillWriting) => Ok(()),
            Ok(Barrier::Clean(Some(descriptor))) => {
                self.core.descriptors.forget_synced(self);
                self.keep(Access::ReadWrite, descriptor);
                Ok(())
            }
            Err(source) => {
                if self.unsynced.give_up_failed() {
                    self.core.descriptors.forget_synced(self);
                }
                let path = path.to_path_buf();
                Err(MappingError::SyncFailed { path, source })
            }
        }
    }

    /// Keeps an idle descriptor for copies to come.
    pub(super) fn keep(&self, access: Access, descriptor: Arc<File>) {
        self.core.descriptors.keep(self.id, access, descriptor);
    }

    /// Unmaps every window that is not pinned; says how many bytes went and whether all did.
    pub(super) fn evict_all(&self) -> (u64, bool) {
        let mut bytes = 0;
        let mut all = true;
        for (window, slots) in self.slots.iter() {
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let key = self.key(window, access);
                match self
                    .core
                    .ledger
                    .evict(key, slots.slot(access), &self.core.parking)
                {
                    Some(gone) => bytes += gone,
                    None => all = false,
                }
            }
        }
        (bytes, all)
    }

    pub(super) fn patterns(&self) -> MutexGuard<'_, Vec<rustix::mm::Advice>> {
        self.patterns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a pin that stays because pages of its window are locked; says whether it was the first.
    pub(super) fn note_locked(&self, key: Key, stripe: Stripe) -> bool {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        match locked.entry((key.window, key.access)) {
            Entry::Vacant(place) => {
                place.insert(stripe);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Takes the note of such a pin.
    pub(super) fn take_locked(&self, key: Key) -> Option<Stripe> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        locked.remove(&(key.window, key.access))
    }

    /// Gives up the pins of all windows with locked pages; unmapping unlocks them.
    pub(super) fn unpin_all_locked(&self) {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        for ((window, access), stripe) in locked.drain() {
            let slots = self.slots.get(window).expect("locked windows are mapped");
            slots.slot(access).unpin(stripe);
        }
    }
}

impl Drop for FileEntry {
    fn drop(&mut self) {
        self.unpin_all_locked();
        self.evict_all();
        self.core.forget(self);
    }
}
