//! One window of one file, as all threads see it: a single atomic word and the address it guards.
//!
//! ```text
//!   state     who may change it           to          by
//!   EMPTY     any thread that misses      MAPPING     begin_mapping
//!   MAPPING   the thread that maps        READY, 1 pin   publish
//!             the thread that maps        EMPTY       abandon
//!   READY     any thread                  READY +-1   try_pin, unpin
//!             any thread, no pins         EVICTING    begin_evict
//!   EVICTING  the thread that unmaps      EMPTY, epoch + 1   finish_evict
//! ```
//!
//! The cases that matter, and why each is right:
//!
//! 1. *Pin meets eviction.* Both are a compare-and-swap of the same word: one fails and looks again.
//!    A pin never succeeds on EVICTING, an eviction never on a word with pins.
//! 2. *The address a pin reads is the one it pinned.* `publish` stores the address, then the word
//!    (Release); `try_pin` swaps the word (Acquire), then loads the address. While pins > 0 nobody
//!    leaves READY, so nobody stores another address.
//! 3. *Nothing is unmapped under a reader.* What a thread did with the memory comes before its
//!    `unpin` (Release); `begin_evict` (Acquire) reads that word, so munmap comes after it. Later
//!    pins and unpins are read-modify-writes and carry the release sequence on.
//! 4. *A late evictor meets a younger mapping.* The word carries an epoch: a compare-and-swap with a
//!    word seen before an eviction fails after it, even when state and pins are the same again.
//! 5. *Unmapping comes before the next mapping.* `finish_evict` (Release) pairs with `begin_mapping`
//!    (Acquire): the budget of the old one is back before the new one asks for its own.
//! 6. *Upgrade to writing.* The writable mapping of a window has a slot of its own: it is published
//!    while readers still pin the read-only one, and neither waits for the other.

use super::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

// The word: epoch (29 bits) | referenced (1) | state (2) | pins (32).
const ONE_PIN: u64 = 1;
const PINS: u64 = 0xFFFF_FFFF;
const STATE: u64 = 0b11 << 32;
const EMPTY: u64 = 0;
const MAPPING: u64 = 1 << 32;
const READY: u64 = 2 << 32;
const EVICTING: u64 = 3 << 32;
/// Set by every pin: the window was used since the order of recency last looked at it.
const REFERENCED: u64 = 1 << 34;
const ONE_EPOCH: u64 = 1 << 35;
const EPOCH: u64 = !(ONE_EPOCH - 1);
/// So many pins on one window can only be guards that were forgotten.
const PINS_MAX: u64 = PINS / 2;

/// Where a window lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) start: *mut u8,
    /// Mapped bytes; pages past the end of the file are among them.
    pub(super) len: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum TryPin {
    /// Pinned; to be given back by [`Slot::unpin`].
    Hit(Address),
    Empty,
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
}

impl Slot {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(EMPTY),
            start: AtomicPtr::new(std::ptr::null_mut()),
            len: AtomicUsize::new(0),
        }
    }

    /// Pins the window if it is mapped. Case 1, 2.
    pub(super) fn try_pin(&self) -> TryPin {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            match word & STATE {
                READY if word & PINS == PINS_MAX => return TryPin::Exhausted,
                READY => {}
                EMPTY => return TryPin::Empty,
                _ => return TryPin::Busy,
            }
            let pinned = (word | REFERENCED) + ONE_PIN;
            // Acquire: pairs with Release in `publish` (case 2).
            match self.word.compare_exchange_weak(
                word,
                pinned,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return TryPin::Hit(self.address()),
                Err(now) => word = now,
            }
        }
    }

    /// Gives a pin back. Case 3.
    pub(super) fn unpin(&self) {
        // Release: pairs with Acquire in `begin_evict`.
        let before = self.word.fetch_sub(ONE_PIN, Ordering::Release);
        assert!(
            before & STATE == READY && before & PINS > 0,
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
    pub(super) fn publish(&self, address: Address) {
        self.start.store(address.start, Ordering::Relaxed);
        self.len.store(address.len, Ordering::Relaxed);
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        // Release: pairs with Acquire in `try_pin`.
        self.word
            .store(epoch | READY | REFERENCED | ONE_PIN, Ordering::Release);
    }

    /// Gives the duty to map back: it could not be done.
    pub(super) fn abandon(&self) {
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        self.word.store(epoch | EMPTY, Ordering::Release);
    }

    /// Takes the duty to unmap the window, if nobody pins it. Case 1, 3, 4.
    pub(super) fn begin_evict(&self, mercy: Mercy) -> BeginEvict {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            match word & STATE {
                READY if word & PINS > 0 => return BeginEvict::Pinned,
                READY => {}
                EMPTY => return BeginEvict::Empty,
                _ => return BeginEvict::Busy,
            }
            let spare = mercy == Mercy::SpareReferenced && word & REFERENCED != 0;
            let next = if spare {
                word & !REFERENCED
            } else {
                word & EPOCH | EVICTING
            };
            // Acquire: pairs with Release in `unpin` (case 3).
            match self
                .word
                .compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) if spare => return BeginEvict::Spared,
                Ok(_) => return BeginEvict::Begun,
                Err(now) => word = now,
            }
        }
    }

    /// Was the window pinned since the last look, or is it now? Takes the mark off.
    pub(super) fn take_referenced(&self) -> bool {
        let before = self.word.fetch_and(!REFERENCED, Ordering::Relaxed);
        before & REFERENCED != 0 || before & PINS > 0
    }

    /// The window is unmapped. Case 4, 5.
    pub(super) fn finish_evict(&self) {
        let epoch = self.word.load(Ordering::Relaxed) & EPOCH;
        // Release: pairs with Acquire in `begin_mapping`.
        self.word
            .store(epoch.wrapping_add(ONE_EPOCH) | EMPTY, Ordering::Release);
    }

    /// Is another thread mapping or unmapping?
    pub(super) fn is_busy(&self) -> bool {
        matches!(
            self.word.load(Ordering::Acquire) & STATE,
            MAPPING | EVICTING
        )
    }

    pub(super) fn pins(&self) -> u64 {
        self.word.load(Ordering::Relaxed) & PINS
    }

    fn address(&self) -> Address {
        Address {
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
        }
    }
}

#[cfg(all(loom, test))]
#[path = "slot_loom.rs"]
mod slot_loom;
