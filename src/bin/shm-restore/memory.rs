//! The memory: what was left for us, or new.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};

use flatspan::shm::{HandOver, ListenFds, SharedFile, ShmError};
use rustix::io::fcntl_dupfd_cloexec;

/// Descriptors are handed over from this number on.
const FIRST: RawFd = 3;

/// The memory, and what is handed over with it.
pub(crate) struct Given {
    pub(crate) memory: SharedFile,
    pub(crate) hand_over: HandOver,
}

/// All that is to be handed over: what was left for us, in order, with the memory among it or behind it.
pub(crate) fn gather(received: ListenFds, name: &str) -> Result<Given, ShmError> {
    let place = memory_among(&received, name);
    // Where what is handed over goes to is before that.
    let behind =
        FIRST.saturating_add_unsigned(u32::try_from(received.len()).unwrap_or(u32::MAX)) + 1;
    let mut hand_over = HandOver::new();
    let mut memory = None;
    for (at, (its_name, fd)) in received.into_iter().enumerate() {
        if place == Some(at) {
            let adopted = SharedFile::adopt(fd)?;
            memory = Some(another(&adopted, behind)?);
            hand_over.push(name, adopted)?;
        } else {
            hand_over.push(&its_name, fd)?;
        }
    }
    let memory = if let Some(memory) = memory {
        memory
    } else {
        let created = SharedFile::create(name, 0)?;
        let memory = another(&created, behind)?;
        hand_over.push(name, created)?;
        memory
    };
    Ok(Given { memory, hand_over })
}

/// One for us, out of the way.
fn another(memory: &SharedFile, lowest: RawFd) -> Result<SharedFile, ShmError> {
    let duplicate = fcntl_dupfd_cloexec(memory, lowest).map_err(|error| ShmError::Io {
        fd: memory.as_fd().as_raw_fd(),
        operation: "duplicate it",
        source: error.into(),
    })?;
    SharedFile::adopt(duplicate)
}

/// Only what was left for us.
pub(crate) fn adopted(mut received: ListenFds, name: &str) -> Result<SharedFile, ShmError> {
    SharedFile::adopt(received.take(name)?)
}

/// Where it is, by name. A single descriptor that nobody named is it unless it is something else altogether.
fn memory_among(received: &ListenFds, name: &str) -> Option<usize> {
    let place = received.place_of(name)?;
    let is_it = received.is_named() || received.fds().nth(place).is_some_and(is_memfd);
    is_it.then_some(place)
}

fn is_memfd(fd: impl AsFd) -> bool {
    let copy: Result<OwnedFd, _> = fd.as_fd().try_clone_to_owned();
    let checked = copy.map(SharedFile::adopt);
    !matches!(checked, Ok(Err(ShmError::NotAMemfd { .. })))
}
