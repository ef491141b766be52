//! Moving bytes between mapped memory and a descriptor, by raw addresses: no reference is made, and a bad page
//! is `EFAULT` or fewer bytes, never a signal. See
//! [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html) and
//! [`readv(2)`](https://man7.org/linux/man-pages/man2/readv.2.html).
//!
//! # Safety
//!
//! The caller proves of every part that it lies in a mapping that outlives the call (docs/unsafe.md, U1).
#![expect(unsafe_code, reason = "system calls on raw addresses")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_void, iovec};

/// A part of mapped memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawPart {
    pub(crate) start: *mut u8,
    pub(crate) len: usize,
}

/// So many parts the kernel takes in one call (`IOV_MAX`).
pub(crate) const PARTS_MAX: usize = 1024;

/// Writes parts to a socket, pipe or file, as many bytes as it takes. A peer that has gone is `EPIPE`;
/// for sockets no SIGPIPE is raised.
///
/// # Safety
///
/// The parts lie in mappings that outlive the call; no `&mut` covers them.
pub(crate) unsafe fn send(to: BorrowedFd<'_>, parts: &[RawPart]) -> io::Result<usize> {
    let parts = vectors(parts);
    // SAFETY: a `msghdr` of zeros is one: no address, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut();
    message.msg_iovlen = parts.len() as _;
    loop {
        // SAFETY: `message` and `parts` live during the call; the caller vouches for the memory the parts
        // name, which is only read, and every address of it is checked by the kernel.
        let sent = unsafe { libc::sendmsg(to.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match count(sent) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => return done,
        }
        // SAFETY: as above. `parts` has no more than IOV_MAX entries, so their number fits.
        let written = unsafe { libc::writev(to.as_raw_fd(), parts.as_ptr(), parts.len() as i32) };
        match count(written) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Reads from a socket, pipe or file into parts, as many bytes as there are; 0 at its end.
///
/// # Safety
///
/// The parts lie in writable mappings that outlive the call; no reference covers them.
pub(crate) unsafe fn receive(from: BorrowedFd<'_>, parts: &[RawPart]) -> io::Result<usize> {
    let parts = vectors(parts);
    loop {
        // SAFETY: `parts` lives during the call; the caller vouches for the memory they name, and every
        // address of it is checked by the kernel.
        let read = unsafe { libc::readv(from.as_raw_fd(), parts.as_ptr(), parts.len() as i32) };
        match count(read) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn vectors(parts: &[RawPart]) -> Vec<iovec> {
    let parts = parts.iter().take(PARTS_MAX);
    let vectors = parts.map(|part| iovec {
        iov_base: part.start.cast::<c_void>(),
        iov_len: part.len,
    });
    vectors.collect()
}

fn count(done: isize) -> io::Result<usize> {
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}
