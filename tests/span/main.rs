//! The group as one byte array, through its public interface.

#[path = "../../fuzz/properties/layout.rs"]
mod layout_property;
#[path = "../support/mod.rs"]
mod support;

mod aliasing;
#[cfg(feature = "tokio")]
mod async_cursor;
#[cfg(feature = "tokio")]
mod async_io;
mod budget;
mod building;
#[cfg(feature = "bytes")]
mod bytes_impls;
mod closing;
#[cfg(all(feature = "bytes", feature = "rayon", feature = "tokio"))]
mod concurrent_model;
mod containment;
mod content;
mod cursor;
mod entries;
mod errors;
mod fairness;
mod file_ops;
mod flush_advise;
mod full_disk;
mod growing;
mod guards;
mod hash_in_place;
#[cfg(feature = "rayon")]
mod hash_run;
mod hashing;
mod layout;
mod lengths;
mod many_files;
mod model;
mod moving;
mod ordinary_user;
mod padding;
#[cfg(feature = "positioned-io")]
mod positioned_io_impls;
mod ranges;
mod sharing;
mod short_files;
mod sigbus_handler;
mod socket_io;
#[cfg(any(feature = "stream", feature = "http-body"))]
mod streams;
mod stress;
mod syncing;
mod truncation;
mod unprivileged;
mod vectored_io;
#[cfg(feature = "rayon")]
mod verifying;
#[cfg(feature = "rayon")]
mod verifying_entries;
mod zero_copy_sender;
