//! The slot protocol under loom: all interleavings, and all values that a relaxed load may return.
//!
//! A `loom::cell::UnsafeCell` models the memory of a window. Loom reports a race if one thread
//! reads the cell under a pin and another "unmaps" it without an ordering between them.
//!
//! # Safety
//!
//! The cells are dereferenced through loom's pointers. Loom fails the test if two threads do so
//! without an ordering between them and one of them writes, which is the property under test.
#![expect(unsafe_code, reason = "loom's cells give out pointers")]

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::super::pin_block::Attention;
use super::super::wait_table::WaitTable;
use super::*;

const BYTE: u8 = 7;
/// Addresses of two generations of the mapping. Only their difference matters.
const FIRST: usize = 0x1000;
const SECOND: usize = 0x2000;

struct Window {
    slot: Slot,
    /// Another window, which may get a block after `slot` has lost it.
    other: Slot,
    pool: PinPool,
    wait_table: WaitTable,
    attention: Attention,
    /// The mapping that is set aside, as in the list of the budget.
    set_aside: Mutex<Option<BlockId>>,
    /// Memory at `FIRST` and at `SECOND`.
    memory: [UnsafeCell<u8>; 2],
}

impl Window {
    fn empty() -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::new(),
            other: Slot::new(),
            pool: PinPool::new(),
            wait_table: WaitTable::new(),
            attention: Attention::new(),
            set_aside: Mutex::new(None),
            memory: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    fn at(&self, address: Address) -> &UnsafeCell<u8> {
        match address.start.addr() {
            FIRST => &self.memory[0],
            SECOND => &self.memory[1],
            other => panic!("pinned at {other:#x}, which was never mapped"),
        }
    }

    fn map(&self, start: usize, stripe: Stripe) -> Option<BlockId> {
        let address = Address {
            start: std::ptr::without_provenance_mut(start),
            len: 1,
        };
        // SAFETY: loom checks that no other thread accesses the cell.
        self.at(address).with_mut(|byte| unsafe { *byte = BYTE });
        let block = self.pool.allocate(address);
        let replaced = self.slot.publish(block, stripe);
        self.slot.wake(&self.wait_table);
        replaced
    }

    fn clear_memory(&self, start: usize) {
        let memory = &self.memory[(start - FIRST) / (SECOND - FIRST)];
        // SAFETY: loom checks that no other thread accesses the cell.
        memory.with_mut(|byte| unsafe { *byte = 0 });
    }

    fn unmap(&self, start: usize, block: BlockId) {
        self.clear_memory(start);
        self.slot.finish_evict();
        self.slot.wake(&self.wait_table);
        self.pool.release(block);
    }

    fn mapped() -> Arc<Self> {
        let window = Self::empty();
        assert!(window.slot.begin_mapping());
        window.map(FIRST, main_stripe());
        window.unpin(main_stripe());
        window
    }

    /// Pins the window if it is mapped and does what follows a pin that was undone.
    fn pin(&self, stripe: Stripe) -> Option<(&PinBlock, Address)> {
        match self.slot.try_pin(&self.pool, stripe, 1) {
            TryPin::Hit(block, address) => Some((block, address)),
            TryPin::Undone(block) | TryPin::Exhausted(block) => {
                self.after_unpin(block);
                None
            }
            TryPin::Empty | TryPin::TooShort(_) | TryPin::Busy => None,
        }
    }

    /// Removes a pin of the mapping that the slot names.
    fn unpin(&self, stripe: Stripe) {
        let block = block_in(self.slot.word.load(Ordering::Relaxed));
        self.pool.get(block.expect("a mapping")).unpin(stripe);
    }

    fn pins(&self) -> u64 {
        let blocks = (0..2).filter_map(|index| BlockId::new(1, index));
        blocks.map(|block| self.pool.get(block).pins()).sum()
    }

    fn read_if_mapped(&self, stripe: Stripe) -> bool {
        let Some((block, address)) = self.pin(stripe) else {
            return false;
        };
        self.check(address);
        block.unpin(stripe);
        self.after_unpin(block);
        true
    }

    /// Sets a mapping aside if it is pinned, as `MappingList` does.
    fn set_aside(&self, block: BlockId) -> bool {
        let mut listed = self.set_aside.lock().unwrap();
        let is_pinned = self.pool.get(block).set_aside(&self.attention);
        if is_pinned {
            *listed = Some(block);
        }
        is_pinned
    }

