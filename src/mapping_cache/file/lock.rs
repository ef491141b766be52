//! Range locks of a cached file.

use std::ops::Range;
use std::sync::Arc;

use super::cached_file::CachedFile;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::range_lock::{
    Busy, LockKind, RangeLock, RangeLockError, Sharing, Timeout, lock_range_timeout,
};
use crate::mapping_cache::stripe::Stripe;

/// More bytes than a file can have after any offset.
pub(super) const WHOLE_FILE: usize = if usize::BITS < 64 {
    usize::MAX
} else {
    i64::MAX as usize
};

impl CachedFile {
    /// Locks a range that is not empty. Opens the file on first use. An exclusive lock creates a
    /// missing file if the options permit it.
    pub(crate) fn lock_range(
        &self,
        range: Range<u64>,
        sharing: Sharing,
        stay: LockKind,
    ) -> Result<RangeLock<'_>, RangeLockError<'_>> {
        self.create_before_exclusive(sharing)?;
        let table = &self.state()?.registered.locks;
        match table.lock(range.clone(), sharing, stay, Stripe::mine()) {
            Ok(token) => Ok(RangeLock::new(table, token)),
            Err(conflict) => Err(RangeLockError::Busy(Busy {
                location: &self.location,
                table,
                range,
                sharing,
                stay,
                conflict,
            })),
        }
    }

    /// Locks a range for a copy and waits for other copies. Returns `None` for an empty range.
    pub(in crate::mapping_cache) fn lock_for_copy(
        &self,
        offset: u64,
        len: usize,
        sharing: Sharing,
    ) -> Result<Option<RangeLock<'_>>, MappingError> {
        if len == 0 {
            return Ok(None);
        }
        let range = offset..offset + len as u64;
        let lock = lock_range_timeout(Timeout::Copies, || {
            self.lock_range(range.clone(), sharing, LockKind::Copy)
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
