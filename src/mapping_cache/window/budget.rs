//! The budget of the cache: charges for mappings, evictions, and unmapping.
//!
//! One lock, held for a short time, guards the list of mappings. Nothing is mapped or unmapped
//! under it.
//!
//! `mapped_bytes` includes mappings that are being created or unmapped, and retired ones. If a new
//! mapping does not fit, victims are unmapped, and their bytes are free after munmap(2). If other
//! threads are unmapping victims, the caller waits for them: they hold no lock and wait for
//! nothing. No thread waits for pins.

use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::mapping_list::{Limits, MappingList, Victim, WindowMapping};
use super::pin_block::{Attention, BlockId, PinBlock};
use super::pin_pool::PinPool;
use super::wait_table::WaitTable;
use super::window_slot::{BeginEvict, EvictionMode, Slot};
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::{BudgetPolicy, CacheOptions};
use crate::mapping_cache::stats::CacheStats;

#[derive(Debug)]
pub(in crate::mapping_cache) struct Budget {
    attention: Attention,
    when_pinned: BudgetPolicy,
    idle_age: Option<Duration>,
    list: Mutex<MappingList>,
    /// Notified after a mapping was unmapped.
    freed: Condvar,
    pool: Arc<PinPool>,
}

/// A share of the budget for a mapping that is being created. Returned on drop.
#[derive(Debug)]
pub(in crate::mapping_cache) struct Charge<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        let mut list = self.budget.lock();
        list.remove_charge(self.bytes);
        list.update(&self.budget.attention);
        self.budget.freed.notify_all();
    }
}

impl Budget {
    pub(in crate::mapping_cache) fn new(options: &CacheOptions) -> Self {
        Self {
            attention: Attention::new(),
            when_pinned: options.budget_policy,
            idle_age: options.idle_timeout,
            list: Mutex::new(MappingList::new(options)),
            freed: Condvar::new(),
            pool: Arc::new(PinPool::new()),
        }
    }

    /// Returns the pin blocks of the mappings.
    pub(in crate::mapping_cache) fn pool(&self) -> &Arc<PinPool> {
        &self.pool
    }

    /// Charges the budget for a mapping of `bytes` bytes. Evicts the least recently used windows if
    /// it does not fit.
    pub(in crate::mapping_cache) fn charge(
        &self,
        bytes: u64,
        wait_table: &WaitTable,
    ) -> Result<Charge<'_>, MappingError> {
        self.sweep_if_due(wait_table);
        let mut list = self.lock();
        while !list.fits(bytes) {
            let victims = list.remove_victims(bytes, &self.attention, wait_table);
            list.update(&self.attention);
            if !victims.is_empty() {
                drop(list);
                self.unmap(victims, wait_table);
                list = self.lock();
            } else if list.is_unmapping() {
                list = self
                    .freed
                    .wait(list)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if self.when_pinned == BudgetPolicy::AllowExceeding {
                list.over_budget_mappings += 1;
                break;
            } else {
                let Limits {
                    budget_bytes,
                    mappings_max,
                } = list.limits();
                return Err(MappingError::BudgetExhausted {
                    budget_bytes,
                    mappings_max,
                });
            }
        }
        list.add_charge(bytes);
        list.update(&self.attention);
        let budget = self;
        Ok(Charge { budget, bytes })
    }

    /// Adds a mapping that was charged. Called before its slot is published.
    pub(in crate::mapping_cache) fn admit(&self, charge: Charge<'_>, mapping: WindowMapping) {
        assert_eq!(
            charge.bytes,
            mapping.bytes(),
            "the mapping has the charged length"
        );
        std::mem::forget(charge);
        self.lock().add(mapping);
    }

    /// Retires a mapping after its slot got another one. It is unmapped with its last unpin.
    pub(in crate::mapping_cache) fn retire(&self, block: BlockId, wait_table: &WaitTable) {
        let mut list = self.lock();
        let victim = list.retire(block, &self.attention);
        list.update(&self.attention);
        drop(list);
        self.unmap(victim, wait_table);
    }

