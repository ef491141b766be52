//! Shared and exclusive locks on byte ranges of one file, within the process.

mod conflict;
mod guard;
mod lock_table;
mod slab;
mod waiter;
mod wanted;

pub(crate) use conflict::{LockKind, Sharing};
pub(crate) use guard::{RangeLock, RangeLockError, Timeout, lock_range_timeout};
pub(in crate::mapping_cache) use lock_table::LockTable;
pub(crate) use wanted::Ticket;
