//! Waiting for range locks, in the order in which requests came.
//!
//! A request that is refused gets a ticket, and lists the refused range as wanted in the table that
//! refused it. It remains listed until it is granted or fails. The table counts the later requests
//! that overtake it: it grants them a conflicting lock. At [`MAX_OVERTAKINGS`] it refuses them, as
//! if a copy had locked the wanted range.
//!
//! **Bound.** Once a table has listed a range, it grants conflicting locks to at most
//! [`MAX_OVERTAKINGS`] later requests. Apart from these, the request waits for locks that were
//! granted before, and for requests that waited before. A request for ranges of several files takes
//! all locks or none, and each range is listed when it is refused. So later requests overtake it at
//! most [`MAX_OVERTAKINGS`] times for each of its ranges.
//!
//! **Guards.** A request that conflicts with the lock of a guard is listed in no table, since
//! copies must not wait for guards. So guards may overtake a request that waits for guards.
//!
//! **No deadlock.** A thread that waits holds no lock of a copy [I38]. A listed request waits for
//! copies, which wait for nothing, or for an older request. The cases of two requests, neither of
//! which may be overtaken any more:
//!
//! 1. *A wants x and y, B wants y and x, and both are listed in both tables.* A is older: both
//!    tables refuse B, and A waits for neither.
//! 2. *B was listed first, but A has the older ticket.* The ticket decides: A does not wait for B.
//!    It has waited for longer, at another table. The number of older tickets is limited.
//! 3. *B holds x for a moment, because its attempt has not reached y.* It is refused at y, unlocks
//!    x, and wakes A.
//! 4. *B holds a guard on x and waits for a copy of y.* A is refused by the guard. It fails, or is
//!    removed from all lists, so that B does not wait for A. If A was listed because x refused it
//!    for another copy first, it learns of the guard when that copy ends.
//! 5. *A gives up, or meets a guard.* It wakes the waiters of all tables that listed it.

use std::ops::Range;
use std::time::Instant;

use super::conflict::{Conflict, Sharing};
use super::lock_table::{LockTable, LockWait};
#[cfg(doc)]
use super::wanted::MAX_OVERTAKINGS;
use super::wanted::{Ticket, Wanted};

/// A request that waits after it was refused. Dropped when it is granted or fails.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    ticket: Ticket,
    /// What the tables list for this request.
    wanted: Vec<(&'a LockTable, Wanted)>,
    /// Set for the table that refused the last attempt.
    wait: Option<LockWait<'a>>,
}

/// A range that was refused.
#[derive(Debug)]
pub(super) struct Refused<'a> {
    pub(super) table: &'a LockTable,
    pub(super) range: Range<u64>,
    pub(super) sharing: Sharing,
    pub(super) conflict: Conflict,
}

impl<'a> Waiter<'a> {
    pub(super) fn new() -> Self {
        Self {
            ticket: Ticket::NEW,
            wanted: Vec::new(),
            wait: None,
        }
    }

