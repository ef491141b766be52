//! What is mapped, in order of recency, and what it costs: the slow path of the cache.
//!
//! One short lock guards the books; nothing is mapped or unmapped under it. A window's mapping is
//! owned by the books from just before its slot is published until an evictor has taken it out.
//!
//! Credit: `mapped_bytes` counts what is mapped, being mapped and being unmapped. A reservation that
//! does not fit takes victims; their credit returns after munmap. If victims of other threads are
//! still leaving, it waits for them: they hold no lock and wait for nothing. Nobody waits for pins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use memmap2::MmapRaw;

use super::error::MappingError;
use super::options::{Access, CacheOptions, WhenPinned};
use super::parking::Parking;
use super::slot::{BeginEvict, Mercy, Slot};
use super::slot_table::SlotTable;
use super::stats::CacheStats;
use crate::sys::sigbus::Watch;

/// A mapping is known by its file, its window and what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) file: u64,
    pub(super) window: u64,
    pub(super) access: Access,
}

/// A mapping in the books.
#[derive(Debug)]
pub(super) struct Held {
    /// Dropped first: it watches the mapping, and sets a flag in the slots.
    watch: Watch,
    pub(super) map: MmapRaw,
    pub(super) slots: Arc<SlotTable>,
    /// When it was first seen unused, or mapped.
    idle_since: Instant,
}

impl Held {
    pub(super) fn new(slots: Arc<SlotTable>, watch: Watch, map: MmapRaw) -> Self {
        let idle_since = Instant::now();
        Self {
            slots,
            watch,
            map,
            idle_since,
        }
    }

    fn slot(&self, key: Key) -> &Slot {
        let window = self.slots.get(key.window);
        window.expect("mapped windows have slots").slot(key.access)
    }

    fn charge(&self) -> u64 {
        self.map.len() as u64
    }
}

type Victim = (Key, Held);

#[derive(Debug)]
pub(super) struct Ledger {
    budget_bytes: u64,
    mappings_max: usize,
    when_pinned: WhenPinned,
    idle_age: Option<Duration>,
    books: Mutex<Books>,
    credit: Condvar,
    /// More is mapped than the budget allows, as all was pinned: the next to unpin gives back.
    exceeded: AtomicBool,
}

#[derive(Debug)]
struct Books {
    recency: LruCache<Key, Held>,
    mapped_bytes: u64,
    mapped_bytes_max: u64,
    mappings: usize,
    /// Of those, being unmapped at this moment.
    leaving_bytes: u64,
    leaving: usize,
    evictions: u64,
    exceeded: u64,
    last_sweep: Instant,
}

/// Credit for a mapping that is being made; returned if it is not admitted.
#[derive(Debug)]
pub(super) struct Charge<'a> {
    ledger: &'a Ledger,
    bytes: u64,
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        let mut books = self.ledger.lock();
        books.mapped_bytes -= self.bytes;
        books.mappings -= 1;
        self.ledger.credit.notify_all();
    }
}

impl Ledger {
    pub(super) fn new(options: &CacheOptions) -> Self {
        Self {
            budget_bytes: options.budget_bytes,
            mappings_max: options.mappings_max,
            when_pinned: options.when_pinned,
            idle_age: options.idle_age,
            books: Mutex::new(Books {
                recency: LruCache::unbounded(),
                mapped_bytes: 0,
                mapped_bytes_max: 0,
                mappings: 0,
                leaving_bytes: 0,
                leaving: 0,
                evictions: 0,
                exceeded: 0,
                last_sweep: Instant::now(),
            }),
            credit: Condvar::new(),
            exceeded: AtomicBool::new(false),
        }
    }