    /// Returns whether [`after_unpin`](Self::after_unpin) must be called after an unpin. It reads a
    /// cache line that is written only when that changes.
    #[inline(always)]
    pub(in crate::mapping_cache) fn needs_attention(&self) -> bool {
        self.attention.is_raised()
    }

    /// Unmaps a mapping after its last unpin if it is retired or the budget is exceeded. Returns it
    /// to the LRU list if it was set aside.
    pub(in crate::mapping_cache) fn after_unpin(&self, pins: &PinBlock, wait_table: &WaitTable) {
        let is_concerned = pins.is_set_aside() || self.attention.is_exceeded();
        // By a read-modify-write of each stripe (`pin_block`, case 2).
        if !is_concerned || pins.is_pinned() {
            return;
        }
        let mut list = self.lock();
        let victim = list.after_unpin(pins.id(), wait_table);
        list.update(&self.attention);
        drop(list);
        self.unmap(victim, wait_table);
    }

    /// Returns whether a mapping of `bytes` bytes fits without an eviction.
    pub(in crate::mapping_cache) fn has_room(&self, bytes: u64) -> bool {
        self.lock().fits(bytes)
    }

    /// Unmaps one window if it has no pins. Returns the unmapped bytes, or `None` if it is pinned.
    /// Waits while another thread maps or unmaps it.
    pub(in crate::mapping_cache) fn evict(
        &self,
        slot: &Slot,
        wait_table: &WaitTable,
    ) -> Option<u64> {
        let victim = loop {
            if slot.is_empty() {
                return Some(0);
            }
            // Under the lock, so that a thread that needs budget sees what is being unmapped.
            let mut list = self.lock();
            match slot.begin_evict(&self.pool, None, EvictionMode::Any, wait_table) {
                BeginEvict::Begun(block) => {
                    let victim = list.take_evicted(block);
                    list.update(&self.attention);
                    break victim;
                }
                BeginEvict::Empty => return Some(0),
                BeginEvict::Pinned | BeginEvict::Spared => return None,
                BeginEvict::Busy => {
                    drop(list);
                    slot.wait_while_busy(wait_table);
                }
            }
        };
        let bytes = victim.mapping.bytes();
        self.unmap([victim], wait_table);
        Some(bytes)
    }

    /// Unmaps the retired mappings of some windows of a file. Returns the unmapped bytes, and the
    /// first window with a retired mapping that is still pinned.
    pub(in crate::mapping_cache) fn evict_retired(
        &self,
        file: u64,
        windows: RangeInclusive<u64>,
        wait_table: &WaitTable,
    ) -> (u64, Option<u64>) {
        let mut list = self.lock();
        let (victims, pinned) = list.remove_retired(file, windows);
        list.update(&self.attention);
        drop(list);
        (self.unmap(victims, wait_table), pinned)
    }

    /// Unmaps half of the windows without pins, since the kernel refused another mapping.
    pub(in crate::mapping_cache) fn evict_half(&self, wait_table: &WaitTable) {
        let mut list = self.lock();
        let victims = list.remove_half(&self.attention, wait_table);
        list.update(&self.attention);
        drop(list);
        self.unmap(victims, wait_table);
    }

    /// Unmaps the windows that were idle for `age`. Returns the unmapped bytes.
    pub(in crate::mapping_cache) fn evict_idle(
        &self,
        age: Duration,
        wait_table: &WaitTable,
    ) -> u64 {
        let mut list = self.lock();
        let victims = list.remove_idle(age, wait_table);
        list.update(&self.attention);
        drop(list);
        self.unmap(victims, wait_table)
    }

    pub(in crate::mapping_cache) fn fill(&self, stats: &mut CacheStats) {
        self.lock().fill(stats);
        stats.hits = self.pool.hits();
    }

    fn sweep_if_due(&self, wait_table: &WaitTable) {
        let Some(age) = self.idle_age else { return };
        if self.lock().last_sweep.elapsed() >= age / 4 {
            self.evict_idle(age, wait_table);
        }
    }

