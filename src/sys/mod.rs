//! Kernel facilities, one file per system call or facility. They return `std::io::Result` and use
//! no type of another layer.
//!
//! Other layers reach the system only through this module or `std`. An `unsafe` system call is made
//! in a single file, which also proves its safety.

pub(crate) mod address_space;
pub(crate) mod fallocate;
#[cfg(feature = "shm")]
pub(crate) mod fatal_signals;
pub(crate) mod fcntl;
pub(crate) mod flock;
pub(crate) mod inherited_fds;
pub(crate) mod madvise;
pub(crate) mod memfd;
pub(crate) mod openat2;
pub(crate) mod pagemap;
pub(crate) mod pidfd;
mod platform;
pub(crate) mod process_tree;
pub(crate) mod process_vm;
pub(crate) mod ptrace;
pub(crate) mod reflink;
pub(crate) mod rename;
pub(crate) mod rlimits;
pub(crate) mod rotational;
pub(crate) mod seek_data;
pub(crate) mod sendmsg;
pub(crate) mod sigbus;
pub(crate) mod statvfs;
pub(crate) mod statx;
pub(crate) mod sync_file_range;
pub(crate) mod unix_datagram;
pub(crate) mod userfaultfd;
