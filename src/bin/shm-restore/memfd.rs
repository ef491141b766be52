//! The memfd: received from the parent process, or new.

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use flatspan::shm::{FdPassing, ListenFds, Memfd, ShmError};
use rustix::io::fcntl_dupfd_cloexec;

use crate::received_memfd;

/// The first descriptor number of `sd_listen_fds(3)`.
const LISTEN_FDS_START: RawFd = 3;

/// The memfd, and all descriptors for the command.
pub(crate) struct Gathered {
    pub(crate) memory: Memfd,
    pub(crate) passing: FdPassing,
}

/// The descriptors for the command: those received, in order, and the memfd among or after them.
pub(crate) fn gather(received: ListenFds, name: &str) -> Result<Gathered, ShmError> {
    let position = received_memfd::position(&received, name);
    // The numbers up to here are needed for the descriptors that are passed on.
    let passed = u32::try_from(received.len()).unwrap_or(u32::MAX);
    let lowest = LISTEN_FDS_START.saturating_add_unsigned(passed) + 1;
    let mut passing = FdPassing::new();
    let mut memory = None;
    for (index, (received_name, fd)) in received.into_iter().enumerate() {
        if position == Some(index) {
            let adopted = Memfd::from_fd(fd)?;
            memory = Some(duplicate(&adopted, lowest)?);
            passing.push(name, adopted)?;
        } else {
            passing.push(&received_name, fd)?;
        }
    }
    let memory = if let Some(memory) = memory {
        memory
    } else {
        let created = Memfd::create(name, 0)?;
        let memory = duplicate(&created, lowest)?;
        passing.push(name, created)?;
        memory
    };
    Ok(Gathered { memory, passing })
}

/// A descriptor of this program, with a number that is not needed for the command.
fn duplicate(memory: &Memfd, lowest: RawFd) -> Result<Memfd, ShmError> {
    let duplicate = fcntl_dupfd_cloexec(memory, lowest).map_err(|error| ShmError::Io {
        fd: memory.as_fd().as_raw_fd(),
        operation: "duplicate it",
        source: error.into(),
    })?;
    Memfd::from_fd(duplicate)
}

/// The memfd that the parent process passed; an error if it passed none.
pub(crate) fn received_only(mut received: ListenFds, name: &str) -> Result<Memfd, ShmError> {
    Memfd::from_fd(received.take(name)?)
}
