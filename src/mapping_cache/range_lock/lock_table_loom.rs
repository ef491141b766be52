//! The lock table under loom.
//!
//! A `loom::cell::UnsafeCell` models the locked bytes. Loom reports a race if two conflicting locks
//! are granted at once, or if a lock is granted without an ordering after the lock before it.
//!
//! # Safety
//!
//! The cell is dereferenced through loom's pointers. Loom fails the test if two threads do so
//! without an ordering between them and one of them writes, which is the property under test.
#![expect(unsafe_code, reason = "loom's cells give out pointers")]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::*;

struct LockedByte {
    locks: LockTable,
    byte: UnsafeCell<u8>,
}

impl LockedByte {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            locks: LockTable::new(),
            byte: UnsafeCell::new(0),
        })
    }

    fn read(&self, thread: usize) -> bool {
        let stripe = Stripe::number(thread);
        let Ok(token) = self
            .locks
            .lock(0..4, Sharing::Shared, LockKind::Copy, stripe)
        else {
            return false;
        };
        // SAFETY: loom checks that no other thread writes the cell.
        self.byte.with(|byte| unsafe { *byte });
        self.locks.unlock(token);
        true
    }

    fn write(&self) -> bool {
        let Ok(token) = self.locks.lock_exclusive(2..6, LockKind::Copy) else {
            return false;
        };
        // SAFETY: loom checks that no other thread accesses the cell.
        self.byte.with_mut(|byte| unsafe { *byte += 1 });
        self.locks.unlock(token);
        true
    }

    /// Writes, and waits for conflicting locks.
    fn write_blocking(&self) {
        if self.write() {
            return;
        }
        let mut waiting = self.locks.start_waiting(Some(2..6));
        while !self.write() {
            assert!(waiting.sleep(None));
        }
    }
}

#[test]
fn loom_reader_and_writer_exclude_each_other() {
    loom::model(|| {
        let borrowed = LockedByte::new();
        let there = borrowed.clone();
        let reader = thread::spawn(move || there.read(1));
        borrowed.write();
        reader.join().unwrap();
        // No lock is left, so both succeed.
        assert!(borrowed.write());
        assert!(borrowed.read(0));
    });
}

#[test]
fn loom_two_writers_exclude_each_other() {
    loom::model(|| {
        let borrowed = LockedByte::new();
        let there = borrowed.clone();
        let writer = thread::spawn(move || there.write());
        let here = borrowed.write();
        let there = writer.join().unwrap();
        assert!(here || there, "one of two conflicting writers succeeds");
    });
}

#[test]
fn loom_readers_of_two_stripes_and_a_writer() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = LockedByte::new();
        let (one, two) = (borrowed.clone(), borrowed.clone());
        let readers = [
            thread::spawn(move || one.read(0)),
            thread::spawn(move || two.read(1)),
        ];
        borrowed.write();
        for reader in readers {
            reader.join().unwrap();
        }
        assert!(borrowed.write());
    });
}

/// One of the readers finds the only quick entry in use.
#[test]
fn loom_readers_of_one_stripe_and_a_writer() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = LockedByte::new();
        let (one, two) = (borrowed.clone(), borrowed.clone());
        let readers = [
            thread::spawn(move || one.read(1)),
            thread::spawn(move || two.read(1)),
        ];
        borrowed.write();
        for reader in readers {
            reader.join().unwrap();
        }
        assert!(borrowed.write());
    });
}

/// The quick entry is always in use.
#[test]
fn loom_reader_in_the_slab_and_a_writer() {
    loom::model(|| {
        let borrowed = LockedByte::new();
        let there = borrowed.clone();
        let stripe = Stripe::number(1);
        let beside = borrowed
            .locks
            .lock_shared(8..9, LockKind::Copy, stripe)
            .unwrap();
        let reader = thread::spawn(move || there.read(1));
        borrowed.write_blocking();
        reader.join().unwrap();
        borrowed.locks.unlock(beside);
        assert!(borrowed.write());
    });
}

#[test]
fn loom_waiter_is_woken() {
    loom::model(|| {
        let borrowed = LockedByte::new();
        let there = borrowed.clone();
        let reader = thread::spawn(move || there.read(1));
        borrowed.write_blocking();
        reader.join().unwrap();
    });
}

#[test]
fn loom_two_waiters_are_woken() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = LockedByte::new();
        let there = borrowed.clone();
        let writer = thread::spawn(move || there.write_blocking());
        borrowed.write_blocking();
        writer.join().unwrap();
    });
}

/// A reader that arrives while a writer waits, waits for it and is woken.
#[test]
fn loom_reader_after_a_waiting_writer_is_woken() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = LockedByte::new();
        let there = borrowed.clone();
        let writer = thread::spawn(move || there.write_blocking());
        if !borrowed.read(0) {
            let mut waiting = borrowed.locks.start_waiting(None);
            while !borrowed.read(0) {
                assert!(waiting.sleep(None));
            }
        }
        writer.join().unwrap();
    });
}
