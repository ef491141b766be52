//! Large stores: checkpointed, killed, restored, exported, verified.
//!
//! A separate process has the store open. In numbered rounds it writes all pages, later about one
//! in a hundred, and a checkpoint makes each round durable. The test kills it during a base
//! checkpoint, and again after one. Each time the program verifies and exports the store, and the
//! store is restored by copy and by map. Every page is compared with the content of its round, and
//! the exported bytes with the memory.

mod content;
mod killed;
mod process;
mod worker;

use std::time::Duration;

/// Dimensions of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) part_bytes: u64,
    /// Limit for each step.
    pub(crate) timeout: Duration,
}
