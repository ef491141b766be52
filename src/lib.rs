#![cfg_attr(
    all(feature = "snapshot", feature = "shm", feature = "pieces"),
    doc = include_str!("../README.md")
)]
#![cfg_attr(
    not(all(feature = "snapshot", feature = "shm", feature = "pieces")),
    doc = "A group of files as one byte array, and memory that outlives its process."
)]
#![cfg_attr(
    not(all(feature = "snapshot", feature = "shm", feature = "rayon")),
    expect(
        dead_code,
        reason = "the lower layers serve features that are switched off"
    )
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

// Tests of stores are compiled into this crate's own, too.
#[cfg(all(test, not(loom)))]
extern crate self as flatspan;

#[cfg(all(feature = "snapshot", feature = "shm", feature = "rayon", not(loom)))]
mod auto_traits;
pub mod mapping_cache;
#[cfg(feature = "snapshot")]
mod numbers;
#[cfg(feature = "shm")]
pub mod shm;
#[cfg(feature = "snapshot")]
pub mod snapshot;
pub mod span;
mod sys;

pub use mapping_cache::MappingCache;
#[cfg(feature = "snapshot")]
pub use snapshot::{Store, StoreOptions};
pub use span::{Group, GroupBuilder, Span, SpanMut};
