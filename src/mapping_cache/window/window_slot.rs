//! The slot of one window: a state word, the address of the mapping, and its pins.
//!
//! Pins are counted in stripes, so that threads that pin the same window write to different cache
//! lines.
//!
//! ```text
//!   state     changed by                     to              in
//!   EMPTY     any thread that misses         MAPPING         begin_mapping
//!   MAPPING   the mapping thread             READY, 1 pin    publish
//!             the mapping thread             EMPTY           abort_mapping
//!   READY     any thread                     EVICTING        begin_evict, first half
//!   EVICTING  the same thread, if pinned     READY           begin_evict, second half
//!             the same thread, when unmapped EMPTY, epoch+1  finish_evict
//! ```
//!
//! A pin adds one to its stripe and *then* loads the state. An eviction changes the state and
//! *then* loads the stripes. The following cases matter:
//!
//! 1. *A pin meets an eviction.* Both do a read-modify-write of the stripe. If that of the eviction
//!    is later, the eviction sees the pin and restores READY. If that of the pin is later, it
//!    acquires what the eviction released. It then sees EVICTING or a later state and undoes the
//!    pin. Both use `AcqRel`. No step relies on sequential consistency.
//! 2. *A pin loads the address of the mapping that it pinned.* `publish` stores the address, then
//!    the state (Release). `try_pin` loads the state (Acquire), then the address. By case 1, no
//!    thread unmaps the window while the stripe counts the pin. So no thread stores another
//!    address.
//! 3. *No memory is unmapped while a reader uses it.* The accesses of a thread happen before its
//!    `unpin` (Release). The eviction loads that stripe (Acquire) after it, and calls munmap later.
//! 4. *A pin sees another mapping than it looked up*, if the window was evicted and mapped again
//!    between its two steps. It has pinned the new mapping and, by case 2, loads the new address.
//! 5. *Unmapping happens before the next mapping.* `finish_evict` (Release) pairs with
//!    `begin_mapping` (Acquire). The budget of the old mapping is free before the new one needs it.
//! 6. *A window is upgraded to writing.* The writable mapping of a window has its own slot. It is
//!    published while readers pin the read-only mapping, and neither waits for the other.
//! 7. *An eviction that restores READY* (case 1) has shown EVICTING for a moment. It wakes the
//!    threads that began to wait, like every other change.
//! 8. *A pin that is undone* (case 1) may make another eviction see the window as pinned. That
//!    eviction selects another window, and nothing else is affected.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use super::wait_table::WaitTable;
use crate::mapping_cache::stripe::{STRIPES, Stripe};
use crate::mapping_cache::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

// The word: epoch (61 bits) | referenced (1) | state (2).
const STATE: u64 = 0b11;
const EMPTY: u64 = 0;
const MAPPING: u64 = 1;
const READY: u64 = 2;
const EVICTING: u64 = 3;
/// Set by pins: the window was used since the last pass through the LRU list.
const REFERENCED: u64 = 1 << 2;
const ONE_EPOCH: u64 = 1 << 3;
const EPOCH: u64 = !(ONE_EPOCH - 1);

// A stripe: hits (40 bits) | pins (24 bits).
const ONE_PIN: u64 = 1;
const PINS: u64 = (1 << 24) - 1;
/// The limit of pins in a stripe. More than this are leaked guards.
const PINS_MAX: u64 = PINS / 2;
/// Added together with the pin in one step. An overflow is discarded.
const ONE_HIT: u64 = PINS + 1;

/// The address of a mapped window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapping_cache) struct Address {
    pub(in crate::mapping_cache) start: *mut u8,
    /// Mapped bytes, including those past the end of the file in its last page.
    pub(in crate::mapping_cache) len: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::mapping_cache) enum TryPin {
    /// Pinned. [`Slot::unpin`] with the same stripe unpins it.
    Hit(Address),
    Empty,
    /// The mapping is too short or has lost a page. It must be mapped again.
    TooShort,
    /// Another thread maps or unmaps this window.
    Busy,
    /// The pin count is at its limit.
    Exhausted,
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::mapping_cache) enum BeginEvict {
    /// The caller must unmap the window and call [`Slot::finish_evict`].
    Begun,
    Pinned,
    /// The window was used since the last pass. Its mark is cleared.
    Spared,
    Empty,
    Busy,
}

/// The windows that an eviction may select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapping_cache) enum EvictionMode {
    /// Windows that were not used since the last pass.
    SpareReferenced,
    /// All windows without pins.
    Any,
}

