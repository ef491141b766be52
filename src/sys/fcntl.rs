//! Numbers and flags of descriptors.
//!
//! See [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// Duplicates a descriptor to the lowest free number from `lowest` on. The duplicate is
/// close-on-exec.
pub(crate) fn duplicate_from(fd: impl AsFd, lowest: RawFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, lowest)?)
}

/// Sets or clears the close-on-exec flag.
pub(crate) fn set_close_on_exec(fd: impl AsFd, close: bool) -> io::Result<()> {
    let flags = if close {
        FdFlags::CLOEXEC
    } else {
        FdFlags::empty()
    };
    Ok(fcntl_setfd(fd, flags)?)
}

/// Returns whether the descriptor was opened for reading and writing.
pub(crate) fn is_read_write(fd: impl AsFd) -> io::Result<bool> {
    let flags = fcntl_getfl(fd)?;
    // An `O_PATH` descriptor permits neither, whatever its access mode.
    Ok(flags & OFlags::ACCMODE == OFlags::RDWR && !flags.contains(OFlags::PATH))
}

/// Target of the `/proc/self/fd` link of a descriptor, for messages.
pub(crate) fn target(number: RawFd) -> String {
    match std::fs::read_link(format!("/proc/self/fd/{number}")) {
        Ok(path) => path.display().to_string(),
        Err(error) => format!("unknown file: {error}"),
    }
}

/// As [`target`].
pub(crate) fn target_of(fd: impl AsFd) -> String {
    target(fd.as_fd().as_raw_fd())
}
