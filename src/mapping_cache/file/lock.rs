//! Range locks of a cached file.

use std::ops::Range;
use std::sync::Arc;

use super::cached_file::CachedFile;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::range_lock::{
    LockKind, RangeLock, RangeLockError, Sharing, Ticket, Timeout, lock_range_timeout,
};

/// Every byte that a file can have.
pub(super) const WHOLE_FILE: Range<u64> = 0..MAX_FILE_BYTES;

/// The length of the longest file, also where less can be mapped.
pub(super) const MAX_FILE_BYTES: u64 = i64::MAX as u64;

impl CachedFile {
    /// Locks a range that is not empty. Opens the file on first use. An exclusive lock creates a
    /// missing file if the options permit it. `ticket` is that of
    /// [`lock_range_timeout`](crate::mapping_cache::lock_range_timeout), or new.
    pub(crate) fn lock_range(
        &self,
        range: Range<u64>,
        sharing: Sharing,
        stay: LockKind,
        ticket: Ticket,
    ) -> Result<RangeLock<'_>, RangeLockError<'_>> {
        self.create_before_exclusive(sharing)?;
        let table = &self.state()?.registered.locks;
        RangeLock::of_file(&self.location, table, range, sharing, stay, ticket)
    }

    /// Locks a range for a copy and waits for other copies. Returns `None` for an empty range.
    pub(in crate::mapping_cache) fn lock_for_copy(
        &self,
        range: Range<u64>,
        sharing: Sharing,
    ) -> Result<Option<RangeLock<'_>>, MappingError> {
        if range.is_empty() {
            return Ok(None);
        }
        let lock = lock_range_timeout(Timeout::Copies, |ticket| {
            self.lock_range(range.clone(), sharing, LockKind::Copy, ticket)
        })?;
        Ok(Some(lock))
    }

    /// Returns a number that is equal for all handles of the same file in the process, including
    /// those of other caches. Opens or creates the file like [`lock_range`](Self::lock_range).
    pub(crate) fn number(&self, sharing: Sharing) -> Result<usize, MappingError> {
        self.create_before_exclusive(sharing)?;
        Ok(Arc::as_ptr(&self.state()?.registered).addr())
    }

    fn create_before_exclusive(&self, sharing: Sharing) -> Result<(), MappingError> {
        if self.opened().is_none() && sharing == Sharing::Exclusive {
            self.create_if_missing()?;
        }
        Ok(())
    }
}
