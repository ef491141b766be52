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
use std::time::Duration;

use libc::{c_void, iovec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

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
    // SAFETY: forwarded to the caller.
    match unsafe { send_message(to, parts, 0) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {}
        done => return done,
    }
    let parts = vectors(parts);
    loop {
        // SAFETY: `parts` lives during the call; the caller vouches for the memory the parts name, which
        // is only read, and every address of it is checked by the kernel. `parts` has no more than IOV_MAX entries, so their number fits.
        let written = unsafe { libc::writev(to.as_raw_fd(), parts.as_ptr(), parts.len() as i32) };
        match count(written) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// As [`send`], to a socket, without a copy by the kernel either, where it can: until the completion of this
/// call is [reaped](reap), the pages are being sent. `ENOBUFS` when too many are under way.
///
/// # Safety
///
/// As for [`send`], with the mappings and what is in them staying until the completion.
pub(crate) unsafe fn send_zerocopy(to: BorrowedFd<'_>, parts: &[RawPart]) -> io::Result<usize> {
    // SAFETY: forwarded to the caller.
    unsafe { send_message(to, parts, libc::MSG_ZEROCOPY) }
}

unsafe fn send_message(
    to: BorrowedFd<'_>,
    parts: &[RawPart],
    flags: libc::c_int,
) -> io::Result<usize> {
    let parts = vectors(parts);
    // SAFETY: a `msghdr` of zeros is one: no address, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut();
    message.msg_iovlen = parts.len() as _;
    loop {
        let flags = flags | libc::MSG_NOSIGNAL;
        // SAFETY: `message` and `parts` live during the call; the caller vouches for the memory the parts
        // name, which is only read, and every address of it is checked by the kernel.
        let sent = unsafe { libc::sendmsg(to.as_raw_fd(), &raw const message, flags) };
        match count(sent) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Allows [`send_zerocopy`] on a socket.
pub(crate) fn allow_zerocopy(socket: BorrowedFd<'_>) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option takes an int, which lives during the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            (&raw const yes).cast::<c_void>(),
            len,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Completions of [`send_zerocopy`]: which calls on this socket, counted from 0, are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) first: u32,
    /// Inclusive.
    pub(crate) last: u32,
    /// The kernel made a copy after all.
    pub(crate) was_copied: bool,
}

/// The next completions, if any are there; does not wait. See
/// [MSG_ZEROCOPY](https://docs.kernel.org/networking/msg_zerocopy.html).
pub(crate) fn reap(socket: BorrowedFd<'_>) -> io::Result<Option<Completion>> {
    // From linux/errqueue.h.
    const ORIGIN_ZEROCOPY: u8 = 5;
    const CODE_COPIED: u8 = 1;
    // Room for one `sock_extended_err` with an address, aligned as headers are.
    let mut control = [0u64; 16];
    // SAFETY: a `msghdr` of zeros is one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast::<c_void>();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: `message` names `control`, which lives during the call and is as long as it says.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    if let Err(error) = count(received) {
        return match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the kernel filled `message`; the header it gives lies in `control`, or is null.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: null, or a header inside `control`, which is aligned for it.
    while let Some(found) = unsafe { header.as_ref() } {
        let of_errors = matches!(
            (found.cmsg_level, found.cmsg_type),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
        );
        if of_errors
            && found.cmsg_len >= size_of::<libc::cmsghdr>() + size_of::<libc::sock_extended_err>()
        {
            // SAFETY: the data of the header lies in `control` and is long enough (checked).
            let error = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::sock_extended_err>()
                    .read_unaligned()
            };
            if error.ee_origin == ORIGIN_ZEROCOPY && error.ee_errno == 0 {
                return Ok(Some(Completion {
                    first: error.ee_info,
                    last: error.ee_data,
                    was_copied: error.ee_code == CODE_COPIED,
                }));
            }
        }
        // SAFETY: as for the first.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Err(io::Error::other("the error queue held something else"))
}

/// Waits until there may be completions; false after the timeout.
pub(crate) fn wait_for_completions(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(&socket, PollFlags::empty())];
    let timeout = Timespec::try_from(timeout).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
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
