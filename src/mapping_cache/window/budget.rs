//! The budget of the cache and the LRU list of its mappings.
//!
//! One lock, held for a short time, guards the list. Nothing is mapped or unmapped under it. The
//! list owns the mapping of a window from just before its slot is published until an eviction
//! removes it.
//!
//! `mapped_bytes` includes mappings that are being created or unmapped. If a new mapping does not
//! fit, victims are unmapped, and their bytes are free after munmap(2). If other threads are
//! unmapping victims, the caller waits for them: they hold no lock and wait for nothing. No thread
//! waits for pins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use memmap2::MmapRaw;

use super::slot_table::SlotTable;
use super::wait_table::WaitTable;
use super::window_slot::{BeginEvict, EvictionMode, Slot};
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::{Access, BudgetPolicy, CacheOptions};
use crate::mapping_cache::stats::CacheStats;
use crate::sys::sigbus::Watch;

/// The file, the window and the access of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::mapping_cache) struct Key {
    pub(in crate::mapping_cache) file: u64,
    pub(in crate::mapping_cache) window: u64,
    pub(in crate::mapping_cache) access: Access,
}

/// The mapping of a window, owned by the LRU list.
#[derive(Debug)]
pub(in crate::mapping_cache) struct WindowMapping {
    /// Dropped first: it watches the mapping and sets a flag in a slot.
    watch: Watch,
    map: MmapRaw,
    slots: Arc<SlotTable>,
    /// When the window was mapped or was last seen in use.
    idle_since: Instant,
}

impl WindowMapping {
    pub(in crate::mapping_cache) fn new(slots: Arc<SlotTable>, watch: Watch, map: MmapRaw) -> Self {
        Self {
            watch,
            map,
            slots,
            idle_since: Instant::now(),
        }
    }

    fn slot(&self, key: Key) -> &Slot {
        let window = self.slots.get(key.window);
        window.expect("mapped windows have slots").slot(key.access)
    }

    fn bytes(&self) -> u64 {
        self.map.len() as u64
    }
}

type Victim = (Key, WindowMapping);

#[derive(Debug)]
pub(in crate::mapping_cache) struct Budget {
    budget_bytes: u64,
    mappings_max: usize,
    when_pinned: BudgetPolicy,
    idle_age: Option<Duration>,
    list: Mutex<MappingList>,
    /// Notified after a mapping was unmapped.
    freed: Condvar,
    /// Set while more is mapped than the budget permits, since everything was pinned. The next
    /// unpin unmaps its window.
    exceeded: AtomicBool,
}

#[derive(Debug)]
struct MappingList {
    recency: LruCache<Key, WindowMapping>,
    mapped_bytes: u64,
    mapped_bytes_max: u64,
    mappings: usize,
    /// Bytes among `mapped_bytes` that are being unmapped.
    unmapping_bytes: u64,
    unmapping: usize,
    evictions: u64,
    over_budget_mappings: u64,
    last_sweep: Instant,
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
        list.mapped_bytes -= self.bytes;
        list.mappings -= 1;
        self.budget.freed.notify_all();
    }
}

