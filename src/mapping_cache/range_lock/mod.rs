//! Shared and exclusive locks on byte ranges of one file, within the process.

mod guard;
mod lock_table;

pub(in crate::mapping_cache) use guard::Busy;
pub(crate) use guard::{RangeLock, RangeLockError, Timeout, lock_range_timeout};
pub(in crate::mapping_cache) use lock_table::LockTable;
pub(crate) use lock_table::{LockKind, Sharing};
