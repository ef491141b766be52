//! The slot of one window: one word with its state and the pin block of its mapping.
//!
//! ```text
//!   state         changed by                     to              in
//!   EMPTY         any thread that misses         MAPPING         begin_mapping
//!   MAPPING       the mapping thread             READY, 1 pin    publish
//!                 the mapping thread             EMPTY           abort_mapping
//!   READY b       any thread                     EVICTING b      begin_evict, first half
//!                 any thread                     REPLACING b     begin_replacing
//!   EVICTING b    the same thread, if pinned     READY b         begin_evict, second half
//!                 the same thread, when unmapped EMPTY           finish_evict
//!   REPLACING b   the same thread                READY c, 1 pin  publish; the caller retires b
//!                 the same thread                READY b         abort_mapping
//! ```
//!
//! READY and REPLACING can be pinned. A pin loads the word, adds one to a stripe of the block, and
//! *then* loads the word again. An eviction changes the word and *then* loads the stripes. The
//! following cases matter:
//!
//! 1. *A pin meets an eviction.* Both do a read-modify-write of the stripe. If that of the eviction
//!    is later, the eviction sees the pin and restores READY. If that of the pin is later, it
//!    acquires what the eviction released. It then sees EVICTING or a later state and undoes the
//!    pin. Both use `AcqRel`. No step relies on sequential consistency.
//! 2. *A pin loads the address of the mapping that it pinned.* The address is stored in the block,
//!    then `publish` stores the word (Release). `try_pin` loads the word (Acquire), then the
//!    address. By case 1, no thread unmaps the window while the stripe counts the pin. So the block
//!    gets no other address.
//! 3. *No memory is unmapped while a reader uses it.* The accesses of a thread happen before its
//!    `unpin` (Release). The eviction does a read-modify-write of that stripe (Acquire) after it,
//!    and calls munmap later.
//! 4. *A pin loads the word before an eviction and adds to the block after it.* The block may
//!    belong to another mapping by then. If the slot has the same block again, the pin has pinned
//!    the new mapping and, by case 2, loads the new address. If not, the pin is undone.
//! 5. *Unmapping happens before the next mapping.* `finish_evict` (Release) pairs with
//!    `begin_mapping` (Acquire). The budget of the old mapping is free before the new one needs it.
//! 6. *A window is upgraded to writing.* The writable mapping of a window has its own slot. It is
//!    published while readers pin the read-only mapping, and neither waits for the other.
//! 7. *An eviction that restores READY* (case 1) has shown EVICTING for a moment. It wakes the
//!    threads that began to wait, like every other change.
//! 8. *A pin that is undone* (cases 1 and 4) may make an eviction see a window as pinned. In case
//!    4, it is a window that the thread did not ask for. The budget selects another window. A call
//!    that shortens or closes the file tries again (`FileState::evict_windows_patiently`).
//! 9. *A pinned mapping is replaced*, since it is too short or has lost a page. While it is in
//!    REPLACING, other threads still pin it, and no thread evicts it. From `publish` on, no slot
//!    names block b. Its owner then does a read-modify-write of the stripes of b. By case 1 with
//!    READY c in the place of EVICTING, later pins of b are undone. So b can be unmapped when it
//!    has no pins, which its last unpin reports (`pin_block`).
//! 10. *An eviction meets a replacement.* The owner of a mapping names its block to `begin_evict`.
//!     After `publish` the slot has another block, and the eviction does not begin.

use super::pin_block::{Address, BlockId, PinBlock};
use super::pin_pool::PinPool;
use super::wait_table::WaitTable;
use crate::mapping_cache::stripe::Stripe;
use crate::mapping_cache::sync::{AtomicU64, Ordering};

// The word: block (32 bits) | state (3 bits).
const STATE: u64 = 0b111;
const STATE_BITS: u32 = 3;
const EMPTY: u64 = 0;
const MAPPING: u64 = 1;
/// The bit that READY and REPLACING have in common.
const PINNABLE: u64 = 0b010;
const READY: u64 = 0b010;
const REPLACING: u64 = 0b011;
const EVICTING: u64 = 0b100;