impl Budget {
    pub(in crate::mapping_cache) fn new(options: &CacheOptions) -> Self {
        Self {
            budget_bytes: options.budget_bytes,
            mappings_max: options.mappings_max,
            when_pinned: options.budget_policy,
            idle_age: options.idle_timeout,
            list: Mutex::new(MappingList {
                recency: LruCache::unbounded(),
                mapped_bytes: 0,
                mapped_bytes_max: 0,
                mappings: 0,
                unmapping_bytes: 0,
                unmapping: 0,
                evictions: 0,
                over_budget_mappings: 0,
                last_sweep: Instant::now(),
            }),
            freed: Condvar::new(),
            exceeded: AtomicBool::new(false),
        }
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
        loop {
            if list.fits(bytes, self) {
                break;
            }
            let victims = list.remove_victims(bytes, self, wait_table);
            if !victims.is_empty() {
                drop(list);
                self.unmap(victims, wait_table);
                list = self.lock();
            } else if list.unmapping > 0 {
                list = self
                    .freed
                    .wait(list)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if self.when_pinned == BudgetPolicy::AllowExceeding {
                list.over_budget_mappings += 1;
                self.exceeded.store(true, Ordering::Relaxed);
                break;
            } else {
                return Err(MappingError::BudgetExhausted {
                    budget_bytes: self.budget_bytes,
                    mappings_max: self.mappings_max,
                });
            }
        }
        list.mapped_bytes += bytes;
        list.mapped_bytes_max = list.mapped_bytes_max.max(list.mapped_bytes);
        list.mappings += 1;
        let budget = self;
        Ok(Charge { budget, bytes })
    }

    /// Adds a mapping that was charged. Called before its slot is published.
    pub(in crate::mapping_cache) fn admit(
        &self,
        charge: Charge<'_>,
        key: Key,
        mapping: WindowMapping,
    ) {
        assert_eq!(
            charge.bytes,
            mapping.bytes(),
            "the mapping has the charged length"
        );
        std::mem::forget(charge);
        let before = self.lock().recency.put(key, mapping);
        assert!(before.is_none(), "a window is mapped once for each access");
    }

    /// Returns whether more is mapped than the budget permits. Called after an unpin. It reads a
    /// cache line that is written only when that changes. If it returns `false` too early, the next
    /// unpin or mapping trims the cache.
    #[inline(always)]
    pub(in crate::mapping_cache) fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// Unmaps a window after an unpin if it has no pins and the budget is exceeded.
    pub(in crate::mapping_cache) fn trim(&self, key: Key, slot: &Slot, wait_table: &WaitTable) {
        if slot.pins() > 0 {
            return;
        }
        let mut list = self.lock();
        if list.is_within(self) {
            self.exceeded.store(false, Ordering::Relaxed);
            return;
        }
        if slot.begin_evict(EvictionMode::Any, wait_table) != BeginEvict::Begun {
            return;
        }
        let mapping = list.recency.pop(&key);
        let mapping = mapping.expect("ready slots are in the list");
        list.start_unmapping(&mapping);
        if list.is_within(self) {
            self.exceeded.store(false, Ordering::Relaxed);
        }
        drop(list);
        self.unmap(vec![(key, mapping)], wait_table);
    }

    /// Returns whether a mapping of `bytes` bytes fits without an eviction.
    pub(in crate::mapping_cache) fn has_room(&self, bytes: u64) -> bool {
        self.lock().fits(bytes, self)
    }

    /// Unmaps one window if it has no pins. Returns the unmapped bytes, or `None` if it is pinned.
    /// Waits while another thread maps or unmaps it.
    pub(in crate::mapping_cache) fn evict(
        &self,
        key: Key,
        slot: &Slot,
        wait_table: &WaitTable,
    ) -> Option<u64> {
        let (mut list, mapping) = loop {
            // Under the lock, so that a thread that needs budget sees what is being unmapped.
            let mut list = self.lock();
            match slot.begin_evict(EvictionMode::Any, wait_table) {
                BeginEvict::Begun => {
                    let mapping = list.recency.pop(&key);
                    break (list, mapping.expect("ready slots are in the list"));
                }
                BeginEvict::Empty => return Some(0),
                BeginEvict::Pinned | BeginEvict::Spared => return None,
                BeginEvict::Busy => {
                    drop(list);
                    slot.wait_while_busy(wait_table);
                }
            }
        };
        let bytes = list.start_unmapping(&mapping);
        drop(list);
        self.unmap(vec![(key, mapping)], wait_table);
        Some(bytes)
    }

    /// Unmaps half of the windows without pins, since the kernel refused another mapping.
    pub(in crate::mapping_cache) fn evict_half(&self, wait_table: &WaitTable) {
        let mut list = self.lock();
        let most = list.recency.len().div_ceil(2);
        let mut victims =
            list.remove_while(EvictionMode::SpareReferenced, wait_table, |_, n| n < most);
        let rest = most - victims.len();
        victims.extend(list.remove_while(EvictionMode::Any, wait_table, |_, n| n < rest));
        drop(list);
        self.unmap(victims, wait_table);
    }

    /// Unmaps the windows that were idle for `age`. Returns the unmapped bytes.
    pub(in crate::mapping_cache) fn evict_idle(
        &self,
        age: Duration,
        wait_table: &WaitTable,
    ) -> u64 {
        let now = Instant::now();
        let mut list = self.lock();
        list.last_sweep = now;
        let mut victims = Vec::new();
        // One round. A window that stays is put back at the other end, so the order is preserved.
        for _ in 0..list.recency.len() {
            let Some((key, mut mapping)) = list.recency.pop_lru() else {
                break;
            };
            let slot = mapping.slot(key);
            if slot.clear_referenced() && !age.is_zero() {
                mapping.idle_since = now;
            } else if now.saturating_duration_since(mapping.idle_since) >= age
                && slot.begin_evict(EvictionMode::Any, wait_table) == BeginEvict::Begun
            {
                victims.push((key, mapping));
                continue;
            }
            list.recency.put(key, mapping);
        }
        let bytes = victims
            .iter()
            .map(|(_, mapping)| list.start_unmapping(mapping))
            .sum();
        drop(list);
        self.unmap(victims, wait_table);
        bytes
    }

    pub(in crate::mapping_cache) fn fill(&self, stats: &mut CacheStats) {
        let list = self.lock();
        stats.evictions = list.evictions;
        stats.over_budget_mappings = list.over_budget_mappings;
        stats.mapped_bytes = list.mapped_bytes;
        stats.mapped_bytes_max = list.mapped_bytes_max;
        stats.mappings = list.mappings;
        stats.pinned_mappings = list
            .recency
            .iter()
            .filter(|(key, mapping)| mapping.slot(**key).pins() > 0)
            .count();
    }

    fn sweep_if_due(&self, wait_table: &WaitTable) {
        let Some(age) = self.idle_age else { return };
        if self.lock().last_sweep.elapsed() >= age / 4 {
            self.evict_idle(age, wait_table);
        }
    }

    /// Unmaps windows that were removed from the list, then frees their share of the budget.
    fn unmap(&self, victims: Vec<Victim>, wait_table: &WaitTable) {
        for (key, mapping) in victims {
            let bytes = mapping.bytes();
            let slots = Arc::clone(&mapping.slots);
            drop(mapping.watch);
            drop(mapping.map);
            let mut list = self.lock();
            list.mapped_bytes -= bytes;
            list.mappings -= 1;
            list.unmapping_bytes -= bytes;
            list.unmapping -= 1;
            list.evictions += 1;
            drop(list);
            self.freed.notify_all();
            let slots = slots.get(key.window).expect("mapped windows have slots");
            let slot = slots.slot(key.access);
            slot.finish_evict();
            slot.wake(wait_table);
        }
    }

    fn lock(&self) -> MutexGuard<'_, MappingList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MappingList {
    fn fits(&self, bytes: u64, budget: &Budget) -> bool {
        self.mapped_bytes.saturating_add(bytes) <= budget.budget_bytes
            && self.mappings < budget.mappings_max
    }

    /// Returns whether a mapping fits once the current unmapping is finished.
    fn will_fit(&self, bytes: u64, budget: &Budget) -> bool {
        let staying = self.mapped_bytes - self.unmapping_bytes;
        staying.saturating_add(bytes) <= budget.budget_bytes
            && self.mappings - self.unmapping < budget.mappings_max
    }

    /// Removes windows from the list until a mapping of `bytes` bytes will fit. Windows that were
    /// not used since the last round are removed first, then any without pins.
    fn remove_victims(
        &mut self,
        bytes: u64,
        budget: &Budget,
        wait_table: &WaitTable,
    ) -> Vec<Victim> {
        let needs_more = |list: &Self, _: usize| !list.will_fit(bytes, budget);
        let mut victims = self.remove_while(EvictionMode::SpareReferenced, wait_table, needs_more);
        victims.extend(self.remove_while(EvictionMode::Any, wait_table, needs_more));
        victims
    }

    /// Returns whether the mappings that stay are within the budget.
    fn is_within(&self, budget: &Budget) -> bool {
        self.mapped_bytes - self.unmapping_bytes <= budget.budget_bytes
            && self.mappings - self.unmapping <= budget.mappings_max
    }

    /// Passes once through the LRU list and removes windows while `needs_more` returns `true`. It
    /// is called with the list and the number of removed windows.
    fn remove_while(
        &mut self,
        mode: EvictionMode,
        wait_table: &WaitTable,
        needs_more: impl Fn(&Self, usize) -> bool,
    ) -> Vec<Victim> {
        let mut victims = Vec::new();
        for _ in 0..self.recency.len() {
            if !needs_more(self, victims.len()) {
                break;
            }
            let Some((key, mapping)) = self.recency.pop_lru() else {
                break;
            };
            if mapping.slot(key).begin_evict(mode, wait_table) == BeginEvict::Begun {
                self.start_unmapping(&mapping);
                victims.push((key, mapping));
            } else {
                self.recency.put(key, mapping);
            }
        }
        victims
    }

    fn start_unmapping(&mut self, mapping: &WindowMapping) -> u64 {
        self.unmapping_bytes += mapping.bytes();
        self.unmapping += 1;
        mapping.bytes()
    }
}
