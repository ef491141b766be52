//! The memfd: received from the parent process, or new.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use flatspan::shm::{FdPassing, ListenFds, Memfd, Notify, ShmError};

use crate::cli::Cli;
use crate::received_memfd;

/// Limit for the service manager to store a descriptor.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The descriptors for the command: those received, in order, and the memfd among or after them.
pub(crate) fn gather(cli: &Cli, received: ListenFds) -> Result<FdPassing, ShmError> {
    let position = received_memfd::position(&received, &cli.fd_name);
    let mut passing = FdPassing::new();
    for (index, (name, fd)) in received.into_iter().enumerate() {
        if position == Some(index) {
            passing.push(&cli.fd_name, adopt(cli, fd)?)?;
        } else {
            passing.push(&name, fd)?;
        }
    }
    if position.is_none() {
        passing.push(&cli.fd_name, create(cli)?)?;
    }
    Ok(passing)
}

fn adopt(cli: &Cli, fd: OwnedFd) -> Result<Memfd, ShmError> {
    let memfd = Memfd::from_fd(fd)?;
    if let Some(bytes) = cli.size {
        memfd.grow_to(bytes)?;
    }
    Ok(memfd)
}

fn create(cli: &Cli) -> Result<Memfd, ShmError> {
    let name = cli.memfd_name.as_ref().unwrap_or(&cli.fd_name);
    let memfd = Memfd::create(name, cli.size.unwrap_or(0))?;
    let manager = Notify::from_env()?;
    manager.store_fds(&cli.fd_name, &[memfd.as_fd()])?;
    // Wait until the manager holds a copy: the command may exit at once and close the last
    // descriptor.
    if !manager.barrier(STORE_TIMEOUT)? {
        eprintln!(
            "shm-fd: the service manager did not confirm within {} s that it stored the memfd",
            STORE_TIMEOUT.as_secs()
        );
    }
    Ok(memfd)
}
