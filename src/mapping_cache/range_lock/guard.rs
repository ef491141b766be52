//! Guards of range locks, and waiting for a lock that conflicts.

use std::io;
use std::ops::Range;
use std::time::Instant;

use super::lock_table::{Conflict, LockKind, LockTable, LockToken, LockWait, Sharing};
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
        let attempt = || table.lock(range.clone(), sharing, LockKind::Copy, Stripe::mine());
        let mut waiting = None;
        loop {
            match attempt() {
                Ok(token) => return Ok(Some(Self { table, token })),
                Err(conflict) if !conflict.only_copies => {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                Err(_) => match &mut waiting {
                    None => {
                        let wanted = (sharing == Sharing::Exclusive).then(|| range.clone());
                        waiting = Some(table.start_waiting(wanted));
                    }
                    Some(waiting) => {
                        waiting.sleep(None);
                    }
                },
            }
        }
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
    pub(in crate::mapping_cache) location: &'a Location,
    pub(in crate::mapping_cache) table: &'a LockTable,
    pub(in crate::mapping_cache) range: Range<u64>,
    pub(in crate::mapping_cache) sharing: Sharing,
    pub(in crate::mapping_cache) stay: LockKind,
    pub(in crate::mapping_cache) conflict: Conflict,
}

impl Busy<'_> {
    /// Returns whether the lock is for a copy into the file. Shared copies that arrive later then
    /// wait for it.
    fn is_for_copying_in(&self) -> bool {
        (self.sharing, self.stay) == (Sharing::Exclusive, LockKind::Copy)
    }

    pub(crate) fn into_error(self) -> MappingError {
        let offset = self.range.start.max(self.conflict.from);
        MappingError::RangeLocked {
            path: self.location.full_path(),
            offset,
            len: self.range.end - offset,
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
/// `attempt` holds no lock, so no thread waits while it holds one [I38].
pub(crate) fn lock_range_timeout<'a, T>(
    timeout: Timeout,
    mut attempt: impl FnMut() -> Result<T, RangeLockError<'a>>,
) -> Result<T, MappingError> {
    let mut waiting: Option<LockWait<'a>> = None;
    loop {
        let busy = match attempt() {
            Ok(done) => return Ok(done),
            Err(RangeLockError::Failed(error)) => return Err(error),
            Err(RangeLockError::Busy(busy)) => busy,
        };
        let deadline = match timeout {
            Timeout::Copies if busy.conflict.only_copies => None,
            Timeout::Copies | Timeout::None => return Err(busy.into_error()),
            Timeout::Until(deadline) => Some(deadline),
        };
        // Checked before each sleep: an attempt that locked a part of its range wakes itself when
        // it unlocks that part, and would never sleep until the deadline.
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(busy.into_error());
        }
        match &mut waiting {
            Some(waiting) if waiting.is_for(busy.table) => {
                if !waiting.sleep(deadline) {
                    return Err(busy.into_error());
                }
            }
            // Counted as a waiter before the next attempt, so that no unlock is missed.
            other => {
                let wanted = busy.is_for_copying_in().then(|| busy.range.clone());
                *other = Some(busy.table.start_waiting(wanted));
            }
        }
    }
}