    /// Takes credit for a mapping of so many bytes, evicting what has been unused longest.
    pub(super) fn reserve(
        &self,
        bytes: u64,
        parking: &Parking,
    ) -> Result<Charge<'_>, MappingError> {
        self.sweep_if_due(parking);
        let mut books = self.lock();
        loop {
            if books.fits(bytes, self) {
                break;
            }
            let victims = books.take_victims(bytes, self, parking);
            if !victims.is_empty() {
                drop(books);
                self.unmap(victims, parking);
                books = self.lock();
            } else if books.leaving > 0 {
                books = self
                    .credit
                    .wait(books)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if self.when_pinned == WhenPinned::Exceed {
                books.exceeded += 1;
                self.exceeded.store(true, Ordering::Relaxed);
                break;
            } else {
                return Err(MappingError::BudgetPinned {
                    budget_bytes: self.budget_bytes,
                    mappings_max: self.mappings_max,
                });
            }
        }
        books.mapped_bytes += bytes;
        books.mapped_bytes_max = books.mapped_bytes_max.max(books.mapped_bytes);
        books.mappings += 1;
        let ledger = self;
        Ok(Charge { ledger, bytes })
    }

    /// Enters a mapping for which credit was taken; to be called before its slot is published.
    pub(super) fn admit(&self, charge: Charge<'_>, key: Key, held: Held) {
        assert_eq!(charge.bytes, held.charge(), "charged for what was mapped");
        std::mem::forget(charge);
        let before = self.lock().recency.put(key, held);
        assert!(before.is_none(), "one mapping for a window and access");
    }

    /// Is more mapped than the budget allows? To be asked after an unpin. A look at a line that is written only
    /// when it is so. One that comes too early leaves the duty to the next unpin or the next mapping.
    #[inline(always)]
    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// After an unpin: unmaps the window if nobody else pins it and the budget is exceeded.
    pub(super) fn trim(&self, key: Key, slot: &Slot, parking: &Parking) {
        if slot.pins() > 0 {
            return;
        }
        let mut books = self.lock();
        if books.is_within(self) {
            self.exceeded.store(false, Ordering::Relaxed);
            return;
        }
        if slot.begin_evict(Mercy::None, parking) != BeginEvict::Begun {
            return;
        }
        let held = books.recency.pop(&key);
        let held = held.expect("ready slots are in the books");
        books.leave(&held);
        if books.is_within(self) {
            self.exceeded.store(false, Ordering::Relaxed);
        }
        drop(books);
        self.unmap(vec![(key, held)], parking);
    }

