//! The memory: what was left for us, or new.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use flatspan::shm::{HandOver, ListenFds, Notify, SharedFile, ShmError};

use crate::cli::Cli;

/// So long the service manager may take to put a descriptor aside.
const STORING: Duration = Duration::from_secs(5);

/// All that is to be handed over: what was left for us, in order, with the memory among it or behind it.
pub(crate) fn gather(cli: &Cli, received: ListenFds) -> Result<HandOver, ShmError> {
    let place = memory_among(&received, &cli.fd_name);
    let mut hand_over = HandOver::new();
    for (at, (name, fd)) in received.into_iter().enumerate() {
        if place == Some(at) {
            hand_over.push(&cli.fd_name, adopt(cli, fd)?)?;
        } else {
            hand_over.push(&name, fd)?;
        }
    }
    if place.is_none() {
        hand_over.push(&cli.fd_name, create(cli)?)?;
    }
    Ok(hand_over)
}

/// Where it is, by name. A single descriptor that nobody named is it unless it is something else altogether.
fn memory_among(received: &ListenFds, name: &str) -> Option<usize> {
    let place = received.place_of(name)?;
    let is_it = received.is_named() || received.fds().nth(place).is_some_and(is_memfd);
    is_it.then_some(place)
}

fn is_memfd(fd: impl AsFd) -> bool {
    let copy = fd.as_fd().try_clone_to_owned();
    let checked = copy.map(SharedFile::adopt);
    !matches!(checked, Ok(Err(ShmError::NotAMemfd { .. })))
}

fn adopt(cli: &Cli, fd: OwnedFd) -> Result<SharedFile, ShmError> {
    let memory = SharedFile::adopt(fd)?;
    if let Some(bytes) = cli.size {
        memory.grow(bytes)?;
    }
    Ok(memory)
}

fn create(cli: &Cli) -> Result<SharedFile, ShmError> {
    let name = cli.name.as_ref().unwrap_or(&cli.fd_name);
    let memory = SharedFile::create(name, cli.size.unwrap_or(0))?;
    let manager = Notify::from_env()?;
    manager.store(&cli.fd_name, &[memory.as_fd()])?;
    // Before the command may end, and with it the last descriptor of the memory.
    if !manager.barrier(STORING)? {
        eprintln!("shm-fd: the service manager did not say in time that it has stored the memory");
    }
    Ok(memory)
}
