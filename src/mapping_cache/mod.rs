//! Windows of files, mapped on demand and kept by recency within a hard budget.
//!
//! A [`MappingCache`] is shared by any number of files and groups. A [`CachedFile`] is a path with a
//! declared length; its bytes are copied out and in ([`CachedFile::read_at`],
//! [`CachedFile::write_at`]) or its windows are pinned in memory ([`CachedFile::pin`]).
//!
//! The rules this layer keeps:
//!
//! - **Hits take no lock.** Pinning a mapped window is one atomic addition in a stripe of its pins and a
//!   look at its state (the protocol is in `slot`, checked with loom). No `open`, `fallocate`, `mmap` or `munmap` happens
//!   under a lock that a hit needs.
//! - **The budget is hard** for what is not pinned, and exact: the credit of a window returns after it
//!   was unmapped, and dropping the last handle of a file gives everything back.
//! - **No signal.** Copies are made by the kernel; a truncated file or a full disk is an error that
//!   names the file, never SIGBUS. Who takes raw pointers from a [`Pin`] is on his own.
//! - **Descriptors are few.** A file has one while it is being mapped, extended or synced, and from its
//!   first unsynced write until its barrier returned; beyond that a bounded number is kept for copies.
//! - **A file is its identity**, not its path: repeated paths and hard links share their windows, and a
//!   path that leads to another file than before is refused.
//!
//! What it does not know: groups, roots of torrents, pieces.

mod cache;
mod claims;
mod clone;
mod copy;
mod descriptors;
mod directories;
mod entry;
mod error;
mod existence;
mod file;
mod hints;
mod ledger;
mod length;
mod location;
mod map;
mod options;
mod parking;
mod part;
mod pin;
mod relocate;
mod resize;
mod shared;
mod slot;
mod slot_table;
mod stats;
mod stripe;
mod sync;
mod transfer;
mod unsynced;
mod window;

pub use cache::{MappingCache, install_sigbus_dispatcher};
pub(crate) use claims::{Sharing, Stay};
pub use directories::UnsyncedDirectories;
pub use error::MappingError;
pub use file::CachedFile;
pub use hints::Advice;
pub use location::Location;
pub use options::{
    Access, CacheOptions, CopyPath, FileOptions, FlushMode, Preallocation, Reservation,
    Unreservable, WhenPinned,
};
pub(crate) use part::{Claim, Part, Patience, Refused, claim_patiently};
pub use pin::Pin;
pub use stats::CacheStats;
pub(crate) use transfer::{
    Stretch, allow_zerocopy, reap, receive, send, send_zerocopy, wait_for_completions,
};