    /// Would a mapping of so many bytes fit without evicting another?
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.lock().fits(bytes, self)
    }

    /// Unmaps one window now if nobody pins it; returns how many bytes went, or `None` if it is pinned.
    /// Waits while another thread is mapping or unmapping it.
    pub(super) fn evict(&self, key: Key, slot: &Slot, parking: &Parking) -> Option<u64> {
        let (mut books, held) = loop {
            // Under the lock, so that whoever looks for credit sees what is about to leave.
            let mut books = self.lock();
            match slot.begin_evict(Mercy::None, parking) {
                BeginEvict::Begun => {
                    let held = books.recency.pop(&key);
                    break (books, held.expect("ready slots are in the books"));
                }
                BeginEvict::Empty => return Some(0),
                BeginEvict::Pinned | BeginEvict::Spared => return None,
                BeginEvict::Busy => {
                    drop(books);
                    parking.wait(slot);
                }
            }
        };
        let bytes = books.leave(&held);
        drop(books);
        self.unmap(vec![(key, held)], parking);
        Some(bytes)
    }

    /// Unmaps half of what nobody pins: the kernel has no mappings left for us.
    pub(super) fn evict_half(&self, parking: &Parking) {
        let mut books = self.lock();
        let most = books.recency.len().div_ceil(2);
        let mut victims = books.take(Mercy::SpareReferenced, parking, |_, taken| taken < most);
        let rest = most - victims.len();
        victims.extend(books.take(Mercy::None, parking, |_, taken| taken < rest));
        drop(books);
        self.unmap(victims, parking);
    }

    /// Unmaps what nobody used for `age`; returns how many bytes went.
    pub(super) fn evict_idle(&self, age: Duration, parking: &Parking) -> u64 {
        let now = Instant::now();
        let mut books = self.lock();
        books.last_sweep = now;
        let mut victims = Vec::new();
        // Once round: what is put back goes to the other end, so the order stays as it was.
        for _ in 0..books.recency.len() {
            let Some((key, mut held)) = books.recency.pop_lru() else {
                break;
            };
            let slot = held.slot(key);
            if slot.take_referenced() && !age.is_zero() {
                held.idle_since = now;
            } else if now.saturating_duration_since(held.idle_since) >= age
                && slot.begin_evict(Mercy::None, parking) == BeginEvict::Begun
            {
                victims.push((key, held));
                continue;
            }
            books.recency.put(key, held);
        }
        let bytes = victims.iter().map(|(_, held)| books.leave(held)).sum();
        drop(books);
        self.unmap(victims, parking);
        bytes
    }

    pub(super) fn fill(&self, stats: &mut CacheStats) {
        let books = self.lock();
        stats.evictions = books.evictions;
        stats.budget_exceeded = books.exceeded;
        stats.mapped_bytes = books.mapped_bytes;
        stats.mapped_bytes_max = books.mapped_bytes_max;
        stats.mappings = books.mappings;
        let held = books.recency.iter();
        stats.pinned = held
            .filter(|(key, held)| held.slot(**key).pins() > 0)
            .count();
    }

    fn sweep_if_due(&self, parking: &Parking) {
        let Some(age) = self.idle_age else { return };
        if self.lock().last_sweep.elapsed() >= age / 4 {
            self.evict_idle(age, parking);
        }
    }

    /// Unmaps windows that have left the books, then returns their credit.
    fn unmap(&self, victims: Vec<Victim>, parking: &Parking) {
        for (key, held) in victims {
            let bytes = held.charge();
            let slots = held.slots.clone();
            drop(held.watch);
            drop(held.map);
            let mut books = self.lock();
            books.mapped_bytes -= bytes;
            books.mappings -= 1;
            books.leaving_bytes -= bytes;
            books.leaving -= 1;
            books.evictions += 1;
            drop(books);
            self.credit.notify_all();
            let slot = slots.get(key.window).expect("it was mapped");
            let slot = slot.slot(key.access);
            slot.finish_evict();
            parking.wake(slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn fits(&self, bytes: u64, ledger: &Ledger) -> bool {
        self.mapped_bytes.saturating_add(bytes) <= ledger.budget_bytes
            && self.mappings < ledger.mappings_max
    }

    /// Would it fit once those that are leaving have left?
    fn will_fit(&self, bytes: u64, ledger: &Ledger) -> bool {
        let staying = self.mapped_bytes - self.leaving_bytes;
        staying.saturating_add(bytes) <= ledger.budget_bytes
            && self.mappings - self.leaving < ledger.mappings_max
    }

    /// Takes windows out of the books until a mapping of so many bytes will fit: first those not used
    /// since the last look, then any that is not pinned.
    fn take_victims(&mut self, bytes: u64, ledger: &Ledger, parking: &Parking) -> Vec<Victim> {
        let mut victims = self.take(Mercy::SpareReferenced, parking, |books, _| {
            !books.will_fit(bytes, ledger)
        });
        victims.extend(self.take(Mercy::None, parking, |books, _| {
            !books.will_fit(bytes, ledger)
        }));
        victims
    }

    /// Are those that stay within the budget?
    fn is_within(&self, ledger: &Ledger) -> bool {
        self.mapped_bytes - self.leaving_bytes <= ledger.budget_bytes
            && self.mappings - self.leaving <= ledger.mappings_max
    }

    /// Goes once round the order of recency and takes victims as long as `more` says so.
    fn take(
        &mut self,
        mercy: Mercy,
        parking: &Parking,
        more: impl Fn(&Self, usize) -> bool,
    ) -> Vec<Victim> {
        let mut victims = Vec::new();
        for _ in 0..self.recency.len() {
            if !more(self, victims.len()) {
                break;
            }
            let Some((key, held)) = self.recency.pop_lru() else {
                break;
            };
            if held.slot(key).begin_evict(mercy, parking) == BeginEvict::Begun {
                self.leave(&held);
                victims.push((key, held));
            } else {
                self.recency.put(key, held);
            }
        }
        victims
    }

    fn leave(&mut self, held: &Held) -> u64 {
        self.leaving_bytes += held.charge();
        self.leaving += 1;
        held.charge()
    }
}