    /// Does the same as `Budget::after_unpin`. The mapping that is set aside is the one at `FIRST`.
    fn after_unpin(&self, block: &PinBlock) {
        if !self.attention.is_raised() || !block.is_set_aside() || block.is_pinned() {
            return;
        }
        let mut listed = self.set_aside.lock().unwrap();
        if *listed == Some(block.id()) && !block.is_pinned() {
            *listed = None;
            block.clear_set_aside();
            self.clear_memory(FIRST);
        }
    }

    /// Reads the memory at the address.
    fn check(&self, address: Address) {
        // SAFETY: loom checks that no other thread writes the cell.
        let byte = self.at(address).with(|byte| unsafe { *byte });
        assert_eq!(byte, BYTE);
    }

    fn begin_evict(&self) -> BeginEvict {
        let mode = EvictionMode::Any;
        self.slot
            .begin_evict(&self.pool, None, mode, &self.wait_table)
    }

    fn evict(&self, start: usize) -> bool {
        let BeginEvict::Begun(block) = self.begin_evict() else {
            return false;
        };
        self.unmap(start, block);
        true
    }
}

/// Runs a model of three threads with at most three preemptions, since all interleavings are too
/// many.
fn model_of_three(model: impl Fn() + Sync + Send + 'static) {
    model_with_preemptions(3, model);
}

fn model_with_preemptions(most: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(most);
    builder.check(model);
}

fn main_stripe() -> Stripe {
    Stripe::number(0)
}

fn other_stripe() -> Stripe {
    Stripe::number(1)
}

#[test]
fn loom_pin_against_evict() {
    loom::model(|| {
        let window = Window::mapped();
        let reader = {
            let window = window.clone();
            thread::spawn(move || window.read_if_mapped(other_stripe()))
        };
        let evicted = window.evict(FIRST);
        let read = reader.join().unwrap();
        // Both may fail due to a pin that was undone (case 8). The window is then unchanged.
        if !evicted && !read {
            assert!(window.read_if_mapped(main_stripe()));
        }
        assert_eq!(window.pins(), 0);
    });
}

#[test]
fn loom_two_readers_against_evict_and_remap() {
    // Three take more than a minute.
    model_with_preemptions(2, || {
        let window = Window::mapped();
        let readers = [main_stripe(), other_stripe()].map(|stripe| {
            let window = window.clone();
            thread::spawn(move || window.read_if_mapped(stripe))
        });
        if window.evict(FIRST) {
            assert!(window.slot.begin_mapping());
            window.map(SECOND, main_stripe());
            window.unpin(main_stripe());
        }
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(window.pins(), 0);
        assert!(window.read_if_mapped(main_stripe()));
    });
}

#[test]
fn loom_only_one_thread_maps_and_the_other_waits() {
    loom::model(|| {
        let window = Window::empty();
        let map_or_wait = |window: &Window, stripe: Stripe| loop {
            match window.slot.try_pin(&window.pool, stripe, 1) {
                TryPin::Hit(block, address) => {
                    window.check(address);
                    block.unpin(stripe);
                    return false;
                }
                TryPin::Empty if window.slot.begin_mapping() => {
                    window.map(FIRST, stripe);
                    window.unpin(stripe);
                    return true;
                }
                TryPin::Busy => window.slot.wait_while_busy(&window.wait_table),
                TryPin::Empty => {}
                TryPin::Undone(_) | TryPin::Exhausted(_) | TryPin::TooShort(_) => {
                    panic!("no thread evicts")
                }
            }
        };
        let other = {
            let window = window.clone();
            thread::spawn(move || map_or_wait(&window, other_stripe()))
        };
        let here = map_or_wait(&window, main_stripe());
        let there = other.join().unwrap();
        assert!(here != there, "exactly one of the two threads maps");
    });
}

#[test]
fn loom_two_evictors_and_a_reader() {
    model_of_three(|| {
        let window = Window::mapped();
        let other = {
            let window = window.clone();
            thread::spawn(move || window.evict(FIRST))
        };
        let reader = {
            let window = window.clone();
            thread::spawn(move || window.read_if_mapped(other_stripe()))
        };
        let here = window.evict(FIRST);
        let there = other.join().unwrap();
        reader.join().unwrap();
        assert!(!(here && there), "unmapped twice");
        assert_eq!(window.pins(), 0);
    });
}

