//! One window of one file, as all threads see it: a word of state, the address it guards, and pins
//! counted in stripes, so that threads that pin the same window write to different cache lines.
//!
//! ```text
//!   state     who may change it           to          by
//!   EMPTY     any thread that misses      MAPPING     begin_mapping
//!   MAPPING   the thread that maps        READY, 1 pin   publish
//!             the thread that maps        EMPTY       abandon
//!   READY     any thread                  EVICTING    begin_evict, first half
//!   EVICTING  that thread, if pinned      READY       begin_evict, second half
//!             that thread, once unmapped  EMPTY, epoch + 1   finish_evict
//! ```
//!
//! A pin adds one to its stripe, *then* looks at the state. An eviction changes the state, *then* looks
//! at the stripes. The cases that matter, and why each is right:
//!
//! 1. *Pin meets eviction.* Both do a read-modify-write of the stripe. If the evictor's comes later it
//!    sees the pin, and gives the window back. If the pin's comes later it acquires what the evictor
//!    released there, so it sees EVICTING, or what came after it, and takes its pin off again. The
//!    looks are AcqRel on both sides; nothing rests on sequential consistency.
//! 2. *The address a pin reads is the one it pinned.* `publish` stores the address, then the state
//!    (Release); `try_pin` loads the state (Acquire), then the address. By case 1 nobody unmaps while
//!    the stripe counts the pin, so nobody stores another address.
//! 3. *Nothing is unmapped under a reader.* What a thread did with the memory comes before its `unpin`
//!    (Release); the evictor's look at that stripe (Acquire) comes after it, and munmap after that.
//! 4. *A pin that sees another mapping than the one it came for* (evicted and mapped again between its
//!    two steps) has pinned the new one: by case 2 it reads the new address.
//! 5. *Unmapping comes before the next mapping.* `finish_evict` (Release) pairs with `begin_mapping`
//!    (Acquire): the budget of the old one is back before the new one asks for its own.
//! 6. *Upgrade to writing.* The writable mapping of a window has a slot of its own: it is published
//!    while readers still pin the read-only one, and neither waits for the other.
//! 7. *An eviction that gives back* (case 1) has shown EVICTING for a moment: whoever went to wait for
//!    it is woken, as after every other change.
//! 8. *A pin that is taken off again* (case 1) may make an evictor believe the window pinned. It looks
//!    for another one; nothing is lost but that.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use super::parking::Parking;
use super::stripe::{STRIPES, Stripe};
use super::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

// The word: epoch (61 bits) | referenced (1) | state (2).
const STATE: u64 = 0b11;
const EMPTY: u64 = 0;
const MAPPING: u64 = 1;
const READY: u64 = 2;
const EVICTING: u64 = 3;
/// Set by pins: the window was used since the order of recency last looked at it.
const REFERENCED: u64 = 1 << 2;
const ONE_EPOCH: u64 = 1 << 3;
const EPOCH: u64 = !(ONE_EPOCH - 1);

// A stripe: hits (40 bits) | pins (24 bits).
const ONE_PIN: u64 = 1;
const PINS: u64 = (1 << 24) - 1;
/// So many pins on one window can only be guards that were forgotten.
const PINS_MAX: u64 = PINS / 2;
/// Counted together with the pin, in one step; overflow falls off the end.
const ONE_HIT: u64 = PINS + 1;

/// Where a window lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) start: *mut u8,
    /// Mapped bytes; pages past the end of the file are among them.
    pub(super) len: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum TryPin {
    /// Pinned; to be given back by [`Slot::unpin`] with the same stripe.
    Hit(Address),
    Empty,
    /// Mapped, but not as far as needed, or a page was lost: to be mapped anew.
    TooShort,
    /// Another thread is mapping or unmapping this window.
    Busy,
    /// The count of pins is at its limit.
    Exhausted,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum BeginEvict {
    /// The caller unmaps, then calls [`Slot::finish_evict`].
    Begun,
    Pinned,
    /// Used since the last look; the mark is taken off.
    Spared,
    Empty,
    Busy,
}

/// Does recent use protect a window from this eviction?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mercy {
    SpareReferenced,
    None,
}

#[derive(Debug)]
pub(super) struct Slot {
    word: AtomicU64,
    start: AtomicPtr<u8>,
    len: AtomicUsize,
    /// A page of this mapping was bad and was replaced by zeros (`sys::sigbus`). Set by a signal handler,
    /// while somebody pins the window.
    poisoned: AtomicBool,
    /// Made when the window is first mapped.
    pins: OnceLock<Box<[Pins; STRIPES]>>,
}

/// Two cache lines: the processor fetches them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Pins(AtomicU64);

impl Slot {
    pub(super) fn new() -> Self {
        let slot = Self {
            word: AtomicU64::new(EMPTY),
            start: AtomicPtr::new(std::ptr::null_mut()),
            len: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
            pins: OnceLock::new(),
        };
        if cfg!(loom) {
            // loom does not see what OnceLock orders.
            slot.stripes();
        }
        slot
    }

