//! Memory of an open store.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use super::access_lock::{AccessLock, ExclusiveAccess, SharedAccess};
use super::quiesce::{Quiesce, QuiesceGuard};
use crate::snapshot::error::StoreError;
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::modes::WriteMode;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::poison::Poison;
use crate::snapshot::region::Region;
use crate::snapshot::tracker::RegionTracker;

/// Options that concern the memory.
#[derive(Debug)]
pub(crate) struct MemorySettings {
    pub(crate) changes: WriteMode,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) quiesce: Option<Arc<dyn Quiesce>>,
    /// Whether a checkpoint extends the region to the length of its memfd.
    pub(crate) grows_with_memfd: bool,
}

/// Region of an open store, and what is needed to find and copy its changes.
#[derive(Debug)]
pub(crate) struct StoreMemory {
    pub(crate) region: Region,
    access: AccessLock,
    settings: MemorySettings,
    /// Pages that were marked as dirty since the last scan.
    dirty: Mutex<PageSet>,
    /// Held during a scan, and during a change of the memory that the tracker is notified of.
    tracker: Mutex<RegionTracker>,
    /// Held while pages are copied, so that the length of the region does not change.
    lengths: RwLock<()>,
    poison: Arc<Poison>,
}

/// Guard of a moment at which the memory does not change.
#[derive(Debug)]
pub(crate) struct PausedWriters<'a> {
    // External writers resume before the access lock is released.
    _external: Option<QuiesceGuard>,
    _access: Access<'a>,
    since: Instant,
}

#[derive(Debug)]
enum Access<'a> {
    Shared(#[expect(dead_code, reason = "released on drop")] SharedAccess<'a>),
    Exclusive(#[expect(dead_code, reason = "released on drop")] ExclusiveAccess<'a>),
}

impl PausedWriters<'_> {
    /// Resumes the writers and returns how long they were paused.
    pub(crate) fn resume(self) -> Duration {
        let since = self.since;
        drop(self);
        since.elapsed()
    }
}

impl StoreMemory {
    pub(crate) fn new(
        region: Region,
        tracker: RegionTracker,
        settings: MemorySettings,
        poison: Arc<Poison>,
    ) -> Self {
        Self {
            region,
            access: AccessLock::default(),
            settings,
            dirty: Mutex::default(),
            tracker: Mutex::new(tracker),
            lengths: RwLock::new(()),
            poison,
        }
    }

    /// Returns the length of the region.
    pub(crate) fn len(&self) -> u64 {
        self.region.len() as u64
    }

    /// Waits for shared access.
    pub(crate) fn lock_shared(&self, method: &'static str) -> Result<SharedAccess<'_>, StoreError> {
        self.access.lock_shared(method, self.settings.lock_timeout)
    }

    /// Waits for exclusive access.
    pub(crate) fn lock_exclusive(
        &self,
        method: &'static str,
    ) -> Result<ExclusiveAccess<'_>, StoreError> {
        self.access
            .lock_exclusive(method, self.settings.lock_timeout)
    }

    /// Fails if the calling thread has access already.
    pub(crate) fn refuse_nested(&self, method: &'static str) -> Result<(), StoreError> {
        self.access.refuse_nested(method)
    }