/// The writable mapping has its own slot. It is published while the read-only mapping is pinned,
/// and the read-only mapping is unmapped once no reader pins it.
#[test]
fn loom_upgrade_never_waits_for_readers() {
    loom::model(|| {
        let read_only = Window::mapped();
        let writable = Window::empty();
        let reader = {
            let (read_only, writable) = (read_only.clone(), writable.clone());
            // A reader prefers the writable mapping, as `CachedFile::pin` does.
            let stripe = other_stripe();
            thread::spawn(move || {
                writable.read_if_mapped(stripe) || read_only.read_if_mapped(stripe)
            })
        };
        assert!(writable.slot.begin_mapping());
        writable.map(FIRST, main_stripe());
        let replaced = read_only.evict(FIRST);
        writable.unpin(main_stripe());
        let read = reader.join().unwrap();
        assert!(read || replaced || read_only.read_if_mapped(main_stripe()));
    });
}

/// Dropping the last handle unmaps every window, also one that another thread evicts.
#[test]
fn loom_drop_drains_beside_an_evictor() {
    loom::model(|| {
        let window = Window::mapped();
        let evictor = {
            let window = window.clone();
            thread::spawn(move || window.evict(FIRST))
        };
        loop {
            match window.begin_evict() {
                BeginEvict::Begun(block) => window.unmap(FIRST, block),
                BeginEvict::Busy => window.slot.wait_while_busy(&window.wait_table),
                BeginEvict::Empty => break,
                other => panic!("{other:?} without pins"),
            }
        }
        evictor.join().unwrap();
        assert!(window.slot.is_empty());
    });
}

/// Case 5: a mapping after an eviction happens after the unmapping.
#[test]
fn loom_mapping_comes_after_unmapping() {
    loom::model(|| {
        let window = Window::mapped();
        let mapper = {
            let window = window.clone();
            thread::spawn(move || {
                if window.slot.begin_mapping() {
                    window.map(FIRST, other_stripe());
                    window.unpin(other_stripe());
                }
            })
        };
        window.evict(FIRST);
        mapper.join().unwrap();
    });
}

/// A window is pinned by the thread that mapped it when other threads first see it.
#[test]
fn loom_mapping_thread_has_the_first_pin() {
    loom::model(|| {
        let window = Window::empty();
        let evictor = {
            let window = window.clone();
            thread::spawn(move || window.evict(FIRST))
        };
        assert!(window.slot.begin_mapping());
        window.map(FIRST, main_stripe());
        window.memory[0].with(|byte| {
            // SAFETY: loom checks that no other thread writes the cell.
            assert_eq!(unsafe { *byte }, BYTE);
        });
        window.unpin(main_stripe());
        evictor.join().unwrap();
    });
}

/// Case 7: threads that wait for an eviction are woken if it restores READY.
#[test]
fn loom_failed_eviction_wakes_waiters() {
    model_of_three(|| {
        let window = Window::mapped();
        let holder = {
            let window = window.clone();
            thread::spawn(move || window.pin(other_stripe()).is_some())
        };
        let waiter = {
            let window = window.clone();
            thread::spawn(move || {
                // Like a reader that finds the window busy.
                if window.slot.is_busy() {
                    window.slot.wait_while_busy(&window.wait_table);
                }
            })
        };
        window.evict(FIRST);
        waiter.join().unwrap();
        if holder.join().unwrap() {
            window.unpin(other_stripe());
        }
    });
}

/// An eviction that restores READY passes on the address that the mapping thread published, in any
/// order of the stripes of the mapping thread and of the reader.
fn failed_eviction_passes_the_address_on(mapper: Stripe, others: Stripe, held: bool) {
    model_of_three(move || {
        let window = Window::empty();
        let evictor = {
            let window = window.clone();
            thread::spawn(move || window.evict(FIRST))
        };
        let reader = {
            let window = window.clone();
            thread::spawn(move || window.read_if_mapped(others))
        };
        assert!(window.slot.begin_mapping());
        window.map(FIRST, mapper);
        if !held {
            window.unpin(mapper);
        }
        reader.join().unwrap();
        let evicted = evictor.join().unwrap();
        if held {
            assert!(!evicted, "a published window is pinned");
            window.unpin(mapper);
        }
    });
}

#[test]
fn loom_failed_eviction_passes_the_address_on_first_stripe_held() {
    failed_eviction_passes_the_address_on(main_stripe(), other_stripe(), true);
}

#[test]
fn loom_failed_eviction_passes_the_address_on_last_stripe_held() {
    failed_eviction_passes_the_address_on(other_stripe(), main_stripe(), true);
}

#[test]
fn loom_failed_eviction_passes_the_address_on_last_stripe() {
    failed_eviction_passes_the_address_on(other_stripe(), main_stripe(), false);
}

