//! The mappings of a cache: the LRU list, the mappings that are set aside, and their sums.
//!
//! Each mapping is in one of three places:
//!
//! - In the LRU list, from just before its slot is published until an eviction removes it.
//! - Set aside, if a pass through the list found it pinned. Later passes do not meet it. Its last
//!   unpin returns it to the list. So a pass costs as much as the mappings and unpins before it,
//!   and not as much as all pinned mappings together.
//! - Retired: set aside, and replaced by another mapping of its window. Its last unpin unmaps it.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use memmap2::MmapRaw;

use super::pin_block::{Attention, BlockId, PinBlock};
use super::slot_table::SlotTable;
use super::wait_table::WaitTable;
use super::window_slot::{BeginEvict, EvictionMode, Slot};
use crate::mapping_cache::options::{Access, CacheOptions};
use crate::mapping_cache::stats::CacheStats;
use crate::sys::sigbus::Watch;

/// The file, the window and the access of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::mapping_cache) struct Key {
    pub(in crate::mapping_cache) file: u64,
    pub(in crate::mapping_cache) window: u64,
    pub(in crate::mapping_cache) access: Access,
}

/// The mapping of a window, owned by the list.
#[derive(Debug)]
pub(in crate::mapping_cache) struct WindowMapping {
    /// Dropped first: it watches the mapping and sets a flag in its block.
    watch: Watch,
    map: MmapRaw,
    /// Keeps the pool alive, too.
    slots: Arc<SlotTable>,
    key: Key,
    block: BlockId,
    /// When the window was mapped or was last seen in use.
    idle_since: Instant,
}

impl WindowMapping {
    /// Returns the mapping of a key, whose pins are in `block`.
    pub(in crate::mapping_cache) fn new(
        key: Key,
        block: BlockId,
        slots: Arc<SlotTable>,
        watch: Watch,
        map: MmapRaw,
    ) -> Self {
        Self {
            watch,
            map,
            slots,
            key,
            block,
            idle_since: Instant::now(),
        }
    }

    /// Returns the position in `MappingList::retired`.
    fn at(&self) -> (u64, u64, BlockId) {
        (self.key.file, self.key.window, self.block)
    }

    fn slot(&self) -> &Slot {
        let window = self.slots.get(self.key.window);
        let window = window.expect("mapped windows have slots");
        window.slot(self.key.access)
    }

    fn pins(&self) -> &PinBlock {
        self.slots.pool().get(self.block)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Unmaps the mapping. Returns the parts that are needed afterwards.
    pub(super) fn unmap(self) -> (Arc<SlotTable>, Key, BlockId) {
        drop(self.watch);
        drop(self.map);
        (self.slots, self.key, self.block)
    }

    fn begin_evict(&self, mode: EvictionMode, wait_table: &WaitTable) -> BeginEvict {
        let owned = Some(self.block);
        self.slot()
            .begin_evict(self.slots.pool(), owned, mode, wait_table)
    }
}

/// A mapping that was removed from the list and is to be unmapped.
#[derive(Debug)]
pub(super) struct Victim {
    pub(super) mapping: WindowMapping,
    /// The slot has another mapping.
    pub(super) is_retired: bool,
}

/// The limits of a cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) budget_bytes: u64,
    pub(super) mappings_max: usize,
}

/// The mappings of a cache.
#[derive(Debug)]
pub(super) struct MappingList {
    limits: Limits,
    recency: LruCache<BlockId, WindowMapping>,
    /// Mappings that are set aside or retired.
    set_aside: HashMap<BlockId, WindowMapping>,
    /// Those among `set_aside` that are retired, by file and window.
    retired: BTreeSet<(u64, u64, BlockId)>,
    mapped_bytes: u64,
    mapped_bytes_max: u64,
    mappings: usize,
    /// Bytes among `mapped_bytes` that are being unmapped.
    unmapping_bytes: u64,
    unmapping: usize,
    evictions: u64,
    pub(super) over_budget_mappings: u64,
    pub(super) last_sweep: Instant,
    /// How many mappings were looked at for an eviction.
    #[cfg(all(test, not(loom)))]
    pub(super) looks: u64,
}

