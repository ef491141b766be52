//! Kernel facilities, one file each: thin, `std::io::Result` out, no type of another layer in.
//!
//! What the rest of the crate asks of the system goes through here or through `std`; where a call
//! is `unsafe`, its proof is in the file of that call and nowhere else.

pub(crate) mod advice;
pub(crate) mod copy;
pub(crate) mod datagram;
pub(crate) mod descriptor;
pub(crate) mod fallocate;
pub(crate) mod fate;
pub(crate) mod flock;
pub(crate) mod identity;
pub(crate) mod inherited;
pub(crate) mod limits;
pub(crate) mod memfd;
pub(crate) mod open;
pub(crate) mod pagemap;
pub(crate) mod pidfd;
mod platform;
pub(crate) mod process_tree;
pub(crate) mod ptrace;
pub(crate) mod relocate;
pub(crate) mod reserve;
pub(crate) mod room;
pub(crate) mod rotational;
pub(crate) mod share;
pub(crate) mod sigbus;
pub(crate) mod sparse;
pub(crate) mod transfer;
pub(crate) mod userfaultfd;
pub(crate) mod writeback;
