//! Numbers and flags of descriptors. See [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// Another descriptor of the same open file, with the lowest free number from `lowest` on. An exec closes it.
pub(crate) fn duplicate_from(fd: impl AsFd, lowest: RawFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, lowest)?)
}

/// Does an exec close it, or leave it to the new program?
pub(crate) fn set_close_on_exec(fd: impl AsFd, closes: bool) -> io::Result<()> {
    let flags = if closes {
        FdFlags::CLOEXEC
    } else {
        FdFlags::empty()
    };
    Ok(fcntl_setfd(fd, flags)?)
}

/// Was it opened for reading and writing?
pub(crate) fn is_read_write(fd: impl AsFd) -> io::Result<bool> {
    let flags = fcntl_getfl(fd)?;
    // A path only (`O_PATH`) is for neither.
    Ok(flags & OFlags::ACCMODE == OFlags::RDWR && !flags.contains(OFlags::PATH))
}

/// What a number is open on, as the kernel names it.
pub(crate) fn target(number: RawFd) -> String {
    std::fs::read_link(format!("/proc/self/fd/{number}")).map_or_else(
        |error| format!("something unknown ({error})"),
        |path| path.display().to_string(),
    )
}

/// As [`target`].
pub(crate) fn target_of(fd: impl AsFd) -> String {
    target(fd.as_fd().as_raw_fd())
}
