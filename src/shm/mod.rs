//! State in shared memory that outlives the program that uses it.
//!
//! A [`Memfd`] is a memfd that one program passes to the next. The variables `LISTEN_FDS` and
//! `LISTEN_FDNAMES` announce its descriptor under the name [`SHARED_FD_NAME`], as
//! [`sd_listen_fds(3)`](https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html) specifies.
//! [`ListenFds`] receives descriptors, [`FdPassing`] passes them on, and [`Notify`] lets a service
//! manager keep them for the next start.
//!
//! A program commits generations of its state by a [`queue`], which a host copies concurrently. The
//! memory of an unmodified program is stored by [`TransparentHost`]: when the program exits, or at
//! points in time for which a [`Freezer`] stops it.
//!
//! Rules of this layer:
//!
//! - **No references to shared memory,** except to atomics: other processes write it at any time.
//! - **A memfd is restored once.** The shrink seal, added last, marks it as restored.
//! - **External input is untrusted:** variables, numbers and descriptors. An error names the input.
//! - **Waiting for another process is bounded** by a timeout.
//!
//! The layer does not know how a state is stored; `snapshot` does.

mod absence;
mod environment;
mod error;
mod fd_name;
mod fd_passing;
#[cfg(not(all(loom, test)))]
mod freeze;
#[cfg(not(all(loom, test)))]
mod freeze_error;
#[cfg(not(all(loom, test)))]
mod freeze_tree;
mod listen_fds;
mod memfd;
mod memfd_map;
mod notify;
mod notify_address;
#[cfg(not(all(loom, test)))]
mod process_id;
#[cfg(not(all(loom, test)))]
mod process_users;
#[cfg(feature = "snapshot")]
pub mod queue;
#[cfg(all(feature = "snapshot", not(all(loom, test))))]
mod transparent_host;

pub use absence::Absence;
pub use error::ShmError;
pub use fd_name::SHARED_FD_NAME;
pub use fd_passing::{FdPassing, PlacedFds};
#[cfg(not(all(loom, test)))]
pub use freeze::{Freezer, Frozen};
#[cfg(not(all(loom, test)))]
pub use freeze_error::FreezeError;
pub use listen_fds::ListenFds;
pub use memfd::Memfd;
pub use memfd_map::{MemfdMap, MemfdMapMut};
pub use notify::Notify;
#[cfg(all(feature = "snapshot", not(all(loom, test))))]
pub use transparent_host::{TransparentHost, TransparentHostError, TransparentHostOptions};

#[cfg(not(all(loom, test)))]
#[doc(hidden)]
pub mod process;