#[derive(Debug)]
pub(in crate::mapping_cache) struct Slot {
    word: AtomicU64,
    start: AtomicPtr<u8>,
    len: AtomicUsize,
    /// Whether a bad page of this mapping was replaced by zeros (`sys::sigbus`). The signal handler
    /// sets it while a thread pins the window.
    poisoned: AtomicBool,
    /// Allocated when the window is first mapped.
    pins: OnceLock<Box<[Pins; STRIPES]>>,
}

/// Aligned to two cache lines, since processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Pins(AtomicU64);

impl Slot {
    pub(in crate::mapping_cache) fn new() -> Self {
        let slot = Self {
            word: AtomicU64::new(EMPTY),
            start: AtomicPtr::new(std::ptr::null_mut()),
            len: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
            pins: OnceLock::new(),
        };
        if cfg!(loom) {
            // loom does not model the ordering of OnceLock.
            slot.stripes();
        }
        slot
    }

    /// Pins the window if its mapping has `needed` bytes.
    #[inline(always)]
    pub(in crate::mapping_cache) fn try_pin(&self, stripe: Stripe, needed: usize) -> TryPin {
        // An early load that avoids touching the pins if the window is not mapped, and avoids a
        // pin that delays evictions if the mapping is too short. The load below decides.
        let word = self.word.load(Ordering::Acquire);
        match word & STATE {
            READY if self.len.load(Ordering::Relaxed) < needed => return TryPin::TooShort,
            READY if self.is_poisoned() => return TryPin::TooShort,
            READY => {}
            EMPTY => return TryPin::Empty,
            _ => return TryPin::Busy,
        }
        let Some(stripes) = self.pins.get() else {
            return TryPin::Busy;
        };
        let pins = &stripes[stripe.index()].0;
        // Before the state is loaded. AcqRel: pairs with `begin_evict` (case 1).
        let before = pins.fetch_add(ONE_PIN + ONE_HIT, Ordering::AcqRel);
        // Acquire: pairs with Release in `publish` (case 2).
        let word = self.word.load(Ordering::Acquire);
        let address = self.address();
        if word & STATE == READY && before & PINS < PINS_MAX && address.len >= needed {
            if word & REFERENCED == 0 {
                self.word.fetch_or(REFERENCED, Ordering::Relaxed);
            }
            return TryPin::Hit(address);
        }
        // Relaxed: no memory was accessed under this pin.
        pins.fetch_sub(ONE_PIN + ONE_HIT, Ordering::Relaxed);
        match word & STATE {
            READY if before & PINS >= PINS_MAX => TryPin::Exhausted,
            READY => TryPin::TooShort,
            EMPTY => TryPin::Empty,
            _ => TryPin::Busy,
        }
    }

    /// Removes a pin. Case 3.
    #[inline(always)]
    pub(in crate::mapping_cache) fn unpin(&self, stripe: Stripe) {
        let pins = self.pins.get().expect("a pinned window has stripes");
        // Release: pairs with Acquire in `begin_evict`.
        let before = pins[stripe.index()].0.fetch_sub(ONE_PIN, Ordering::Release);
        assert!(before & PINS > 0, "an unpinned window was pinned before");
    }

