//! What the doors of a store share.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpointer, Cost};
use super::disk::{Array, Disk};
use super::error::SnapshotError;
use super::format::{Metadata, StoreId};
use super::gate::{Alone, Gate, Sharing};
use super::journal::Journal;
use super::lock::Locks;
use super::options::{Changes, Durability, StoreOptions};
use super::page_set::PageSet;
use super::region::Region;
use super::standstill::Stopped;
use super::tracking::Tracking;
use super::transaction::pages_of;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) locks: Locks,
    pub(crate) options: StoreOptions,
    pub(crate) store: StoreId,
    pub(crate) region: Region,
    pub(crate) gate: Gate,
    pub(crate) journal: Journal,
    /// Pages whose change was declared, since the last scan.
    declared: Mutex<PageSet>,
    /// Held while a scan is made, and while memory changes in a way the tracker must learn of.
    tracking: Mutex<Tracking>,
    /// Lengths do not change while pages are copied.
    pub(crate) lengths: RwLock<()>,
    pub(crate) checkpoints: Mutex<Checkpointer>,
    /// So many wait for the lock on them.
    pub(crate) checkpoints_wanted: AtomicU32,
    pub(crate) generation: AtomicU64,
    poisoned: Mutex<Option<String>>,
    /// Why the last checkpoint in the background was not made.
    background_error: Mutex<Option<Arc<SnapshotError>>>,
}

/// Inside the gate for the instant of a capture. Nobody writes the memory.
#[derive(Debug)]
pub(crate) struct Closed<'a> {
    // Dropped in this order.
    _others: Option<Stopped>,
    _inside: Inside<'a>,
    since: Instant,
}

#[derive(Debug)]
enum Inside<'a> {
    Transactions(#[expect(dead_code, reason = "held")] Sharing<'a>),
    Writers(#[expect(dead_code, reason = "held")] Alone<'a>),
}

impl Closed<'_> {
    /// All go on. So long they stood.
    pub(crate) fn open(self) -> Duration {
        let since = self.since;
        drop(self);
        since.elapsed()
    }
}

/// What opening has put together.
pub(crate) struct Parts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) locks: Locks,
    pub(crate) options: StoreOptions,
    pub(crate) committed: Metadata,
    pub(crate) region: Region,
    pub(crate) journal: Journal,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) tracking: Tracking,
}

impl Inner {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            disk: parts.disk,
            locks: parts.locks,
            options: parts.options,
            store: parts.committed.store,
            region: parts.region,
            gate: Gate::default(),
            journal: parts.journal,
            declared: Mutex::default(),
            tracking: Mutex::new(parts.tracking),
            lengths: RwLock::new(()),
            generation: AtomicU64::new(parts.checkpointer.generation),
            checkpoints: Mutex::new(parts.checkpointer),
            checkpoints_wanted: AtomicU32::new(0),
            poisoned: Mutex::new(None),
            background_error: Mutex::new(None),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.region.len() as u64
    }

    /// The generation that is durable.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Copies ranges out of memory that others may be writing (hazard 6), one behind the other.
    pub(crate) fn gather(
        &self,
        ranges: &[Range<usize>],
        buf: &mut [u8],
    ) -> Result<(), SnapshotError> {
        Ok(self.region.gather(ranges, buf)?)
    }

    /// Waits until no writer is in the middle of anything, and keeps it so.
    pub(crate) fn close_gate(&self) -> Result<Closed<'_>, SnapshotError> {
        let timeout = self.options.gate_timeout;
        let inside = match self.options.changes {
            Changes::Transactions => {
                let inside = self.gate.share("checkpoint", timeout);
                inside.map(Inside::Transactions)?
            }
            Changes::Writers => {
                let inside = self.gate.enter_alone("checkpoint", timeout);
                inside.map(Inside::Writers)?
            }
        };
        let since = Instant::now();
        let standstill = self.options.standstill.as_ref();
        let others = standstill.map(|standstill| standstill.stop()).transpose();
        let closed = Closed {
            _others: others.map_err(SnapshotError::Standstill)?,
            _inside: inside,
            since,
        };
        if self.options.follow_memory {
            self.follow_memory()?;
        }
        Ok(closed)
    }

    /// Makes the region as long as its memfd. The caller is alone inside the gate.
    pub(crate) fn follow_memory(&self) -> Result<(), SnapshotError> {
        let mut tracking = self.tracking();
        let lengths = self.lengths.write();
        let _lengths = lengths.unwrap_or_else(PoisonError::into_inner);
        let before = self.region.len();
        self.region.follow()?;
        let len = self.region.len();
        if len > before {
            let pages = pages_of(&(before as u64..len as u64));
            self.declared().insert_range(pages);
            tracking.grown(&self.region, before)?;
        }
        Ok(())
    }

    /// A barrier of a checkpoint.
    pub(crate) fn sync(&self, array: Array, cost: &mut Cost) -> Result<(), SnapshotError> {
        if self.options.durability == Durability::Process {
            return Ok(());
        }
        self.sync_anyway(array, cost)
    }

    /// A barrier that the state of the disk depends on, not only what comes back after a power cut.
    pub(crate) fn sync_anyway(&self, array: Array, cost: &mut Cost) -> Result<(), SnapshotError> {
        cost.barriers += 1;
        self.really_sync(array)
    }

    /// So that a barrier that comes has less to wait for.
    pub(crate) fn start_writing(&self, array: Array, range: Range<u64>) {
        if self.options.durability == Durability::Power {
            self.disk.start_writing(array, range);
        }
    }

    /// A sync that fails is the end: what is on the disk is not known any more.
    pub(crate) fn really_sync(&self, array: Array) -> Result<(), SnapshotError> {
        super::heap::sync(&*self.disk, array).inspect_err(|error| self.poison(error))
    }

    /// Nothing more is written by this store.
    pub(crate) fn poison(&self, error: &SnapshotError) {
        let mut poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        poisoned.get_or_insert_with(|| super::error::in_full(error));
    }

    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        let poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        match &*poisoned {
            Some(why) => Err(SnapshotError::Poisoned { why: why.clone() }),
            None => self.journal.check(),
        }
    }

    pub(crate) fn background_error(&self) -> MutexGuard<'_, Option<Arc<SnapshotError>>> {
        let error = self.background_error.lock();
        error.unwrap_or_else(PoisonError::into_inner)
    }

    /// Hazard 12.
    pub(crate) fn check_memory(&self) -> Result<(), SnapshotError> {
        if self.region.is_poisoned() {
            self.poison(&SnapshotError::MemoryLost);
            return Err(SnapshotError::MemoryLost);
        }
        Ok(())
    }

    pub(crate) fn declared(&self) -> MutexGuard<'_, PageSet> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tracking(&self) -> MutexGuard<'_, Tracking> {
        self.tracking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what changed since the last scan. Also when it fails, all that was taken is in the set (hazard 1).
    pub(crate) fn scan(&self, changed: &mut PageSet) -> Result<(), SnapshotError> {
        let mut tracking = self.tracking();
        *changed |= &std::mem::take(&mut *self.declared());
        tracking.scan(&self.region, changed)
    }

    pub(crate) fn checkpoints(&self) -> MutexGuard<'_, Checkpointer> {
        self.checkpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
