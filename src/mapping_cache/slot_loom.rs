//! The slot protocol under loom: every interleaving, every value a relaxed load may return.
//!
//! A window in memory is played by a `loom::cell::UnsafeCell`: reading it as a pinner and "unmapping"
//! it as an evictor without an ordering between the two is a race that loom reports.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::super::parking::Parking;
use super::*;

const BYTE: u8 = 7;
/// Addresses of two generations of the mapping; only their difference matters.
const FIRST: usize = 0x1000;
const SECOND: usize = 0x2000;

struct Window {
    slot: Slot,
    /// Memory at `FIRST` and at `SECOND`.
    memory: [UnsafeCell<u8>; 2],
}

impl Window {
    fn empty() -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::new(),
            memory: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    fn at(&self, address: Address) -> &UnsafeCell<u8> {
        match address.start.addr() {
            FIRST => &self.memory[0],
            SECOND => &self.memory[1],
            other => panic!("pinned at {other:#x}, where nothing was ever mapped"),
        }
    }

    fn map(&self, start: usize) {
        let address = Address {
            start: std::ptr::without_provenance_mut(start),
            len: 1,
        };
        self.at(address).with_mut(|byte| unsafe { *byte = BYTE });
        self.slot.publish(address);
    }

    fn unmap(&self, start: usize) {
        self.memory[(start - FIRST) / (SECOND - FIRST)].with_mut(|byte| unsafe { *byte = 0 });
        self.slot.finish_evict();
    }

    fn mapped() -> Arc<Self> {
        let window = Self::empty();
        assert!(window.slot.begin_mapping());
        window.map(FIRST);
        window.slot.unpin();
        window
    }

    fn read_if_mapped(&self) -> bool {
        let TryPin::Hit(address) = self.slot.try_pin() else {
            return false;
        };
        self.at(address)
            .with(|byte| assert_eq!(unsafe { *byte }, BYTE));
        self.slot.unpin();
        true
    }

    fn evict(&self, start: usize) -> bool {
        let begun = self.slot.begin_evict(Mercy::None) == BeginEvict::Begun;
        if begun {
            self.unmap(start);
        }
        begun
    }
}

#[test]
fn loom_pin_against_evict() {
    loom::model(|| {
        let window = Window::mapped();
        let reader = {
            let window = window.clone();
            thread::spawn(move || window.read_if_mapped())
        };
        let evicted = window.evict(FIRST);
        let read = reader.join().unwrap();
        assert!(evicted || read, "one of the two must win");
        assert_eq!(window.slot.pins(), 0);
    });
}

#[test]
fn loom_two_readers_against_evict_and_remap() {
    loom::model(|| {
        let window = Window::mapped();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let window = window.clone();
                thread::spawn(move || window.read_if_mapped())
            })
            .collect();
        if window.evict(FIRST) {
            assert!(window.slot.begin_mapping());
            window.map(SECOND);
            window.slot.unpin();
        }
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(window.slot.pins(), 0);
        assert!(window.read_if_mapped());
    });
}

#[test]
fn loom_only_one_thread_maps_and_the_other_waits() {
    loom::model(|| {
        let window = Window::empty();
        let parking = Arc::new(Parking::new());
        let mapped = |window: &Window, parking: &Parking| loop {
            match window.slot.try_pin() {
                TryPin::Hit(address) => {
                    window
                        .at(address)
                        .with(|byte| assert_eq!(unsafe { *byte }, BYTE));
                    window.slot.unpin();
                    return false;
                }
                TryPin::Empty if window.slot.begin_mapping() => {
                    window.map(FIRST);
                    parking.wake(&window.slot);
                    window.slot.unpin();
                    return true;
                }
                TryPin::Busy => parking.wait(&window.slot),
                TryPin::Empty | TryPin::Exhausted => {}
            }
        };
        let other = {
            let (window, parking) = (window.clone(), parking.clone());
            thread::spawn(move || mapped(&window, &parking))
        };
        let here = mapped(&window, &parking);
        let there = other.join().unwrap();
        assert!(here != there, "exactly one of the two maps");
    });
}

#[test]
fn loom_two_evictors_and_a_reader() {
    loom::model(|| {
        let window = Window::mapped();
        let other = {
            let window = window.clone();
            thread::spawn(move || window.evict(FIRST))
        };
        let reader = {
            let window = window.clone();
            thread::spawn(move || window.read_if_mapped())
        };
        let here = window.evict(FIRST);
        let there = other.join().unwrap();
        reader.join().unwrap();
        assert!(!(here && there), "unmapped twice");
        assert_eq!(window.slot.pins(), 0);
    });
}

/// The writable mapping has a slot of its own: it comes up while the read-only one is pinned, and
/// the read-only one goes as soon as nobody pins it.
#[test]
fn loom_upgrade_never_waits_for_readers() {
    loom::model(|| {
        let read_only = Window::mapped();
        let writable = Window::empty();
        let reader = {
            let (read_only, writable) = (read_only.clone(), writable.clone());
            // A reader prefers the writable mapping, as `CachedFile::pin` does.
            thread::spawn(move || writable.read_if_mapped() || read_only.read_if_mapped())
        };
        assert!(writable.slot.begin_mapping());
        writable.map(FIRST);
        let replaced = read_only.evict(FIRST);
        writable.slot.unpin();
        let read = reader.join().unwrap();
        assert!(read || replaced);
    });
}

/// Dropping the last handle takes every window, also one that an evictor has in hand.
#[test]
fn loom_drop_drains_beside_an_evictor() {
    loom::model(|| {
        let window = Window::mapped();
        let parking = Arc::new(Parking::new());
        let evictor = {
            let (window, parking) = (window.clone(), parking.clone());
            thread::spawn(move || {
                if window.evict(FIRST) {
                    parking.wake(&window.slot);
                }
            })
        };
        loop {
            match window.slot.begin_evict(Mercy::None) {
                BeginEvict::Begun => {
                    window.unmap(FIRST);
                    parking.wake(&window.slot);
                }
                BeginEvict::Busy => parking.wait(&window.slot),
                BeginEvict::Empty => break,
                other => panic!("{other:?} without pins"),
            }
        }
        evictor.join().unwrap();
        assert_eq!(window.slot.try_pin(), TryPin::Empty);
    });
}