    /// Pins the window if it is mapped as far as `needed` bytes.
    #[inline(always)]
    pub(super) fn try_pin(&self, stripe: Stripe, needed: usize) -> TryPin {
        // A first look, which spares the cache line of the pins when the window is not mapped, and a
        // pin that evictors would stumble over when it is too short. It decides nothing else.
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
        // Before the look at the state. AcqRel: pairs with the look of `begin_evict` (case 1).
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
        // Relaxed: nothing was done under this pin.
        pins.fetch_sub(ONE_PIN + ONE_HIT, Ordering::Relaxed);
        match word & STATE {
            READY if before & PINS >= PINS_MAX => TryPin::Exhausted,
            READY => TryPin::TooShort,
            EMPTY => TryPin::Empty,
            _ => TryPin::Busy,
        }
    }

    /// Gives a pin back. Case 3.
    #[inline(always)]
    pub(super) fn unpin(&self, stripe: Stripe) {
        let pins = self.pins.get().expect("pinned windows have pins");
        // Release: pairs with Acquire in the look of `begin_evict`.
        let before = pins[stripe.index()].0.fetch_sub(ONE_PIN, Ordering::Release);
        assert!(
            before & PINS > 0,
            "a window was unpinned more often than pinned"
        );
    }

    /// Takes the duty to map an empty window. Case 5.
    pub(super) fn begin_mapping(&self) -> bool {
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

    /// Makes the window ready, with one pin for the thread that mapped it.
    pub(super) fn publish(&self, address: Address, stripe: Stripe) {
        self.start.store(address.start, Ordering::Relaxed);
        self.len.store(address.len, Ordering::Relaxed);
        self.poisoned.store(false, Ordering::Relaxed);
        let pins = self.stripes();
        // Before the state, so that an evictor that changes it finds the pin. Relaxed: the state is
        // released after it.
        pins[stripe.index()].0.fetch_add(ONE_PIN, Ordering::Relaxed);
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        // Release: pairs with Acquire in `try_pin` (case 2).
        self.word
            .store(epoch | READY | REFERENCED, Ordering::Release);
    }

    /// Gives the duty to map back: it could not be done.
    pub(super) fn abandon(&self) {
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        self.word.store(epoch | EMPTY, Ordering::Release);
    }

    /// Takes the duty to unmap the window, if nobody pins it. Case 1, 3, 7.
    pub(super) fn begin_evict(&self, mercy: Mercy, parking: &Parking) -> BeginEvict {
        // Acquire, here and below: pairs with Release in `publish`, whose pin and address come with
        // it; the address is handed on when the window is given back.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            match word & STATE {
                READY => {}
                EMPTY => return BeginEvict::Empty,
                _ => return BeginEvict::Busy,
            }
            // A look that disturbs nobody; the one that counts comes below.
            if self.pins() > 0 {
                return BeginEvict::Pinned;
            }
            let spare = mercy == Mercy::SpareReferenced && word & REFERENCED != 0;
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
        let stripes = self.pins.get().expect("ready windows have pins");
        // AcqRel: pairs with `try_pin` (case 1) and with `unpin` (case 3). A read-modify-write, as a
        // load could miss a pin that will not see EVICTING either.
        let pinned = stripes
            .iter()
            .any(|stripe| stripe.0.fetch_add(0, Ordering::AcqRel) & PINS > 0);
        if pinned {
            // Release: pairs with Acquire in `try_pin`, handing on what `publish` released.
            self.word.store(word, Ordering::Release);
            parking.wake(self);
            return BeginEvict::Pinned;
        }
        BeginEvict::Begun
    }

    /// Was the window pinned since the last look, or is it now? Takes the mark off.
    pub(super) fn take_referenced(&self) -> bool {
        let before = self.word.fetch_and(!REFERENCED, Ordering::Relaxed);
        before & REFERENCED != 0 || self.pins() > 0
    }

    /// The window is unmapped. Case 5.
    pub(super) fn finish_evict(&self) {
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        // Release: pairs with Acquire in `begin_mapping`.
        self.word
            .store(epoch.wrapping_add(ONE_EPOCH) | EMPTY, Ordering::Release);
    }

    /// Set when a page of the mapping had to be replaced.
    pub(super) fn poison_flag(&self) -> &AtomicBool {
        &self.poisoned
    }

    /// Was a page of this mapping replaced? Then what is read through it may be zeros, and what was
    /// stored may be gone. SeqCst: the handler sets it so before it replaces the page.
    #[inline(always)]
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }

    /// Is another thread mapping or unmapping?
    pub(super) fn is_busy(&self) -> bool {
        matches!(
            self.word.load(Ordering::Acquire) & STATE,
            MAPPING | EVICTING
        )
    }

    /// Pins of all stripes, one after the other: a hint while others pin and unpin.
    pub(super) fn pins(&self) -> u64 {
        self.counts().map(|count| count & PINS).sum()
    }

    /// How often the window was found mapped by who pinned it.
    pub(super) fn hits(&self) -> u64 {
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

    /// Where the window lies; means something only while it is pinned.
    #[inline(always)]
    pub(super) fn address(&self) -> Address {
        Address {
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
        }
    }
}

#[cfg(all(loom, test))]
#[path = "slot_loom.rs"]
mod slot_loom;
