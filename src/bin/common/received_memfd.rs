//! The memfd among the descriptors that the parent process passed.

use std::os::fd::AsFd;

use flatspan::shm::{ListenFds, Memfd, ShmError};

/// The position of the descriptor with this name. A single descriptor without a name is taken for
/// the memfd, unless it is another kind of file.
pub(crate) fn position(received: &ListenFds, name: &str) -> Option<usize> {
    let position = received.position(name)?;
    let is_candidate = received.has_names() || received.fds().nth(position).is_some_and(is_memfd);
    is_candidate.then_some(position)
}

fn is_memfd(fd: impl AsFd) -> bool {
    let copy = fd.as_fd().try_clone_to_owned();
    let checked = copy.map(Memfd::from_fd);
    !matches!(checked, Ok(Err(ShmError::NotAMemfd { .. })))
}
