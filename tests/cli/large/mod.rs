//! Large stores: checkpointed, killed, restored, exported, verified.
//!
//! A process of its own has the memory of the store. It fills all pages, later about one in a hundred again, in numbered
//! rounds, each of which a checkpoint makes durable. It is killed while a base checkpoint is under way, and again
//! behind one. Each time the store is verified and exported by the program, restored by copy and by map, every page is
//! compared with what the round has there, and the bytes that were exported with those in memory.

mod content;
mod killed;
mod process;
mod worker;

use std::time::Duration;

/// How large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) part_bytes: u64,
    /// How long any step may take.
    pub(crate) patience: Duration,
}