    /// Waits until no writer changes the memory, and keeps writers paused.
    pub(crate) fn pause_writers(&self) -> Result<PausedWriters<'_>, StoreError> {
        let access = match self.settings.changes {
            WriteMode::Transactions => Access::Shared(self.lock_shared("checkpoint")?),
            WriteMode::Tracked => Access::Exclusive(self.lock_exclusive("checkpoint")?),
        };
        let since = Instant::now();
        let quiesce = self.settings.quiesce.as_ref();
        let external = quiesce.map(|quiesce| quiesce.quiesce()).transpose();
        let paused = PausedWriters {
            _external: external.map_err(StoreError::Quiesce)?,
            _access: access,
            since,
        };
        if self.settings.grows_with_memfd {
            self.grow_to_memfd()?;
        }
        Ok(paused)
    }

    /// Extends the region to the length of its memfd. The caller has exclusive access.
    pub(crate) fn grow_to_memfd(&self) -> Result<(), StoreError> {
        let mut tracker = self.tracker();
        let lengths = self.lengths.write();
        let _lengths = lengths.unwrap_or_else(PoisonError::into_inner);
        let before = self.region.len();
        self.region.grow_to_memfd()?;
        let len = self.region.len();
        if len > before {
            let pages = pages_of(&(before as u64..len as u64));
            self.dirty().insert_range(pages);
            tracker.grown(&self.region, before)?;
        }
        Ok(())
    }

    /// Sets the length of the region and notifies the tracker. The caller has exclusive access.
    pub(crate) fn resize_tracked(&self, len: u64) -> Result<(), StoreError> {
        let mut tracker = self.tracker();
        let before = self.len();
        self.set_len(len)?;
        let changed = before.min(len)..before.max(len);
        self.dirty().insert_range(pages_of(&changed));
        if len > before {
            // Lossless: a length of the region.
            tracker.grown(&self.region, before as usize)?;
        }
        Ok(())
    }

    /// Sets the length of the region. The caller has exclusive access.
    pub(crate) fn set_len(&self, len: u64) -> Result<(), StoreError> {
        let lengths = self.lengths.write();
        let _lengths = lengths.unwrap_or_else(PoisonError::into_inner);
        let now = self.len();
        // Lossless: `len` is within the reserved addresses.
        let len_bytes = len as usize;
        if len > now {
            self.region.grow(len_bytes)?;
        } else if len < now {
            self.region.shrink(len_bytes)?;
        }
        Ok(())
    }

    /// Rounds a length up to whole pages. Fails if it exceeds the reserved addresses.
    pub(crate) fn whole_pages(&self, len: u64) -> Result<u64, StoreError> {
        let reserved = self.region.reserved_bytes();
        let whole = len.checked_next_multiple_of(PAGE_BYTES as u64);
        whole
            .filter(|len| *len <= reserved as u64)
            .ok_or_else(|| StoreError::InvalidOption {
                option: "len",
                reason: format!("{len} bytes are more than the {reserved} reserved"),
            })
    }

    /// Keeps the length of the region while pages are copied.
    pub(crate) fn keep_len(&self) -> RwLockReadGuard<'_, ()> {
        self.lengths.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails and poisons the store if a page of the region was replaced by zeros [I12].
    pub(crate) fn check_intact(&self) -> Result<(), StoreError> {
        if self.region.is_poisoned() {
            self.poison.set(&StoreError::MemoryLost);
            return Err(StoreError::MemoryLost);
        }
        Ok(())
    }

    /// Poisons the store.
    pub(crate) fn poison(&self, error: &StoreError) {
        self.poison.set(error);
    }

    /// Returns the pages that were marked as dirty since the last scan.
    pub(crate) fn dirty(&self) -> MutexGuard<'_, PageSet> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tracker(&self) -> MutexGuard<'_, RegionTracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the pages that changed since the last scan to `changed`, even if the scan fails [I1].
    pub(crate) fn scan(&self, changed: &mut PageSet) -> Result<(), StoreError> {
        let mut tracker = self.tracker();
        *changed |= &std::mem::take(&mut *self.dirty());
        Ok(tracker.scan(&self.region, changed)?)
    }

    /// Sets whole pages to zeros and releases their memory.
    pub(crate) fn discard(&self, bytes: Range<usize>) -> Result<(), StoreError> {
        let mut tracker = self.tracker();
        let pages = pages_of(&(bytes.start as u64..bytes.end as u64));
        self.dirty().insert_range(pages);
        self.region.discard(bytes.clone())?;
        Ok(tracker.discarded(&self.region, bytes)?)
    }
}

/// Returns the pages that a range of bytes touches.
pub(crate) fn pages_of(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES as u64..range.end.div_ceil(PAGE_BYTES as u64)
}
