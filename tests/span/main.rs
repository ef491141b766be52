//! The group as one byte array, through its public interface.

#[path = "../../fuzz/properties/layout.rs"]
mod layout_property;
#[path = "../support/mod.rs"]
mod support;

mod aliasing;
#[cfg(feature = "tokio")]
mod async_cursor;
mod budget;
mod building;
mod containment;
mod content;
mod cursor;
mod dispatcher;
mod entries;
mod errors;
mod full_disk;
mod growing;
mod guards;
#[cfg(feature = "rayon")]
mod hash_runs;
mod hashing;
mod in_place;
mod layout;
mod many_files;
mod model;
mod moving;
#[cfg(feature = "bytes")]
mod on_bytes;
#[cfg(feature = "tokio")]
mod on_tokio;
mod ordinary_user;
mod padding;
mod positioned;
mod ranges;
mod releasing;
mod sharing;
mod short_files;
mod storage;
#[cfg(any(feature = "stream", feature = "http-body"))]
mod streams;
mod stress;
mod syncing;
mod transferring;
mod truncation;
mod unprivileged;
mod upkeep;
#[cfg(feature = "rayon")]
mod verifying;
#[cfg(feature = "rayon")]
mod verifying_entries;
mod zerocopy;
