//! Guards of range locks, and waiting for a lock that conflicts.

use std::io;
use std::ops::Range;
use std::time::Instant;

use super::conflict::{LockKind, Sharing};
use super::lock_table::{LockTable, LockToken};
use super::waiter::{Refused, Waiter};
use super::wanted::Ticket;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::location::Location;
use crate::mapping_cache::stripe::Stripe;

/// A range lock on a file. Unlocks the range on drop.
#[derive(Debug)]
pub(crate) struct RangeLock<'a> {
    table: &'a LockTable,
    token: LockToken<'a>,
}

impl<'a> RangeLock<'a> {
    /// A guard for a token that was just granted.
    #[inline(always)]
    pub(in crate::mapping_cache) fn new(table: &'a LockTable, token: LockToken<'a>) -> Self {
        Self { table, token }
    }

    /// Locks a range of a file that errors can name.
    pub(in crate::mapping_cache) fn of_file(
        location: &'a Location,
        table: &'a LockTable,
        range: Range<u64>,
        sharing: Sharing,
        stay: LockKind,
        ticket: Ticket,
    ) -> Result<Self, RangeLockError<'a>> {
        let lock = Self::lock(table, range, sharing, stay, ticket);
        lock.map_err(|refused| RangeLockError::Busy(Busy { location, refused }))
    }

    /// A lock for a copy that has no path to name in an error. Waits for other copies. Returns
    /// `ResourceBusy` if a span holds part of the range, and `None` for an empty range.
    pub(in crate::mapping_cache) fn for_copy(
        table: &'a LockTable,
        offset: u64,
        len: usize,
        sharing: Sharing,
    ) -> io::Result<Option<Self>> {
        if len == 0 {
            return Ok(None);
        }
        let range = offset..offset + len as u64;
        let mut waiter = Waiter::new();
        loop {
            match Self::lock(
                table,
                range.clone(),
                sharing,
                LockKind::Copy,
                waiter.ticket(),
            ) {
                Ok(lock) => return Ok(Some(lock)),
                Err(refused) if refused.conflict.only_copies => {
                    waiter.wait(&refused, None);
                }
                Err(_) => return Err(io::ErrorKind::ResourceBusy.into()),
            }
        }
    }

    fn lock(
        table: &'a LockTable,
        range: Range<u64>,
        sharing: Sharing,
        stay: LockKind,
        ticket: Ticket,
    ) -> Result<Self, Refused<'a>> {
        match table.lock(range.clone(), sharing, stay, Stripe::mine(), ticket) {
            Ok(token) => Ok(Self { table, token }),
            Err(conflict) => Err(Refused {
                table,
                range,
                sharing,
                conflict,
            }),
        }
    }

    /// Makes the lock of a copy that of a guard: copies no longer wait for it, but fail.
    #[inline(always)]
    pub(in crate::mapping_cache) fn make_guard(&self) {
        self.table.make_guard(self.token);
    }
}

impl Drop for RangeLock<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.table.unlock(self.token);
    }
}

/// The reason why a range was not locked.
#[derive(Debug)]
pub(crate) enum RangeLockError<'a> {
    /// Another lock conflicts. The caller may wait for it.
    Busy(Busy<'a>),
    Failed(MappingError),
}

impl From<MappingError> for RangeLockError<'_> {
    fn from(error: MappingError) -> Self {
        Self::Failed(error)
    }
}

/// A range with a conflicting lock.
#[derive(Debug)]
pub(crate) struct Busy<'a> {
    location: &'a Location,
    refused: Refused<'a>,
}

impl Busy<'_> {
    pub(crate) fn into_error(self) -> MappingError {
        let Refused {
            range, conflict, ..
        } = self.refused;
        let offset = range.start.max(conflict.from);
        MappingError::RangeLocked {
            path: self.location.full_path(),
            offset,
            len: range.end - offset,
        }
    }
}

/// The locks to wait for, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timeout {
    /// Waits for copies without a limit. Fails at once if a span conflicts.
    Copies,
    /// Does not wait.
    None,
    /// Waits for copies and spans until this deadline.
    Until(Instant),
}

/// Calls `attempt` until all of its locks are granted, as long as `timeout` permits. A refused
/// `attempt` holds no lock, so no thread waits while it holds one [I38]. Later requests wait for
/// this one (`waiter.rs`).
pub(crate) fn lock_range_timeout<'a, T>(
    timeout: Timeout,
    mut attempt: impl FnMut(Ticket) -> Result<T, RangeLockError<'a>>,
) -> Result<T, MappingError> {
    let mut waiter = Waiter::new();
    loop {
        let busy = match attempt(waiter.ticket()) {
            Ok(done) => return Ok(done),
            Err(RangeLockError::Failed(error)) => return Err(error),
            Err(RangeLockError::Busy(busy)) => busy,
        };
        let deadline = match timeout {
            Timeout::Copies if busy.refused.conflict.only_copies => None,
            Timeout::Copies | Timeout::None => return Err(busy.into_error()),
            Timeout::Until(deadline) => Some(deadline),
        };
        if !waiter.wait(&busy.refused, deadline) {
            return Err(busy.into_error());
        }
    }
}
