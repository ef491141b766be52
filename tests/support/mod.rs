//! What the integration tests share: needs and visible skips, temporary filesystems, a FUSE daemon of our
//! own, children of the test binary under limits or injected errors, an ordinary user, and measurements.
//!
//! Included by every target as `#[path = "../support/mod.rs"] mod support;`. The rules it keeps:
//!
//! - What this machine lacks is skipped *visibly* (see [`need`]), never silently.
//! - Guards undo everything on drop, also when a test panics; a helper process of each guard does it when
//!   the test process is killed. `.ci/run` asserts at its end that nothing is left.
//! - Every wait is bounded. A filesystem served by us is never served by the process that uses it.

#![allow(dead_code, reason = "each test target uses its part")]
#![allow(
    clippy::allow_attributes,
    reason = "whether code is dead differs from target to target"
)]

pub(crate) mod child;
pub(crate) mod cleaner;
pub(crate) mod example;
pub(crate) mod filesystem;
#[cfg(target_os = "linux")]
pub(crate) mod fuse;
#[cfg(target_os = "linux")]
mod fuse_daemon;
#[cfg(target_os = "linux")]
mod fuse_replies;
pub(crate) mod interrupt;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod need;
#[cfg(target_os = "linux")]
pub(crate) mod power;
pub(crate) mod skips;
pub(crate) mod temporary;
pub(crate) mod user;

pub(crate) use temporary::temp_dir;
