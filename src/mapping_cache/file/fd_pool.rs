//! The descriptors that a cache keeps open, and their limit.
//!
//! There are two kinds. Idle descriptors are kept so that copies need not open a file each time.
//! Open file descriptions of dirty files must be kept until their next sync [I4]. Dirty files may
//! use half of the limit: before one more is added, mappings replace the oldest descriptors.

use std::collections::HashSet;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lru::LruCache;

use super::current_descriptor::CurrentDescriptor;
use super::dirty_state::{DirtyState, SyncOutcome};
use crate::mapping_cache::options::Access;
use crate::sys::sync_file_range;

#[derive(Debug)]
pub(in crate::mapping_cache) struct FdPool {
    max: usize,
    pool: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    idle: LruCache<(u64, Access), IdleDescriptor>,
    /// Dirty files with a descriptor.
    dirty: LruCache<u64, Weak<DirtyState>>,
    /// Dirty files without a descriptor.
    mapped: HashSet<u64>,
}

#[derive(Debug)]
struct IdleDescriptor {
    file: Arc<File>,
    current: Arc<CurrentDescriptor>,
}

impl Pool {
    /// Removes the idle descriptor that was not used for longest. Copies that find a descriptor
    /// without the lock do not move it in the list, so those that were used are moved here (the
    /// CLOCK algorithm).
    fn pop_idle(&mut self) -> Option<Arc<File>> {
        for _ in 0..self.idle.len() {
            let (key, oldest) = self.idle.pop_lru()?;
            if !oldest.current.take_used() {
                return Some(oldest.file);
            }
            self.idle.put(key, oldest);
        }
        Some(self.idle.pop_lru()?.1.file)
    }
}

impl FdPool {
    pub(super) fn new(max: usize) -> Self {
        let pool = Mutex::new(Pool {
            idle: LruCache::unbounded(),
            dirty: LruCache::unbounded(),
            mapped: HashSet::new(),
        });
        Self { max, pool }
    }

    /// Returns an idle descriptor of the file that permits this access.
    pub(super) fn get(&self, file: u64, access: Access) -> Option<Arc<File>> {
        let mut pool = self.lock();
        let kinds: &[Access] = match access {
            Access::ReadOnly => &[Access::ReadOnly, Access::ReadWrite],
            Access::ReadWrite => &[Access::ReadWrite],
        };
        kinds
            .iter()
            .find_map(|kind| Some(Arc::clone(&pool.idle.get(&(file, *kind))?.file)))
    }

    /// Removes an idle descriptor that permits writing from the pool and returns it.
    pub(super) fn take_writable(&self, file: u64) -> Option<Arc<File>> {
        let idle = self.lock().idle.pop(&(file, Access::ReadWrite));
        idle.map(|idle| idle.file)
    }

    /// Keeps an idle descriptor. Closes the descriptors that were idle longest if the pool is full.
    pub(super) fn keep(
        &self,
        file: u64,
        access: Access,
        descriptor: Arc<File>,
        current: &Arc<CurrentDescriptor>,
    ) {
        current.set(&descriptor);
        let mut closing = Vec::new();
        let mut pool = self.lock();
        let idle = IdleDescriptor {
            file: descriptor,
            current: Arc::clone(current),
        };
        closing.extend(pool.idle.put((file, access), idle).map(|idle| idle.file));
        while pool.idle.len() + pool.dirty.len() > self.max {
            match pool.pop_idle() {
                Some(oldest) => closing.push(oldest),
                None => break,
            }
        }
        drop(pool);
        // close(2) may take long, so it is not called under the lock.
        drop(closing);
    }

    /// Adds a dirty file, which holds a descriptor. A file that was forgotten is not added.
    pub(super) fn add_dirty(&self, file: u64, dirty: &Arc<DirtyState>) {
        let mut pool = self.lock();
        if dirty.is_forgotten() {
            return;
        }
        pool.mapped.remove(&file);
        pool.dirty.put(file, Arc::downgrade(dirty));
        let closing = (pool.idle.len() + pool.dirty.len() > self.max)
            .then(|| pool.pop_idle())
            .flatten();
        drop(pool);
        drop(closing);
    }

