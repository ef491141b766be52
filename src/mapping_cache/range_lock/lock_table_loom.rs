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

use super::super::waiter::{Refused, Waiter};
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

    fn try_read(&self, thread: usize, ticket: Ticket) -> Result<(), Conflict> {
        let stripe = Stripe::number(thread);
        let token = self
            .locks
            .lock_shared(0..4, LockKind::Copy, stripe, ticket)?;
        // SAFETY: loom checks that no other thread writes the cell.
        self.byte.with(|byte| unsafe { *byte });
        self.locks.unlock(token);
        Ok(())
    }

    fn try_write(&self, ticket: Ticket) -> Result<(), Conflict> {
        let token = self.locks.lock_exclusive(2..6, LockKind::Copy, ticket)?;
        // SAFETY: loom checks that no other thread accesses the cell.
        self.byte.with_mut(|byte| unsafe { *byte += 1 });
        self.locks.unlock(token);
        Ok(())
    }

    fn read(&self, thread: usize) -> bool {
        self.try_read(thread, Ticket::NEW).is_ok()
    }

    fn write(&self) -> bool {
        self.try_write(Ticket::NEW).is_ok()
    }

    /// Reads, and waits for conflicting locks and for older requests.
    fn read_blocking(&self, thread: usize) {
        until_granted(|ticket| {
            let refused = self.try_read(thread, ticket);
            refused.map_err(|conflict| refused_by(&self.locks, 0..4, Sharing::Shared, conflict))
        });
    }

    /// Writes, and waits for conflicting locks and for older requests.
    fn write_blocking(&self) {
        until_granted(|ticket| {
            let refused = self.try_write(ticket);
            refused.map_err(|conflict| refused_by(&self.locks, 2..6, Sharing::Exclusive, conflict))
        });
    }
}

fn refused_by(
    table: &LockTable,
    range: Range<u64>,
    sharing: Sharing,
    conflict: Conflict,
) -> Refused<'_> {
    Refused {
        table,
        range,
        sharing,
        conflict,
    }
}

fn until_granted<'a>(mut attempt: impl FnMut(Ticket) -> Result<(), Refused<'a>>) {
    let mut waiter = Waiter::new();
    while let Err(refused) = attempt(waiter.ticket()) {
        assert!(waiter.wait(&refused, None));
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
            .lock_shared(8..9, LockKind::Copy, stripe, Ticket::NEW)
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
        borrowed.read_blocking(0);
        writer.join().unwrap();
    });
}

/// A writer that arrives while a reader waits, waits for it and is woken.
#[test]
fn loom_writer_after_a_waiting_reader_is_woken() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = LockedByte::new();
        let there = borrowed.clone();
        let reader = thread::spawn(move || there.read_blocking(1));
        borrowed.write_blocking();
        borrowed.write_blocking();
        reader.join().unwrap();
    });
}

/// Two files, which two requests lock in opposite orders.
#[test]
fn loom_requests_over_two_files_do_not_wait_for_each_other() {
    fn write_both(first: &LockedByte, second: &LockedByte) {
        let lock = |file: &'_ LockedByte, ticket| {
            let token = file.locks.lock_exclusive(2..6, LockKind::Copy, ticket);
            token.map(|_| ())
        };
        let mut waiter = Waiter::new();
        loop {
            let refused = match lock(first, waiter.ticket()) {
                Err(conflict) => refused_by(&first.locks, 2..6, Sharing::Exclusive, conflict),
                Ok(()) => {
                    let locked = lock(second, waiter.ticket());
                    if locked.is_ok() {
                        for file in [first, second] {
                            // SAFETY: loom checks that no other thread accesses the cell.
                            file.byte.with_mut(|byte| unsafe { *byte += 1 });
                        }
                        second.locks.unlock(LockToken::exclusive(2));
                    }
                    first.locks.unlock(LockToken::exclusive(2));
                    match locked {
                        Ok(()) => return,
                        Err(conflict) => {
                            refused_by(&second.locks, 2..6, Sharing::Exclusive, conflict)
                        }
                    }
                }
            };
            assert!(waiter.wait(&refused, None));
        }
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let (x, y) = (LockedByte::new(), LockedByte::new());
        let (there_x, there_y) = (x.clone(), y.clone());
        let other = thread::spawn(move || write_both(&there_y, &there_x));
        write_both(&x, &y);
        other.join().unwrap();
        // Nothing stays locked or listed.
        assert!(x.write() && y.write());
        assert!(x.read(0) && y.read(0));
    });
}

/// A copy that waits for a lock learns that it became that of a guard, and stops waiting.
fn copy_beside_a_new_guard(sharing: Sharing) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let borrowed = LockedByte::new();
        let there = borrowed.clone();
        let stripe = Stripe::number(0);
        let held = borrowed
            .locks
            .lock(0..4, sharing, LockKind::Copy, stripe, Ticket::NEW);
        let held = held.unwrap();
        let writer = thread::spawn(move || {
            let mut waiter = Waiter::new();
            while let Err(conflict) = there.try_write(waiter.ticket())
                && conflict.only_copies
            {
                let refused = refused_by(&there.locks, 2..6, Sharing::Exclusive, conflict);
                assert!(waiter.wait(&refused, None));
            }
        });
        borrowed.locks.make_guard(held);
        if sharing == Sharing::Shared {
            // Woken when the writer gives up.
            borrowed.read_blocking(0);
        }
        writer.join().unwrap();
        borrowed.locks.unlock(held);
        assert!(borrowed.write());
    });
}

#[test]
fn loom_writer_fails_beside_a_new_shared_guard() {
    copy_beside_a_new_guard(Sharing::Shared);
}

#[test]
fn loom_writer_fails_beside_a_new_exclusive_guard() {
    copy_beside_a_new_guard(Sharing::Exclusive);
}
