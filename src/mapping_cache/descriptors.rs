//! The descriptors a cache keeps, and their limit.
//!
//! Two kinds: idle ones, kept so that copies need not open a file each time, and those of files with
//! unsynced writes, which may not be closed before a barrier (hazard 4). Half of the limit is for the
//! latter; before one more is added, the oldest are synced.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lru::LruCache;

use super::entry::FileEntry;
use super::options::Access;
use super::unsynced::Barrier;

#[derive(Debug)]
pub(super) struct Descriptors {
    max: usize,
    pool: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    idle: LruCache<(u64, Access), Arc<File>>,
    unsynced: LruCache<u64, Weak<FileEntry>>,
}

impl Descriptors {
    pub(super) fn new(max: usize) -> Self {
        let pool = Mutex::new(Pool {
            idle: LruCache::unbounded(),
            unsynced: LruCache::unbounded(),
        });
        Self { max, pool }
    }

    /// An idle descriptor of the file that allows this access.
    pub(super) fn get(&self, file: u64, access: Access) -> Option<Arc<File>> {
        let mut pool = self.lock();
        let kinds: &[Access] = match access {
            Access::ReadOnly => &[Access::ReadOnly, Access::ReadWrite],
            Access::ReadWrite => &[Access::ReadWrite],
        };
        let mut idle = kinds
            .iter()
            .map(|kind| pool.idle.get(&(file, *kind)).cloned());
        idle.find_map(|descriptor| descriptor)
    }

    /// Takes an idle descriptor that allows writing out of the pool.
    pub(super) fn take_writable(&self, file: u64) -> Option<Arc<File>> {
        self.lock().idle.pop(&(file, Access::ReadWrite))
    }

    /// Keeps a descriptor for later, in place of the one that was idle longest.
    pub(super) fn keep(&self, file: u64, access: Access, descriptor: Arc<File>) {
        let mut closing = Vec::new();
        let mut pool = self.lock();
        closing.extend(pool.idle.put((file, access), descriptor));
        while pool.idle.len() + pool.unsynced.len() > self.max {
            match pool.idle.pop_lru() {
                Some((_, oldest)) => closing.push(oldest),
                None => break,
            }
        }
        drop(pool);
        // close(2) may take long: not under the lock.
        drop(closing);
    }

    /// Notes a file whose unsynced writes hold a descriptor.
    pub(super) fn note_unsynced(&self, file: u64, entry: Weak<FileEntry>) {
        let mut pool = self.lock();
        pool.unsynced.put(file, entry);
        let closing = (pool.idle.len() + pool.unsynced.len() > self.max)
            .then(|| pool.idle.pop_lru())
            .flatten();
        drop(pool);
        drop(closing);
    }

    /// The file was synced; another write may have begun since, whose note stays.
    pub(super) fn forget_synced(&self, entry: &FileEntry) {
        let mut pool = self.lock();
        if entry.unsynced.file().is_none() {
            pool.unsynced.pop(&entry.id);
        }
    }

    /// The file is gone.
    pub(super) fn forget(&self, file: u64) {
        self.lock().unsynced.pop(&file);
    }

    /// Closes the idle descriptors of a file.
    pub(super) fn close(&self, file: u64) {
        let mut pool = self.lock();
        let closing =
            [Access::ReadOnly, Access::ReadWrite].map(|access| pool.idle.pop(&(file, access)));
        drop(pool);
        drop(closing);
    }

    /// Syncs the oldest unsynced files if one more would pass their half of the limit. A file whose
    /// sync fails keeps the error for whoever syncs it.
    pub(super) fn make_room_for_unsynced(&self) {
        let most = self.max / 2;
        let mut batch = Vec::new();
        // Dropped after the lock is: the last reference to a file takes it, too.
        let mut kept = Vec::new();
        {
            let mut pool = self.lock();
            if pool.unsynced.len() < most {
                return;
            }
            for _ in 0..pool.unsynced.len() {
                let Some((file, weak)) = pool.unsynced.pop_lru() else {
                    break;
                };
                match weak.upgrade() {
                    // A sync would not let it be closed.
                    Some(entry) if entry.unsynced.is_writing() => {
                        pool.unsynced.put(file, weak);
                        kept.push(entry);
                    }
                    Some(entry) => batch.push((file, entry)),
                    None => {}
                }
                if batch.len() >= most.div_ceil(2) {
                    break;
                }
            }
        }
        self.sync_batch(batch);
    }

    /// Closes everything that may be closed: the process has no descriptors left.
    pub(super) fn close_all(&self) {
        let (idle, batch) = {
            let mut pool = self.lock();
            let idle = std::mem::replace(&mut pool.idle, LruCache::unbounded());
            let unsynced = std::mem::replace(&mut pool.unsynced, LruCache::unbounded());
            (idle, unsynced)
        };
        drop(idle);
        let batch = batch
            .iter()
            .filter_map(|(file, entry)| Some((*file, entry.upgrade()?)));
        self.sync_batch(batch.collect());
    }

    /// Descriptors kept, and how many of them have unsynced writes.
    pub(super) fn counts(&self) -> (usize, usize) {
        let pool = self.lock();
        (pool.idle.len() + pool.unsynced.len(), pool.unsynced.len())
    }

    fn sync_batch(&self, batch: Vec<(u64, Arc<FileEntry>)>) {
        for (_, entry) in &batch {
            // A hint, so that the barriers below find little left to do; they report what fails.
            let _ = entry.unsynced.start(0, 0);
        }
        for (file, entry) in batch {
            let still_open = match entry.unsynced.barrier() {
                Ok(Barrier::Clean(_)) => false,
                Ok(Barrier::StillWriting) => true,
                Err(_) => !entry.unsynced.give_up_failed(),
            };
            if still_open && entry.unsynced.file().is_some() {
                self.note_unsynced(file, Arc::downgrade(&entry));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
