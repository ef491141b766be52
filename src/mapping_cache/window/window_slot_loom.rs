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
use loom::sync::Arc;
use loom::thread;

use super::super::wait_table::WaitTable;
use super::*;

const BYTE: u8 = 7;
/// Addresses of two generations of the mapping. Only their difference matters.
const FIRST: usize = 0x1000;
const SECOND: usize = 0x2000;

struct Window {
    slot: Slot,
    wait_table: WaitTable,
    /// Memory at `FIRST` and at `SECOND`.
    memory: [UnsafeCell<u8>; 2],
}

impl Window {
    fn empty() -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::new(),
            wait_table: WaitTable::new(),
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

    fn map(&self, start: usize, stripe: Stripe) {
        let address = Address {
            start: std::ptr::without_provenance_mut(start),
            len: 1,
        };
        // SAFETY: loom checks that no other thread accesses the cell.
        self.at(address).with_mut(|byte| unsafe { *byte = BYTE });
        self.slot.publish(address, stripe);
        self.slot.wake(&self.wait_table);
    }

    fn unmap(&self, start: usize) {
        let memory = &self.memory[(start - FIRST) / (SECOND - FIRST)];
        // SAFETY: loom checks that no other thread accesses the cell.
        memory.with_mut(|byte| unsafe { *byte = 0 });
        self.slot.finish_evict();
        self.slot.wake(&self.wait_table);
    }

    fn mapped() -> Arc<Self> {
        let window = Self::empty();
        assert!(window.slot.begin_mapping());
        window.map(FIRST, main_stripe());
        window.slot.unpin(main_stripe());
        window
    }

    fn read_if_mapped(&self, stripe: Stripe) -> bool {
        let TryPin::Hit(address) = self.slot.try_pin(stripe, 1) else {
            return false;
        };
        self.check(address);
        self.slot.unpin(stripe);
        true
    }

    /// Reads the memory at the address.
    fn check(&self, address: Address) {
        // SAFETY: loom checks that no other thread writes the cell.
        let byte = self.at(address).with(|byte| unsafe { *byte });
        assert_eq!(byte, BYTE);
    }

    fn evict(&self, start: usize) -> bool {
        let begun = self.slot.begin_evict(EvictionMode::Any, &self.wait_table) == BeginEvict::Begun;
        if begun {
            self.unmap(start);
        }
        begun
    }
}

/// Runs a model of three threads with at most three preemptions, since all interleavings are too
/// many.
fn model_of_three(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
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
        assert_eq!(window.slot.pins(), 0);
    });
}

#[test]
fn loom_two_readers_against_evict_and_remap() {
    model_of_three(|| {
        let window = Window::mapped();
        let readers = [main_stripe(), other_stripe()].map(|stripe| {
            let window = window.clone();
            thread::spawn(move || window.read_if_mapped(stripe))
        });
        if window.evict(FIRST) {
            assert!(window.slot.begin_mapping());
            window.map(SECOND, main_stripe());
            window.slot.unpin(main_stripe());
        }
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(window.slot.pins(), 0);
        assert!(window.read_if_mapped(main_stripe()));
    });
}

#[test]
fn loom_only_one_thread_maps_and_the_other_waits() {
    loom::model(|| {
        let window = Window::empty();
        let map_or_wait = |window: &Window, stripe: Stripe| loop {
            match window.slot.try_pin(stripe, 1) {
                TryPin::Hit(address) => {
                    window.check(address);
                    window.slot.unpin(stripe);
                    return false;
                }
                TryPin::Empty if window.slot.begin_mapping() => {
                    window.map(FIRST, stripe);
                    window.slot.unpin(stripe);
                    return true;
                }
                TryPin::Busy => window.slot.wait_while_busy(&window.wait_table),
                TryPin::Empty => {}
                other => panic!("{other:?}"),
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
        assert_eq!(window.slot.pins(), 0);
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
        writable.slot.unpin(main_stripe());
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
            match window
                .slot
                .begin_evict(EvictionMode::Any, &window.wait_table)
            {
                BeginEvict::Begun => window.unmap(FIRST),
                BeginEvict::Busy => window.slot.wait_while_busy(&window.wait_table),
                BeginEvict::Empty => break,
                other => panic!("{other:?} without pins"),
            }
        }
        evictor.join().unwrap();
        assert_eq!(window.slot.try_pin(main_stripe(), 1), TryPin::Empty);
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
                    window.slot.unpin(other_stripe());
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
        window.slot.unpin(main_stripe());
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
            thread::spawn(move || matches!(window.slot.try_pin(other_stripe(), 1), TryPin::Hit(_)))
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
            window.slot.unpin(other_stripe());
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
            window.slot.unpin(mapper);
        }
        reader.join().unwrap();
        let evicted = evictor.join().unwrap();
        if held {
            assert!(!evicted, "a published window is pinned");
            window.slot.unpin(mapper);
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