impl MappingList {
    pub(super) fn new(options: &CacheOptions) -> Self {
        Self {
            limits: Limits {
                budget_bytes: options.budget_bytes,
                mappings_max: options.mappings_max,
            },
            recency: LruCache::unbounded(),
            set_aside: HashMap::new(),
            retired: BTreeSet::new(),
            mapped_bytes: 0,
            mapped_bytes_max: 0,
            mappings: 0,
            unmapping_bytes: 0,
            unmapping: 0,
            evictions: 0,
            over_budget_mappings: 0,
            last_sweep: Instant::now(),
            #[cfg(all(test, not(loom)))]
            looks: 0,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.mapped_bytes.saturating_add(bytes) <= self.limits.budget_bytes
            && self.mappings < self.limits.mappings_max
    }

    /// Returns whether a mapping fits once the current unmapping is finished.
    fn will_fit(&self, bytes: u64) -> bool {
        let staying = self.mapped_bytes - self.unmapping_bytes;
        staying.saturating_add(bytes) <= self.limits.budget_bytes
            && self.mappings - self.unmapping < self.limits.mappings_max
    }

    /// Returns whether the mappings that stay are within the budget.
    pub(super) fn is_within(&self) -> bool {
        self.mapped_bytes - self.unmapping_bytes <= self.limits.budget_bytes
            && self.mappings - self.unmapping <= self.limits.mappings_max
    }

    pub(super) fn is_unmapping(&self) -> bool {
        self.unmapping > 0
    }

    /// Tells unpins what they have to do. Called after each change, under the lock.
    pub(super) fn update(&self, attention: &Attention) {
        attention.store(!self.is_within(), !self.set_aside.is_empty());
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn mapped_bytes(&self) -> u64 {
        self.mapped_bytes
    }

    pub(super) fn add_charge(&mut self, bytes: u64) {
        self.mapped_bytes += bytes;
        self.mapped_bytes_max = self.mapped_bytes_max.max(self.mapped_bytes);
        self.mappings += 1;
    }

    pub(super) fn remove_charge(&mut self, bytes: u64) {
        self.mapped_bytes -= bytes;
        self.mappings -= 1;
    }

    pub(super) fn add(&mut self, mapping: WindowMapping) {
        let before = self.recency.put(mapping.block, mapping);
        assert!(before.is_none(), "a block belongs to one mapping");
    }

    /// Removes the mapping of a block for which `begin_evict` returned `Begun`.
    pub(super) fn take_evicted(&mut self, block: BlockId) -> Victim {
        let listed = self.recency.pop(&block);
        let mapping = listed.or_else(|| self.remove_set_aside(block));
        self.start_unmapping(mapping.expect("ready slots have a mapping"), false)
    }

    fn remove_set_aside(&mut self, block: BlockId) -> Option<WindowMapping> {
        let mapping = self.set_aside.remove(&block)?;
        mapping.pins().clear_set_aside();
        Some(mapping)
    }

    /// Retires the mapping of a block that no slot has any more. Returns it if it has no pins.
    pub(super) fn retire(&mut self, block: BlockId, attention: &Attention) -> Option<Victim> {
        let listed = self.recency.pop(&block);
        let mapping = listed.or_else(|| self.remove_set_aside(block));
        let mapping = mapping.expect("a replaced mapping is listed");
        if !mapping.pins().set_aside(attention) {
            return Some(self.start_unmapping(mapping, true));
        }
        self.retired.insert(mapping.at());
        self.set_aside.insert(block, mapping);
        None
    }

    /// Removes a mapping without pins after its last unpin: a retired one, or any if the budget is
    /// exceeded. Returns one that was set aside to the LRU list.
    pub(super) fn after_unpin(&mut self, block: BlockId, wait_table: &WaitTable) -> Option<Victim> {
        if let Some(mut mapping) = self.take_unpinned(block) {
            if self.retired.remove(&mapping.at()) {
                return Some(self.start_unmapping(mapping, true));
            }
            mapping.idle_since = Instant::now();
            self.add(mapping);
        }
        if self.is_within() {
            return None;
        }
        let mapping = self.recency.peek(&block)?;
        match mapping.begin_evict(EvictionMode::Any, wait_table) {
            BeginEvict::Begun(block) => Some(self.take_evicted(block)),
            _ => None,
        }
    }

    /// Removes a mapping that was set aside, if it has no pins.
    fn take_unpinned(&mut self, block: BlockId) -> Option<WindowMapping> {
        // A read-modify-write, so that the accesses of other threads happen before.
        if self.set_aside.get(&block)?.pins().is_pinned() {
            return None;
        }
        self.remove_set_aside(block)
    }

    /// Removes the retired mappings of some windows that have no pins. Returns the first window
    /// with pins, too.
    pub(super) fn remove_retired(
        &mut self,
        file: u64,
        windows: RangeInclusive<u64>,
    ) -> (Vec<Victim>, Option<u64>) {
        let (first, last) = windows.into_inner();
        let range = (file, first, BlockId::MIN)..=(file, last, BlockId::MAX);
        let found: Vec<_> = self.retired.range(range).copied().collect();
        let mut victims = Vec::new();
        let mut pinned = None;
        for at in found {
            if let Some(mapping) = self.take_unpinned(at.2) {
                self.retired.remove(&at);
                victims.push(self.start_unmapping(mapping, true));
            } else {
                pinned.get_or_insert(at.1);
            }
        }
        (victims, pinned)
    }

    /// Removes windows from the list until a mapping of `bytes` bytes will fit. Windows that were
    /// not used since the last round are removed first, then any without pins.
    pub(super) fn remove_victims(
        &mut self,
        bytes: u64,
        attention: &Attention,
        wait_table: &WaitTable,
    ) -> Vec<Victim> {
        let mut victims = Vec::new();
        for mode in [EvictionMode::SpareReferenced, EvictionMode::Any] {
            let needs_more = |list: &Self, _: usize| !list.will_fit(bytes);
            victims.extend(self.remove_while(mode, attention, wait_table, needs_more));
        }
        victims
    }

    /// Removes half of the windows without pins.
    pub(super) fn remove_half(
        &mut self,
        attention: &Attention,
        wait_table: &WaitTable,
    ) -> Vec<Victim> {
        let most = self.recency.len().div_ceil(2);
        let mode = EvictionMode::SpareReferenced;
        let mut victims = self.remove_while(mode, attention, wait_table, |_, n| n < most);
        let rest = most - victims.len();
        let mode = EvictionMode::Any;
        victims.extend(self.remove_while(mode, attention, wait_table, |_, n| n < rest));
        victims
    }

    /// Passes once through the LRU list and removes windows while `needs_more` returns `true`. It
    /// is called with the list and the number of removed windows. Sets pinned windows aside.
    fn remove_while(
        &mut self,
        mode: EvictionMode,
        attention: &Attention,
        wait_table: &WaitTable,
        needs_more: impl Fn(&Self, usize) -> bool,
    ) -> Vec<Victim> {
        let mut victims = Vec::new();
        for _ in 0..self.recency.len() {
            if !needs_more(self, victims.len()) {
                break;
            }
            let Some((block, mapping)) = self.recency.pop_lru() else {
                break;
            };
            #[cfg(all(test, not(loom)))]
            {
                self.looks += 1;
            }
            match mapping.begin_evict(mode, wait_table) {
                BeginEvict::Begun(_) => victims.push(self.start_unmapping(mapping, false)),
                BeginEvict::Pinned if mapping.pins().set_aside(attention) => {
                    self.set_aside.insert(block, mapping);
                }
                _ => self.add(mapping),
            }
        }
        victims
    }

    /// Removes the windows that were idle for `age`.
    pub(super) fn remove_idle(&mut self, age: Duration, wait_table: &WaitTable) -> Vec<Victim> {
        let now = Instant::now();
        self.last_sweep = now;
        let mut victims = Vec::new();
        // One round. A window that stays is put back at the other end, so the order is preserved.
        for _ in 0..self.recency.len() {
            let Some((_, mut mapping)) = self.recency.pop_lru() else {
                break;
            };
            let was_used = mapping.pins().clear_referenced() || mapping.pins().pins() > 0;
            if was_used && !age.is_zero() {
                mapping.idle_since = now;
            } else if now.saturating_duration_since(mapping.idle_since) >= age
                && matches!(
                    mapping.begin_evict(EvictionMode::Any, wait_table),
                    BeginEvict::Begun(_)
                )
            {
                victims.push(self.start_unmapping(mapping, false));
                continue;
            }
            self.add(mapping);
        }
        victims
    }

    fn start_unmapping(&mut self, mapping: WindowMapping, is_retired: bool) -> Victim {
        self.unmapping_bytes += mapping.bytes();
        self.unmapping += 1;
        Victim {
            mapping,
            is_retired,
        }
    }

    pub(super) fn finish_unmapping(&mut self, bytes: u64) {
        self.remove_charge(bytes);
        self.unmapping_bytes -= bytes;
        self.unmapping -= 1;
        self.evictions += 1;
    }

    pub(super) fn fill(&self, stats: &mut CacheStats) {
        stats.evictions = self.evictions;
        stats.over_budget_mappings = self.over_budget_mappings;
        stats.mapped_bytes = self.mapped_bytes;
        stats.mapped_bytes_max = self.mapped_bytes_max;
        stats.mappings = self.mappings;
        let listed = self.recency.iter().map(|(_, mapping)| mapping);
        let all = listed.chain(self.set_aside.values());
        stats.pinned_mappings = all.filter(|mapping| mapping.pins().pins() > 0).count();
    }
}