    /// Removes a file that was synced, unless another write began since.
    pub(super) fn note_synced(&self, file: u64, dirty: &DirtyState) {
        let mut pool = self.lock();
        if !dirty.has_unsynced() {
            pool.dirty.pop(&file);
            pool.mapped.remove(&file);
        }
    }

    /// Removes a file that is being dropped.
    pub(super) fn forget(&self, file: u64, dirty: &DirtyState) {
        // Marked before the pool is locked, so that a concurrent `add_dirty` either sees the mark
        // or is undone here.
        dirty.note_forgotten();
        let mut pool = self.lock();
        pool.dirty.pop(&file);
        pool.mapped.remove(&file);
    }

    /// Closes the idle descriptors of a file.
    pub(super) fn close_idle(&self, file: u64) {
        let mut pool = self.lock();
        let closing =
            [Access::ReadOnly, Access::ReadWrite].map(|access| pool.idle.pop(&(file, access)));
        drop(pool);
        drop(closing);
    }

    /// Closes the descriptors of the oldest dirty files if one more would exceed their half of the
    /// limit.
    pub(super) fn close_oldest_if_full(&self) {
        let dirty_max = self.max / 2;
        let mut batch = Vec::new();
        {
            let mut pool = self.lock();
            if pool.dirty.len() < dirty_max {
                return;
            }
            while batch.len() < dirty_max.div_ceil(2)
                && let Some((file, dirty)) = pool.dirty.pop_lru()
            {
                batch.push((file, dirty));
            }
        }
        self.close_dirty(batch);
    }

    /// Closes every descriptor that may be closed, since the process has reached its limit.
    pub(super) fn close_all(&self) {
        let (idle, dirty) = {
            let mut pool = self.lock();
            let idle = std::mem::replace(&mut pool.idle, LruCache::unbounded());
            let dirty = std::mem::replace(&mut pool.dirty, LruCache::unbounded());
            (idle, dirty)
        };
        drop(idle);
        self.close_dirty(dirty);
    }

    /// Returns the number of open descriptors, and of the dirty files.
    pub(in crate::mapping_cache) fn counts(&self) -> (usize, usize) {
        let pool = self.lock();
        let dirty = pool.dirty.len();
        (pool.idle.len() + dirty, dirty + pool.mapped.len())
    }

    /// Replaces the descriptors of dirty files by mappings. Files for which this is impossible are
    /// synced, unless a write is in progress. A file whose sync fails keeps the error for its next
    /// sync.
    fn close_dirty(&self, files: impl IntoIterator<Item = (u64, Weak<DirtyState>)>) {
        let mut to_sync = Vec::new();
        for (file, dirty) in files {
            let Some(dirty) = dirty.upgrade() else {
                continue;
            };
            if dirty.replace_descriptor() {
                self.note_mapped(file, &dirty);
            } else if dirty.is_writing() {
                self.add_dirty(file, &dirty);
            } else {
                to_sync.push((file, dirty));
            }
        }
        self.sync_batch(to_sync);
    }

    /// Adds a dirty file without a descriptor, unless it was synced or used since.
    fn note_mapped(&self, file: u64, dirty: &DirtyState) {
        let mut pool = self.lock();
        if dirty.has_unsynced() && !dirty.is_forgotten() && !pool.dirty.contains(&file) {
            pool.mapped.insert(file);
        }
    }

    fn sync_batch(&self, batch: Vec<(u64, Arc<DirtyState>)>) {
        for (_, dirty) in &batch {
            if let Some(file) = dirty.file() {
                // Writeback of all files starts before the first sync waits. The syncs report
                // errors.
                drop(sync_file_range::start(&file, 0, 0));
            }
        }
        for (file, dirty) in batch {
            let still_open = match dirty.sync() {
                Ok(SyncOutcome::Clean(_)) => false,
                Ok(SyncOutcome::StillWriting) => true,
                Err(_) => !dirty.close_failed(),
            };
            if still_open && dirty.file().is_some() {
                self.add_dirty(file, &dirty);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
