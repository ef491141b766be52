//! Public store: opening, creating and restoring it, transactions and write guards.

mod assemble;
mod create;
mod open;
mod report;
mod restore;
mod restore_target;
mod rollback;
mod select;
mod store_handle;
mod transaction;
#[cfg(feature = "zerocopy")]
mod typed;
mod write_guard;

#[cfg(all(test, not(loom)))]
pub(crate) use open::in_directory as open_in_directory;
pub use report::OpenReport;
pub use rollback::{CurrentState, Rollback};
pub use store_handle::Store;
pub use transaction::Transaction;
#[cfg(feature = "zerocopy")]
pub use typed::TypedView;
pub use write_guard::WriteGuard;