/// Replaces the mapping at `FIRST` by one at `SECOND`, and retires it. Returns whether it is set
/// aside for the last unpin.
fn replace(window: &Window, stripe: Stripe) -> bool {
    let first = block_in(window.slot.word.load(Ordering::Relaxed)).expect("a mapping");
    assert!(window.slot.begin_replacing(first));
    let replaced = window.map(SECOND, stripe);
    assert_eq!(replaced, Some(first));
    let is_pinned = window.set_aside(first);
    if !is_pinned {
        window.clear_memory(FIRST);
    }
    is_pinned
}

fn assert_nothing_set_aside(window: &Window) {
    assert_eq!(*window.set_aside.lock().unwrap(), None);
}

/// Case 9: a mapping is replaced while a thread pins it. It is unmapped once, after its last pin.
#[test]
fn loom_replaced_mapping_is_unmapped_after_its_last_unpin() {
    loom::model(|| {
        let window = Window::mapped();
        let reader = {
            let window = window.clone();
            // It pins the first mapping or the second. If the slot changes meanwhile, it fails.
            thread::spawn(move || window.read_if_mapped(other_stripe()))
        };
        replace(&window, main_stripe());
        let read = reader.join().unwrap();
        assert_nothing_set_aside(&window);
        window.unpin(main_stripe());
        assert_eq!(window.pins(), 0);
        assert!(read || window.read_if_mapped(main_stripe()));
    });
}

/// Case 9: pins of both stripes end while their mapping is replaced.
#[test]
fn loom_last_of_two_unpins_unmaps_the_replaced_mapping() {
    model_of_three(|| {
        let window = Window::mapped();
        let unpinners = [main_stripe(), other_stripe()].map(|stripe| {
            assert!(window.pin(stripe).is_some());
            let window = window.clone();
            thread::spawn(move || {
                // Both pins are of the first mapping.
                let first = window.pool.get(BlockId::new(1, 0).unwrap());
                window.check(first.address());
                first.unpin(stripe);
                window.after_unpin(first);
            })
        });
        replace(&window, main_stripe());
        for unpinner in unpinners {
            unpinner.join().unwrap();
        }
        assert_nothing_set_aside(&window);
        window.unpin(main_stripe());
        assert_eq!(window.pins(), 0);
    });
}

/// Case 10: an eviction that owns the first mapping does not evict the one that replaced it.
#[test]
fn loom_eviction_of_a_replaced_mapping_does_not_begin() {
    model_of_three(|| {
        let window = Window::mapped();
        let first = BlockId::new(1, 0);
        let evictor = {
            let window = window.clone();
            thread::spawn(move || {
                let mode = EvictionMode::Any;
                let slot = &window.slot;
                match slot.begin_evict(&window.pool, first, mode, &window.wait_table) {
                    BeginEvict::Begun(block) => {
                        assert_eq!(Some(block), first);
                        window.unmap(FIRST, block);
                        true
                    }
                    _ => false,
                }
            })
        };
        let first = first.unwrap();
        let replaced = window.slot.begin_replacing(first);
        if replaced {
            assert_eq!(window.map(SECOND, main_stripe()), Some(first));
            assert!(!window.set_aside(first), "no thread pins it");
            window.clear_memory(FIRST);
            window.unpin(main_stripe());
        }
        let evicted = evictor.join().unwrap();
        assert!(!(replaced && evicted), "unmapped twice");
    });
}

/// Cases 4 and 8: a pin with an outdated slot meets the block in another window, and the budget
/// sets that window aside because of it. Undoing the pin reports it.
#[test]
fn loom_undone_pin_reports_a_mapping_that_was_set_aside() {
    model_of_three(|| {
        let window = Window::mapped();
        let first = BlockId::new(1, 0).unwrap();
        let reader = {
            let window = window.clone();
            thread::spawn(move || window.read_if_mapped(other_stripe()))
        };
        if window.evict(FIRST) {
            // The pool gives the block to the next mapping.
            assert!(window.other.begin_mapping());
            let address = Address {
                start: std::ptr::without_provenance_mut(FIRST),
                len: 1,
            };
            let block = window.pool.allocate(address);
            assert_eq!(block.id(), first);
            window.other.publish(block, main_stripe());
            block.unpin(main_stripe());
            window.set_aside(first);
        }
        reader.join().unwrap();
        assert_nothing_set_aside(&window);
        assert_eq!(window.pins(), 0);
    });
}