/// The result of an attempt to pin a window.
///
/// All payloads start with a pointer, and so the value stays in registers. Beside a smaller payload
/// the tag would be one byte, and the value would be stored in memory (docs/benchmarks.md).
#[derive(Debug)]
pub(in crate::mapping_cache) enum TryPin<'a> {
    /// Pinned. [`PinBlock::unpin`] with the same stripe unpins it.
    Hit(&'a PinBlock, Address),
    Empty,
    /// The mapping of this block is too short or has lost a page. The window must be mapped again.
    TooShort(&'a PinBlock),
    /// Another thread maps or unmaps this window.
    Busy,
    /// Another thread changed the slot. The mapping of this block was pinned, and the pin was
    /// undone. The caller does the same as after an unpin.
    Undone(&'a PinBlock),
    /// The same, since the pin count is at its limit.
    Exhausted(&'a PinBlock),
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::mapping_cache) enum BeginEvict {
    /// The caller must unmap the mapping of this block and call [`Slot::finish_evict`].
    Begun(BlockId),
    Pinned,
    /// The window was used since the last pass. Its mark is cleared.
    Spared,
    Empty,
    /// Another thread maps, unmaps or has replaced the mapping.
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
}

fn word_of(block: BlockId, state: u64) -> u64 {
    u64::from(block.bits()) << STATE_BITS | state
}

/// Returns the block in a word. EMPTY and MAPPING have none.
#[inline(always)]
fn block_in(word: u64) -> Option<BlockId> {
    // Lossless: a block has 32 bits.
    BlockId::from_bits((word >> STATE_BITS) as u32)
}

impl Slot {
    pub(in crate::mapping_cache) fn new() -> Self {
        Self {
            word: AtomicU64::new(EMPTY),
        }
    }

    /// Pins the window if its mapping has `needed` bytes.
    #[inline(always)]
    pub(in crate::mapping_cache) fn try_pin<'a>(
        &self,
        pool: &'a PinPool,
        stripe: Stripe,
        needed: usize,
    ) -> TryPin<'a> {
        // Acquire: pairs with Release in `publish`, so that the chunk of the block is seen.
        let before = self.word.load(Ordering::Acquire);
        if before & PINNABLE == 0 {
            return match before & STATE {
                EMPTY => TryPin::Empty,
                _ => TryPin::Busy,
            };
        }
        let Some(id) = block_in(before) else {
            return TryPin::Busy;
        };
        let block = pool.get(id);
        // Early loads that avoid a pin if the mapping is too short. The load below decides.
        if block.address().len < needed || block.is_poisoned() {
            return match before & STATE {
                READY => TryPin::TooShort(block),
                _ => TryPin::Busy,
            };
        }
        // Before the word is loaded (case 1).
        let added = block.add_pin(stripe);
        // Acquire: pairs with Release in `publish` (case 2).
        let now = self.word.load(Ordering::Acquire);
        // READY and REPLACING with the same block are alike (case 9).
        let is_same = (now ^ before) & !(READY ^ REPLACING) == 0;
        let address = block.address();
        if is_same && address.len >= needed && !added.is_too_many() {
            block.note_use();
            return TryPin::Hit(block, address);
        }
        // No memory was accessed under this pin.
        block.undo_pin(stripe);
        // The slot may have got a shorter mapping with the same block, which the next attempt sees.
        if is_same && added.is_too_many() {
            TryPin::Exhausted(block)
        } else {
            TryPin::Undone(block)
        }
    }

    /// Marks an empty window as being mapped by the caller. Returns `false` if it is not empty.
    /// Case 5.
    pub(in crate::mapping_cache) fn begin_mapping(&self) -> bool {
        // Acquire: pairs with Release in `finish_evict`.
        self.exchange(EMPTY, MAPPING, Ordering::Acquire)
    }

    /// Marks a mapped window as being mapped again by the caller. Returns `false` if its mapping is
    /// not that of `block` or changes. Case 9.
    pub(in crate::mapping_cache) fn begin_replacing(&self, block: BlockId) -> bool {
        let ready = word_of(block, READY);
        // Acquire: the mapping was published before.
        self.exchange(ready, word_of(block, REPLACING), Ordering::Acquire)
    }

    fn exchange(&self, before: u64, after: u64, success: Ordering) -> bool {
        self.word
            .compare_exchange(before, after, success, Ordering::Relaxed)
            .is_ok()
    }

    /// Publishes the mapping of a block with one pin for the thread that mapped the window. Returns
    /// the block of the mapping that it replaced, which the caller retires (case 9).
    pub(in crate::mapping_cache) fn publish(
        &self,
        block: &PinBlock,
        stripe: Stripe,
    ) -> Option<BlockId> {
        // Before the state, so that an eviction that changes it finds the pin.
        block.add_first_pin(stripe);
        // Relaxed: no other thread changes the word meanwhile.
        let before = self.word.load(Ordering::Relaxed);
        // Release: pairs with Acquire in `try_pin` (case 2).
        self.word
            .store(word_of(block.id(), READY), Ordering::Release);
        block_in(before)
    }

    /// Restores the state before mapping began, after it failed.
    pub(in crate::mapping_cache) fn abort_mapping(&self) {
        // Relaxed: no other thread changes the word meanwhile.
        let word = match block_in(self.word.load(Ordering::Relaxed)) {
            Some(block) => word_of(block, READY),
            None => EMPTY,
        };
        self.word.store(word, Ordering::Release);
    }

    /// Marks the window as being unmapped by the caller, if it has no pins. Cases 1, 3 and 7. With
    /// an `owned` block, no other mapping of the window is evicted (case 10).
    pub(in crate::mapping_cache) fn begin_evict(
        &self,
        pool: &PinPool,
        owned: Option<BlockId>,
        mode: EvictionMode,
        wait_table: &WaitTable,
    ) -> BeginEvict {
        // Acquire, here and below: pairs with Release in `publish`, which stored the pin and the
        // address before. Restoring READY releases them again.
        let word = self.word.load(Ordering::Acquire);
        let block = match (word & STATE, block_in(word)) {
            (EMPTY, _) => return BeginEvict::Empty,
            (READY, Some(block)) if owned.is_none_or(|owned| owned == block) => block,
            _ => return BeginEvict::Busy,
        };
        let pins = pool.get(block);
        // Plain loads, which disturb no other thread. The read-modify-write below decides.
        if pins.pins() > 0 {
            return BeginEvict::Pinned;
        }
        if mode == EvictionMode::SpareReferenced && pins.clear_referenced() {
            return BeginEvict::Spared;
        }
        if !self.exchange(word, word_of(block, EVICTING), Ordering::Acquire) {
            return BeginEvict::Busy;
        }
        if pins.is_pinned() {
            // Release: pairs with Acquire in `try_pin`, and passes on what `publish` released.
            self.word.store(word, Ordering::Release);
            self.wake(wait_table);
            return BeginEvict::Pinned;
        }
        BeginEvict::Begun(block)
    }

    /// Marks the window as empty after it was unmapped. Case 5.
    pub(in crate::mapping_cache) fn finish_evict(&self) {
        // Release: pairs with Acquire in `begin_mapping`.
        self.word.store(EMPTY, Ordering::Release);
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

    pub(in crate::mapping_cache) fn is_empty(&self) -> bool {
        self.word.load(Ordering::Acquire) == EMPTY
    }

    /// Returns whether a thread maps or unmaps the window.
    pub(in crate::mapping_cache) fn is_busy(&self) -> bool {
        !matches!(self.word.load(Ordering::Acquire) & STATE, EMPTY | READY)
    }
}

#[cfg(all(loom, test))]
#[path = "window_slot_loom.rs"]
mod window_slot_loom;
