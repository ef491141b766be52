//! The pins of one mapping, with its address.
//!
//! Pins are counted in stripes, so that threads that pin the same window write to different cache
//! lines.
//!
//! A block belongs to one mapping from [`PinPool::allocate`](super::pin_pool::PinPool::allocate)
//! until the mapping is unmapped. Blocks are never freed, so a thread with an outdated slot may add
//! a pin to the block of another mapping. It notices that and undoes the pin (`window_slot`,
//! case 1).
//!
//! # Mappings that are set aside
//!
//! The budget sets a pinned mapping aside: it leaves the LRU list, and its last unpin must report
//! it. [`PinBlock::set_aside`] stores the mark, raises [`Attention`], and *then* does a
//! read-modify-write of every stripe. An unpin does a read-modify-write of its stripe and *then*
//! loads the attention and the mark. If it is marked, the unpin does a read-modify-write of every
//! stripe. If all are zero, it reports the mapping to the budget.
//!
//! 1. *No pin is left when the mapping is marked, or its unpin sees the mark.* If the unpin changes
//!    its stripe later than `set_aside`, it acquires the mark. If earlier, `set_aside` sees zero in
//!    that stripe.
//! 2. *A last unpin reports the mapping.* Let an unpin that saw the mark find another stripe
//!    pinned. The unpin of that pin changes its stripe later, so it acquires the mark too, and
//!    looks at all stripes after the first one. This chain ends with an unpin that finds zeros.
//! 3. *A pin that is undone* counts as a pin. Undoing it is an unpin with all of these steps.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicBool;

use crate::mapping_cache::stripe::{STRIPES, Stripe};
use crate::mapping_cache::sync::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

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

/// Number of a block in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::mapping_cache) struct BlockId(NonZeroU32);

/// Bits of the index in a chunk. The bits above are the number of the chunk, which is not zero.
const INDEX_BITS: u32 = 26;
/// One more than the largest number of a chunk.
pub(super) const CHUNKS: usize = 1 << (u32::BITS - INDEX_BITS);
pub(super) const CHUNK_BLOCKS_MAX: usize = 1 << INDEX_BITS;

impl BlockId {
    pub(in crate::mapping_cache) const MIN: Self = Self(NonZeroU32::MIN);
    pub(in crate::mapping_cache) const MAX: Self = Self(NonZeroU32::MAX);

    /// Returns the id of a block, or `None` if a number is too large.
    pub(super) fn new(chunk: usize, index: usize) -> Option<Self> {
        if chunk >= CHUNKS || index >= CHUNK_BLOCKS_MAX {
            return None;
        }
        // Lossless: checked above.
        Self::from_bits((chunk as u32) << INDEX_BITS | index as u32)
    }

    #[inline(always)]
    pub(super) fn from_bits(bits: u32) -> Option<Self> {
        NonZeroU32::new(bits).map(Self)
    }

    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0.get()
    }

    /// Less than `CHUNKS`.
    #[inline(always)]
    pub(super) fn chunk(self) -> usize {
        (self.bits() >> INDEX_BITS) as usize
    }

    #[inline(always)]
    pub(super) fn index(self) -> usize {
        (self.bits() & ((1 << INDEX_BITS) - 1)) as usize
    }
}

/// What unpins have to do beside unpinning. The budget changes it under its lock.
///
/// It is one cache line that is seldom written, and every unpin loads it.
#[derive(Debug)]
#[repr(align(128))]
pub(in crate::mapping_cache) struct Attention(AtomicU32);

/// More is mapped than the budget permits. The next unpin unmaps its window.
const EXCEEDED: u32 = 1;
/// At least one mapping is set aside.
const SET_ASIDE: u32 = 2;

impl Attention {
    pub(in crate::mapping_cache) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline(always)]
    pub(in crate::mapping_cache) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.0.load(Ordering::Relaxed) & EXCEEDED != 0
    }

    pub(super) fn store(&self, exceeded: bool, set_aside: bool) {
        let bits = if exceeded { EXCEEDED } else { 0 } | if set_aside { SET_ASIDE } else { 0 };
        // Not stored in vain, since that takes the line from other processors.
        if self.0.load(Ordering::Relaxed) != bits {
            self.0.store(bits, Ordering::Relaxed);
        }
    }

    fn raise_set_aside(&self) {
        let bits = self.0.load(Ordering::Relaxed);
        self.0.store(bits | SET_ASIDE, Ordering::Relaxed);
    }
}

/// The pins of one mapping, with its address.
#[derive(Debug)]
#[repr(align(128))]
pub(in crate::mapping_cache) struct PinBlock {
    id: BlockId,
    start: AtomicPtr<u8>,
    len: AtomicUsize,
    /// Whether a bad page of this mapping was replaced by zeros (`sys::sigbus`). The signal handler
    /// sets it while a thread pins the window.
    poisoned: AtomicBool,
    /// Set by pins: the mapping was used since the last pass through the LRU list.
    referenced: AtomicBool,
    set_aside: AtomicU32,
    pins: [Pins; STRIPES],
}

/// Aligned to two cache lines, since processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Pins(AtomicU64);