    /// The ticket for the next attempt.
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Waits after an attempt was refused. Returns `false` if the deadline passed, and `true` if
    /// the caller must try again.
    pub(super) fn wait(&mut self, refused: &Refused<'a>, deadline: Option<Instant>) -> bool {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return false;
        }
        if self.ticket == Ticket::NEW {
            self.ticket = Ticket::next();
        }
        self.list(refused);
        match &mut self.wait {
            Some(wait) if wait.is_for(refused.table) => wait.sleep(deadline),
            // Counted as a waiter before the next attempt, so that no unlock is missed.
            other => {
                *other = Some(refused.table.start_waiting());
                true
            }
        }
    }

    /// Makes later requests wait for this one.
    fn list(&mut self, refused: &Refused<'a>) {
        if !refused.conflict.only_copies {
            return self.remove_from_lists();
        }
        let wanted = Wanted::new(self.ticket, &refused.range, refused.sharing);
        if refused.table.add_wanted(wanted.clone()) {
            self.wanted.push((refused.table, wanted));
        }
    }

    fn remove_from_lists(&mut self) {
        for (table, wanted) in self.wanted.drain(..) {
            table.remove_wanted(&wanted);
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.remove_from_lists();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::conflict::LockKind;
    use super::super::wanted::MAX_OVERTAKINGS;
    use super::*;
    use crate::mapping_cache::stripe::Stripe;

    const CONFLICTING: [(Sharing, Sharing); 3] = [
        (Sharing::Shared, Sharing::Exclusive),
        (Sharing::Exclusive, Sharing::Shared),
        (Sharing::Exclusive, Sharing::Exclusive),
    ];

    /// Tries to lock for a copy, and unlocks at once.
    fn attempt(
        table: &LockTable,
        range: Range<u64>,
        sharing: Sharing,
        ticket: Ticket,
    ) -> Result<(), Refused<'_>> {
        let stripe = Stripe::number(0);
        match table.lock(range.clone(), sharing, LockKind::Copy, stripe, ticket) {
            Ok(token) => {
                table.unlock(token);
                Ok(())
            }
            Err(conflict) => Err(Refused {
                table,
                range,
                sharing,
                conflict,
            }),
        }
    }

    /// Locks for later requests until a request that waits is not overtaken any more. Returns the
    /// number of overtakings.
    fn overtake(table: &LockTable, range: Range<u64>, sharing: Sharing) -> u32 {
        let later = || attempt(table, range.clone(), sharing, Ticket::NEW);
        (0..).take_while(|_| later().is_ok()).count() as u32
    }

    /// A request that was refused and waits.
    fn waiting(table: &LockTable, range: Range<u64>, sharing: Sharing) -> Waiter<'_> {
        let mut waiter = Waiter::new();
        let refused = attempt(table, range, sharing, waiter.ticket()).expect_err("a conflict");
        assert!(waiter.wait(&refused, None));
        waiter
    }

    #[test]
    fn a_listed_request_is_overtaken_by_a_limited_number_of_later_ones() {
        for (sharing, later) in CONFLICTING {
            let table = LockTable::new();
            let stripe = Stripe::number(0);
            let held = table.lock(
                0..10,
                Sharing::Exclusive,
                LockKind::Copy,
                stripe,
                Ticket::NEW,
            );
            let waiter = waiting(&table, 5..15, sharing);
            table.unlock(held.unwrap());
            assert_eq!(overtake(&table, 12..20, later), MAX_OVERTAKINGS);
            assert!(attempt(&table, 15..20, later, Ticket::NEW).is_ok());
            assert!(attempt(&table, 5..15, sharing, waiter.ticket()).is_ok());
            drop(waiter);
            assert!(attempt(&table, 12..20, later, Ticket::NEW).is_ok());
        }
    }

    #[test]
    fn readers_that_wait_do_not_wait_for_each_other() {
        let table = LockTable::new();
        let stripe = Stripe::number(0);
        let held = table.lock(
            0..5,
            Sharing::Exclusive,
            LockKind::Copy,
            stripe,
            Ticket::NEW,
        );
        let older = waiting(&table, 0..15, Sharing::Shared);
        let younger = waiting(&table, 0..15, Sharing::Shared);
        assert!(attempt(&table, 5..15, Sharing::Shared, Ticket::NEW).is_ok());
        table.unlock(held.unwrap());
        assert!(attempt(&table, 0..15, Sharing::Shared, younger.ticket()).is_ok());
        drop((older, younger));
    }

    #[test]
    fn the_older_of_two_requests_over_two_files_is_granted_first() {
        let (x, y) = (LockTable::new(), LockTable::new());
        let locked = [&x, &y].map(|table| {
            let (kind, stripe) = (LockKind::Copy, Stripe::number(0));
            let token = table.lock(0..10, Sharing::Exclusive, kind, stripe, Ticket::NEW);
            (table, token.unwrap())
        });
        let mut older = waiting(&x, 0..10, Sharing::Exclusive);
        let mut younger = waiting(&y, 0..10, Sharing::Exclusive);
        // Each is refused by the other table, too. There the younger one may be listed first.
        for (waiter, table) in [(&mut younger, &x), (&mut older, &y)] {
            let refused = attempt(table, 0..10, Sharing::Exclusive, waiter.ticket());
            assert!(waiter.wait(&refused.unwrap_err(), None));
        }
        for (table, token) in locked {
            table.unlock(token);
            overtake(table, 0..10, Sharing::Exclusive);
        }
        for table in [&x, &y] {
            assert!(attempt(table, 0..10, Sharing::Exclusive, younger.ticket()).is_err());
            assert!(attempt(table, 0..10, Sharing::Exclusive, Ticket::NEW).is_err());
            assert!(attempt(table, 0..10, Sharing::Exclusive, older.ticket()).is_ok());
        }
        drop(older);
        for table in [&x, &y] {
            assert!(attempt(table, 0..10, Sharing::Exclusive, Ticket::NEW).is_err());
            assert!(attempt(table, 0..10, Sharing::Exclusive, younger.ticket()).is_ok());
        }
    }

    #[test]
    fn a_request_that_meets_a_guard_is_not_waited_for() {
        let table = LockTable::new();
        let stripe = Stripe::number(0);
        let held = table.lock(0..10, Sharing::Shared, LockKind::Copy, stripe, Ticket::NEW);
        let held = held.unwrap();
        let mut waiter = waiting(&table, 5..15, Sharing::Exclusive);
        overtake(&table, 12..20, Sharing::Shared);
        table.make_guard(held);
        let refused =
            attempt(&table, 5..15, Sharing::Exclusive, waiter.ticket()).expect_err("a conflict");
        assert!(!refused.conflict.only_copies);
        // The guard has woken it, so it does not sleep.
        assert!(waiter.wait(&refused, None));
        assert!(attempt(&table, 12..20, Sharing::Shared, Ticket::NEW).is_ok());
        table.unlock(held);
        assert!(attempt(&table, 5..15, Sharing::Exclusive, waiter.ticket()).is_ok());
    }
}
