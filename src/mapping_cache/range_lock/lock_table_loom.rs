//! The table of claims under loom.
//!
//! What is claimed is played by a `loom::cell::UnsafeCell`: two claims granted at once, or one granted
//! without an ordering behind the one before, are a race that loom reports.
//!
//! # Safety
//!
//! The cell is dereferenced through loom's pointers, which fail the test when two threads do so without
//! an ordering between them and one of them writes. That is what is tested here.
#![expect(unsafe_code, reason = "loom's cells give out pointers")]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::*;

struct Borrowed {
    claims: LockTable,
    byte: UnsafeCell<u8>,
}

impl Borrowed {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            claims: LockTable::new(),
            byte: UnsafeCell::new(0),
        })
    }

    fn read(&self, thread: usize) -> bool {
        let stripe = Stripe::number(thread);
        let Ok(token) = self.claims.claim(0..4, Sharing::Shared, Stay::Copy, stripe) else {
            return false;
        };
        // SAFETY: loom checks that nobody writes the cell meanwhile.
        self.byte.with(|byte| unsafe { *byte });
        self.claims.give_back(token);
        true
    }

    fn write(&self) -> bool {
        let Ok(token) = self.claims.exclude(2..6, Stay::Copy) else {
            return false;
        };
        // SAFETY: loom checks that nobody else is at the cell.
        self.byte.with_mut(|byte| unsafe { *byte += 1 });
        self.claims.give_back(token);
        true
    }

    /// Writes, waiting for whoever is there.
    fn write_at_last(&self) {
        if self.write() {
            return;
        }
        let mut waiting = self.claims.wait(Some(2..6));
        while !self.write() {
            assert!(waiting.sleep(None));
        }
    }
}

#[test]
fn loom_a_reader_and_a_writer_are_never_there_at_once() {
    loom::model(|| {
        let borrowed = Borrowed::new();
        let there = borrowed.clone();
        let reader = thread::spawn(move || there.read(1));
        borrowed.write();
        reader.join().unwrap();
        // Nobody is left: both get it now.
        assert!(borrowed.write());
        assert!(borrowed.read(0));
    });
}

#[test]
fn loom_two_writers_are_never_there_at_once() {
    loom::model(|| {
        let borrowed = Borrowed::new();
        let there = borrowed.clone();
        let writer = thread::spawn(move || there.write());
        let here = borrowed.write();
        let there = writer.join().unwrap();
        assert!(
            here || there,
            "one of two that only meet each other gets it"
        );
    });
}

#[test]
fn loom_readers_of_two_stripes_and_a_writer() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = Borrowed::new();
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

/// One of the readers finds the only quick place taken.
#[test]
fn loom_readers_of_one_stripe_and_a_writer() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = Borrowed::new();
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

/// The quick place is taken all the time.
#[test]
fn loom_a_reader_in_the_slab_and_a_writer() {
    loom::model(|| {
        let borrowed = Borrowed::new();
        let there = borrowed.clone();
        let stripe = Stripe::number(1);
        let beside = borrowed.claims.share(8..9, Stay::Copy, stripe).unwrap();
        let reader = thread::spawn(move || there.read(1));
        borrowed.write_at_last();
        reader.join().unwrap();
        borrowed.claims.give_back(beside);
        assert!(borrowed.write());
    });
}

#[test]
fn loom_who_waits_is_woken() {
    loom::model(|| {
        let borrowed = Borrowed::new();
        let there = borrowed.clone();
        let reader = thread::spawn(move || there.read(1));
        borrowed.write_at_last();
        reader.join().unwrap();
    });
}

#[test]
fn loom_two_that_wait_are_both_woken() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = Borrowed::new();
        let there = borrowed.clone();
        let writer = thread::spawn(move || there.write_at_last());
        borrowed.write_at_last();
        writer.join().unwrap();
    });
}

/// A reader that comes while a writer waits stands behind it, and is woken.
#[test]
fn loom_a_reader_behind_a_waiting_writer_is_woken() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let borrowed = Borrowed::new();
        let there = borrowed.clone();
        let writer = thread::spawn(move || there.write_at_last());
        if !borrowed.read(0) {
            let mut waiting = borrowed.claims.wait(None);
            while !borrowed.read(0) {
                assert!(waiting.sleep(None));
            }
        }
        writer.join().unwrap();
    });
}