/// A pin that was added and is not yet known to be of the right mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddedPin {
    before: u64,
}

impl AddedPin {
    /// Returns whether the pin exceeds the limit of its stripe.
    #[inline(always)]
    pub(super) fn is_too_many(self) -> bool {
        self.before & PINS >= PINS_MAX
    }
}

impl PinBlock {
    pub(super) fn new(id: BlockId) -> Self {
        Self {
            id,
            start: AtomicPtr::new(std::ptr::null_mut()),
            len: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
            referenced: AtomicBool::new(false),
            set_aside: AtomicU32::new(0),
            pins: std::array::from_fn(|_| Pins(AtomicU64::new(0))),
        }
    }

    #[inline(always)]
    pub(in crate::mapping_cache) fn id(&self) -> BlockId {
        self.id
    }

    /// Prepares the block for a new mapping. The caller has allocated it.
    pub(in crate::mapping_cache) fn set_address(&self, address: Address) {
        // Relaxed: `Slot::publish` releases them.
        self.start.store(address.start, Ordering::Relaxed);
        self.len.store(address.len, Ordering::Relaxed);
        self.poisoned.store(false, Ordering::Relaxed);
        self.referenced.store(true, Ordering::Relaxed);
        self.set_aside.store(0, Ordering::Relaxed);
    }

    /// Returns the address of the mapping. It is valid only while the mapping is pinned.
    #[inline(always)]
    pub(in crate::mapping_cache) fn address(&self) -> Address {
        Address {
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
        }
    }

    /// Adds a pin and counts a hit. `AcqRel`: pairs with [`is_pinned`](Self::is_pinned).
    #[inline(always)]
    pub(super) fn add_pin(&self, stripe: Stripe) -> AddedPin {
        let pins = &self.pins[stripe.index()].0;
        let before = pins.fetch_add(ONE_PIN + ONE_HIT, Ordering::AcqRel);
        AddedPin { before }
    }

    /// Adds the first pin, of the thread that mapped the window. `Slot::publish` releases it.
    pub(super) fn add_first_pin(&self, stripe: Stripe) {
        self.pins[stripe.index()]
            .0
            .fetch_add(ONE_PIN, Ordering::Relaxed);
    }

    /// Undoes [`add_pin`](Self::add_pin). The caller then does the same as after an unpin.
    pub(super) fn undo_pin(&self, stripe: Stripe) {
        let pins = &self.pins[stripe.index()].0;
        pins.fetch_sub(ONE_PIN + ONE_HIT, Ordering::AcqRel);
    }

    /// Removes a pin. If [`Attention`] is raised, the caller then calls `Budget::after_unpin`.
    ///
    /// `Release`: the accesses to the mapping happen before it is unmapped. `Acquire`: the mark of
    /// a mapping that is set aside is seen.
    #[inline(always)]
    pub(in crate::mapping_cache) fn unpin(&self, stripe: Stripe) {
        let pins = &self.pins[stripe.index()].0;
        let before = pins.fetch_sub(ONE_PIN, Ordering::AcqRel);
        assert!(before & PINS > 0, "an unpinned window was pinned before");
    }

    /// Returns whether the mapping is pinned, by a read-modify-write of every stripe. A load could
    /// miss a pin of a thread that does not see the change made before this call either.
    pub(in crate::mapping_cache) fn is_pinned(&self) -> bool {
        let pins = self.pins.iter();
        // All stripes, also after one with pins (module documentation, case 1).
        pins.map(|stripe| stripe.0.fetch_add(0, Ordering::AcqRel) & PINS)
            .fold(0, u64::saturating_add)
            > 0
    }

    /// Returns the sum of all stripes. It may be outdated while other threads pin and unpin.
    pub(in crate::mapping_cache) fn pins(&self) -> u64 {
        self.counts().map(|count| count & PINS).sum()
    }

    /// Returns how many pins found their window mapped, in all mappings that had this block.
    pub(super) fn hits(&self) -> u64 {
        self.counts().map(|count| count / ONE_HIT).sum()
    }

    fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        let pins = self.pins.iter();
        pins.map(|stripe| stripe.0.load(Ordering::Relaxed))
    }

    /// Marks the mapping as set aside if it is pinned, and returns whether it is. Called under the
    /// lock of the budget.
    pub(super) fn set_aside(&self, attention: &Attention) -> bool {
        // Relaxed: the read-modify-writes release it.
        self.set_aside.store(1, Ordering::Relaxed);
        attention.raise_set_aside();
        let is_pinned = self.is_pinned();
        if !is_pinned {
            self.clear_set_aside();
        }
        is_pinned
    }

    pub(super) fn clear_set_aside(&self) {
        self.set_aside.store(0, Ordering::Relaxed);
    }

    pub(super) fn is_set_aside(&self) -> bool {
        self.set_aside.load(Ordering::Relaxed) != 0
    }

    #[inline(always)]
    pub(super) fn note_use(&self) {
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the mapping was used since the last pass. Clears the mark.
    pub(super) fn clear_referenced(&self) -> bool {
        self.referenced.load(Ordering::Relaxed) && self.referenced.swap(false, Ordering::Relaxed)
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
}
