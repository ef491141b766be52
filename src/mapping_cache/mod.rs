//! A cache of file mappings with a budget and least-recently-used eviction.
//!
//! A [`MappingCache`] is shared by any number of files and groups. A [`CachedFile`] is a path with
//! a declared length. Its bytes are copied out and in ([`CachedFile::read_at`],
//! [`CachedFile::write_at`]), or its windows are pinned in memory ([`CachedFile::pin`]).
//!
//! Copies use positioned I/O by default ([`CopyMethod::Auto`]). Windows are mapped for pins and
//! spans, for hashing in place, and by [`CopyMethod::Mapped`]. With plain reads and writes,
//! [`CacheStats::mapped_bytes`] therefore usually stays 0.
//!
//! A mapping is **poisoned** when one of its pages was lost and replaced by zeros
//! ([`install_sigbus_handler`]). Using it then returns [`MappingError::Poisoned`]. The next pin of
//! the window maps it again.
//!
//! Guarantees of this layer:
//!
//! - **Hits take no lock.** Pinning a mapped window adds one to an atomic counter and reads the
//!   state of the window. No `open`, `fallocate`, `mmap` or `munmap` runs under a lock that a hit
//!   needs.
//! - **The budget is exact.** Idle windows are evicted before it is exceeded. Windows in use may
//!   exceed it, unless [`BudgetPolicy::Fail`] is chosen. A window is charged until it is unmapped.
//!   Dropping the last handle of a file unmaps all of its windows.
//! - **No signal.** The kernel makes all copies. A truncated file or a full disk is an error that
//!   names the file, never SIGBUS. Only the raw pointers of a [`Pin`] can raise the signal.
//! - **Few descriptors.** A file has a descriptor while it is mapped, extended or synced, and from
//!   its first write until the next successful sync. A bounded number is kept open for copies.
//! - **A file is its identity**, not its path. Repeated paths and hard links share their windows.
//!   A path that leads to another file than before is an error.
//!
//! This layer knows no groups, no piece hashes and no stores.

// | module | purpose | uses |
// | --- | --- | --- |
// | `stripe`, `sync`, `options`, `stats`, `error`, `location` | small types | each other |
// | `range_lock` | range locks of one file | small types |
// | `window` | window arithmetic, slots, budget | small types |
// | `file` | a file and its state | `range_lock`, `window` |
// | `pinning` | pins, and mapping a window | `file`, `range_lock`, `window` |
// | `io` | copies, sockets, advice | `pinning`, `file`, `range_lock`, `window` |
// | `cache` | the public handle | `file` |

mod cache;
mod error;
mod file;
mod io;
mod location;
mod options;
mod pinning;
mod range_lock;
mod stats;
mod stripe;
mod sync;
mod window;

pub use cache::{MappingCache, install_sigbus_handler};
pub use error::MappingError;
pub use file::CachedFile;
pub use io::Advice;
pub(crate) use io::{
    BufferRange, allow_zerocopy, next_completion, receive, send, send_zerocopy,
    wait_for_completions,
};
pub use location::Location;
pub use options::{
    Access, BudgetPolicy, CacheOptions, CopyMethod, FileOptions, FlushMode, Preallocation,
    PreallocationFallback, PreallocationStatus,
};
pub use pinning::Pin;
pub(crate) use pinning::PinnedRange;
pub(crate) use range_lock::{
    LockKind, RangeLock, RangeLockError, Sharing, Ticket, Timeout, lock_range_timeout,
};
pub use stats::CacheStats;
