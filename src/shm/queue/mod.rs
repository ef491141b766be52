//! The queue: a program commits generations of its state, and a host copies them, and neither waits for the other
//! (docs/shared-memory-protocol.md).

#[cfg(not(all(loom, test)))]
mod client;
mod client_protocol;
mod error;
mod layout;
#[cfg(not(all(loom, test)))]
mod host;
#[cfg(not(all(loom, test)))]
mod store_image;
#[cfg(all(test, not(loom)))]
mod torn_copy_tests;
#[cfg(all(loom, test))]
mod loom_models;
#[cfg(not(all(loom, test)))]
mod mapped_words;
mod host_protocol;
mod shared_words;

#[cfg(not(all(loom, test)))]
pub use client::{Commit, QueueOptions, Writer};
pub use error::QueueError;
#[cfg(not(all(loom, test)))]
pub use host::{Host, HostOptions, Snapshot};