    /// Marks an empty window as being mapped by the caller. Returns `false` if it is not empty.
    /// Case 5.
    pub(in crate::mapping_cache) fn begin_mapping(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        // Acquire: pairs with Release in `finish_evict`.
        word & STATE == EMPTY
            && self
                .word
                .compare_exchange(
                    word,
                    word & EPOCH | MAPPING,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Publishes the mapping with one pin for the thread that mapped the window.
    pub(in crate::mapping_cache) fn publish(&self, address: Address, stripe: Stripe) {
        self.start.store(address.start, Ordering::Relaxed);
        self.len.store(address.len, Ordering::Relaxed);
        self.poisoned.store(false, Ordering::Relaxed);
        let pins = self.stripes();
        // Before the state, so that an eviction that changes it finds the pin. Relaxed: the state
        // is released after it.
        pins[stripe.index()].0.fetch_add(ONE_PIN, Ordering::Relaxed);
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        // Release: pairs with Acquire in `try_pin` (case 2).
        self.word
            .store(epoch | READY | REFERENCED, Ordering::Release);
    }

    /// Marks the window as empty after mapping failed.
    pub(in crate::mapping_cache) fn abort_mapping(&self) {
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        self.word.store(epoch | EMPTY, Ordering::Release);
    }

    /// Marks the window as being unmapped by the caller, if it has no pins. Cases 1, 3 and 7.
    pub(in crate::mapping_cache) fn begin_evict(
        &self,
        mode: EvictionMode,
        wait_table: &WaitTable,
    ) -> BeginEvict {
        // Acquire, here and below: pairs with Release in `publish`, which stored the pin and the
        // address before. Restoring READY releases them again.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            match word & STATE {
                READY => {}
                EMPTY => return BeginEvict::Empty,
                _ => return BeginEvict::Busy,
            }
            // Plain loads, which disturb no other thread. The read-modify-write below decides.
            if self.pins() > 0 {
                return BeginEvict::Pinned;
            }
            let spare = mode == EvictionMode::SpareReferenced && word & REFERENCED != 0;
            let next = if spare {
                word & !REFERENCED
            } else {
                word & EPOCH | EVICTING
            };
            match self
                .word
                .compare_exchange(word, next, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) if spare => return BeginEvict::Spared,
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let stripes = self.pins.get().expect("a ready window has stripes");
        // AcqRel: pairs with `try_pin` (case 1) and with `unpin` (case 3). A read-modify-write,
        // since a load could miss a pin that does not see EVICTING either.
        let pinned = stripes
            .iter()
            .any(|stripe| stripe.0.fetch_add(0, Ordering::AcqRel) & PINS > 0);
        if pinned {
            // Release: pairs with Acquire in `try_pin`, and passes on what `publish` released.
            self.word.store(word, Ordering::Release);
            self.wake(wait_table);
            return BeginEvict::Pinned;
        }
        BeginEvict::Begun
    }

    /// Returns whether the window is pinned or was pinned since the last pass. Clears the mark.
    pub(in crate::mapping_cache) fn clear_referenced(&self) -> bool {
        let before = self.word.fetch_and(!REFERENCED, Ordering::Relaxed);
        before & REFERENCED != 0 || self.pins() > 0
    }

    /// Marks the window as empty after it was unmapped. Case 5.
    pub(in crate::mapping_cache) fn finish_evict(&self) {
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        // Release: pairs with Acquire in `begin_mapping`.
        self.word
            .store(epoch.wrapping_add(ONE_EPOCH) | EMPTY, Ordering::Release);
    }

    /// Returns the flag that is set when a page of the mapping is replaced.
    pub(in crate::mapping_cache) fn poison_flag(&self) -> &AtomicBool {
        &self.poisoned
    }

    /// Returns whether a page of this mapping was replaced. Reads may then return zeros, and stores
    /// may be lost. `SeqCst`: the handler sets the flag before it replaces the page.
    #[inline(always)]
    pub(in crate::mapping_cache) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }

    /// Waits until no thread maps or unmaps the window.
    pub(in crate::mapping_cache) fn wait_while_busy(&self, wait_table: &WaitTable) {
        wait_table.wait_while(self.address_of_self(), || self.is_busy());
    }

    /// Wakes the threads that wait for the window. Called after its state has changed.
    pub(in crate::mapping_cache) fn wake(&self, wait_table: &WaitTable) {
        wait_table.wake(self.address_of_self());
    }

    fn address_of_self(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Returns whether a thread maps or unmaps the window.
    pub(in crate::mapping_cache) fn is_busy(&self) -> bool {
        matches!(
            self.word.load(Ordering::Acquire) & STATE,
            MAPPING | EVICTING
        )
    }

    /// Returns the sum of all stripes. It may be outdated while other threads pin and unpin.
    pub(in crate::mapping_cache) fn pins(&self) -> u64 {
        self.counts().map(|count| count & PINS).sum()
    }

    /// Returns how many pins found the window mapped.
    pub(in crate::mapping_cache) fn hits(&self) -> u64 {
        self.counts().map(|count| count / ONE_HIT).sum()
    }

    fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        let stripes = self.pins.get().into_iter().flat_map(|pins| pins.iter());
        stripes.map(|stripe| stripe.0.load(Ordering::Relaxed))
    }

    fn stripes(&self) -> &[Pins; STRIPES] {
        self.pins.get_or_init(|| {
            let none = std::array::from_fn(|_| Pins(AtomicU64::new(0)));
            Box::new(none)
        })
    }

    /// Returns the address of the mapping. It is valid only while the window is pinned.
    #[inline(always)]
    pub(in crate::mapping_cache) fn address(&self) -> Address {
        Address {
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
        }
    }
}

#[cfg(all(loom, test))]
#[path = "window_slot_loom.rs"]
mod window_slot_loom;
