//! Kernel facilities, one file each: thin, `std::io::Result` out, no type of another layer in.
//!
//! What the rest of the crate asks of the system goes through here or through `std`; where a call
//! is `unsafe`, its proof is in the file of that call and nowhere else.

pub(crate) mod address_space;
pub(crate) mod fallocate;
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
