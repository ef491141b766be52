//! Queue of committed generations: a client publishes its state, a host copies and stores it, and
//! neither waits for the other (docs/shared-memory-protocol.md).

#[cfg(not(all(loom, test)))]
mod byte_access;
#[cfg(not(all(loom, test)))]
mod client;
mod client_protocol;
mod error;
#[cfg(not(all(loom, test)))]
mod host;
mod host_protocol;
mod layout;
mod lineage;
#[cfg(all(loom, test))]
mod loom_models;
#[cfg(not(all(loom, test)))]
mod mapped_words;
mod shared_words;
#[cfg(not(all(loom, test)))]
mod store_image;
#[cfg(all(test, not(loom)))]
mod torn_copy_tests;

pub use lineage::Lineage;

pub use crate::numbers::Generation;
#[cfg(not(all(loom, test)))]
pub use client::{Client, QueueOptions, Update};
pub use error::QueueError;
#[cfg(not(all(loom, test)))]
pub use host::{QueueHost, QueueHostOptions, SnapshotOutcome};