    /// Unmaps mappings that were removed from the list, then frees their share of the budget.
    /// Returns the unmapped bytes.
    fn unmap(&self, victims: impl IntoIterator<Item = Victim>, wait_table: &WaitTable) -> u64 {
        let mut unmapped = 0;
        for victim in victims {
            let bytes = victim.mapping.bytes();
            let (slots, key, block) = victim.mapping.unmap();
            let mut list = self.lock();
            list.finish_unmapping(bytes);
            list.update(&self.attention);
            drop(list);
            self.freed.notify_all();
            if !victim.is_retired {
                let slots = slots.get(key.window).expect("mapped windows have slots");
                let slot = slots.slot(key.access);
                slot.finish_evict();
                slot.wake(wait_table);
            }
            // After the slot: it names the block until then.
            self.pool.release(block);
            unmapped += bytes;
        }
        unmapped
    }

    fn lock(&self) -> MutexGuard<'_, MappingList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::mapping_cache::{Access, CachedFile, FileOptions, Location, MappingCache};

    const WINDOW: u64 = 4096;

    /// A file of `windows` windows in a cache with a budget for ten.
    fn file_of(windows: u64, options: CacheOptions) -> (tempfile::TempDir, CachedFile) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = File::create(directory.path().join("a")).expect("a file");
        file.set_len(windows * WINDOW).expect("a length");
        let options = options.window_bytes(WINDOW as usize);
        let cache = MappingCache::new(options.budget_bytes(10 * WINDOW)).expect("a cache");
        let location = Location::beneath(directory.path().into(), "a".into()).expect("a name");
        let file = cache.file(location, windows * WINDOW, FileOptions::default());
        (directory, file)
    }

    fn looks(file: &CachedFile) -> u64 {
        file.resources.budget.lock().looks
    }

    #[test]
    fn pins_kept_beyond_the_budget_are_looked_at_once() {
        const KEPT: u64 = 500;
        let (_directory, file) = file_of(2 * KEPT, CacheOptions::default());
        let pin = |window| file.pin(window, Access::ReadOnly).expect("a pin");
        let kept: Vec<_> = (0..KEPT).map(pin).collect();
        assert!(looks(&file) <= 3 * KEPT, "{} looks", looks(&file));
        for window in KEPT..2 * KEPT {
            drop(pin(window));
        }
        assert!(looks(&file) <= 6 * KEPT, "{} looks", looks(&file));
        let mapped = || file.resources.budget.lock().mapped_bytes();
        assert_eq!(mapped(), KEPT * WINDOW, "idle windows are unmapped at once");
        drop(kept);
        assert_eq!(mapped(), 10 * WINDOW);
        for window in 0..2 * KEPT {
            drop(pin(window));
            assert_eq!(mapped(), 10 * WINDOW, "windows that were kept are evicted");
        }
    }

    #[test]
    fn windows_that_were_pinned_during_a_pass_are_evicted_before_the_budget_is_exceeded() {
        let options = CacheOptions::default().budget_policy(BudgetPolicy::Fail);
        let (_directory, file) = file_of(100, options);
        let pin = |window| file.pin(window, Access::ReadOnly);
        for round in 0..8 {
            let first = 10 * round;
            let mut kept: Vec<_> = (first..first + 10)
                .map(|window| pin(window).expect("the others are idle"))
                .collect();
            assert!(pin(99).is_err(), "all of the budget is pinned");
            drop(kept.swap_remove(5));
            drop(pin(98).expect("one window is idle"));
            drop(pin(97).expect("the same budget again"));
        }
    }

    #[test]
    fn memory_is_bounded_by_mapped_windows_and_64_bytes_a_touched_window() {
        const TOUCHED: u64 = 5000;
        let (_directory, file) = file_of(TOUCHED, CacheOptions::default());
        for window in 0..TOUCHED {
            drop(file.pin(window, Access::ReadOnly).expect("a pin"));
        }
        // Ten mappings exist at once. The memory of a touched window is tested in `slot_table`.
        let blocks = file.resources.budget.pool().blocks();
        assert!(blocks <= 16, "{blocks} blocks for ten mappings");
    }
}
