//! Shared parts of the integration tests: needs and visible skips, temporary filesystems, a FUSE
//! daemon, child processes under limits or injected errors, an ordinary user, and measurements.
//!
//! Included by every target as `#[path = "../support/mod.rs"] mod support;`. Its rules:
//!
//! - A test that needs something this machine lacks is skipped *visibly* (see [`need`]), never
//!   silently.
//! - Guards undo everything on drop, also when a test panics. A helper process of each guard does
//!   so if the test process is killed. `.ci/run` asserts at its end that nothing is left.
//! - Every wait is bounded. The process that uses a FUSE filesystem never serves it.

#![allow(dead_code, reason = "each test target uses a part of the module")]
#![allow(
    clippy::allow_attributes,
    reason = "whether code is dead differs from target to target"
)]

pub(crate) mod campaign;
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
