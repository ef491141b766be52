//! State in shared memory that outlives the program that works on it.
//!
//! A [`SharedFile`] is a file of memory (a memfd) that one program hands to the next: its descriptor is announced by the
//! variables `LISTEN_FDS` and `LISTEN_FDNAMES`, as `sd_listen_fds(3)` has it, under the name [`SHARED_FD_NAME`]. [`ListenFds`]
//! receives descriptors, [`HandOver`] passes them on, and a service manager keeps them for the next start ([`Notify`]).
//!
//! The rules this layer keeps:
//!
//! - **No references to shared memory,** but to atomics: other processes write it at any time.
//! - **A file of memory is restored once,** and the seal against shrinking, added last, says that it was (hazard 25).
//! - **What comes from outside is untrusted**: variables, numbers, descriptors. A refusal names what it is about.
//! - **Nothing waits for ever** on another process.
//!
//! In that memory a program may commit generations by a [`queue`], which a host copies while it runs. The memory of a program
//! that knows nothing of us is kept by [`Unaware`], at its end, or at instants for which a [`Freezer`] stops it.
//!
//! What it does not know: how a state is stored (`snapshot` does).

mod environment;
mod error;
mod fd_name;
mod fd_passing;
#[cfg(not(all(loom, test)))]
mod freeze;
#[cfg(not(all(loom, test)))]
mod freeze_error;
mod listen_fds;
mod memfd;
mod memfd_map;
mod notify;
mod notify_address;
#[cfg(not(all(loom, test)))]
mod process_id;
#[cfg(not(all(loom, test)))]
pub mod process_users;
pub mod queue;
#[cfg(not(all(loom, test)))]
mod transparent_host;

pub use error::ShmError;
pub use fd_name::SHARED_FD_NAME;
pub use fd_passing::{HandOver, Placed};
#[cfg(not(all(loom, test)))]
pub use freeze::{Freezer, Frozen};
#[cfg(not(all(loom, test)))]
pub use freeze_error::FreezeError;
pub use listen_fds::{Absent, ListenFds};
pub use memfd::SharedFile;
pub use memfd_map::{SharedMap, SharedMapMut};
pub use notify::Notify;
#[cfg(not(all(loom, test)))]
pub use process_id::ProcessId;
#[cfg(not(all(loom, test)))]
pub use transparent_host::{Unaware, UnawareError, UnawareOptions};

#[cfg(not(all(loom, test)))]
pub use crate::sys::fatal_signals::FAULT_SIGNALS;
