//! Snapshots of a store that are kept beside its newest state (docs/file-format.md, "History").
//!
//! Each snapshot is a store of its own, so that every function for stores works on snapshots.

mod rollback;
mod snapshots;

pub use rollback::{CurrentState, Rollback};
pub(super) use snapshots::highest_generation;
pub use snapshots::{History, Kept};
