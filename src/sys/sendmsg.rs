//! Transfers between mapped memory and a descriptor by raw addresses.
//!
//! No reference to the memory is made. A bad page causes `EFAULT` or a short transfer, never a
//! signal. See [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html),
//! [`recvmsg(2)`](https://man7.org/linux/man-pages/man2/recvmsg.2.html),
//! [`readv(2)`](https://man7.org/linux/man-pages/man2/readv.2.html) and
//! [MSG_ZEROCOPY](https://docs.kernel.org/networking/msg_zerocopy.html).
//!
//! # Safety
//!
//! The caller proves that each part is inside a mapping that outlives the call (docs/unsafe.md,
//! U1).
#![expect(unsafe_code, reason = "system calls on raw addresses")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
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

/// Maximum number of parts in one call (`IOV_MAX`).
pub(crate) const PARTS_MAX: usize = 1024;

/// Writes parts to a socket, pipe or file. Returns the number of written bytes.
///
/// A closed peer is `EPIPE`. A socket raises no SIGPIPE.
///
/// # Safety
///
/// The parts are inside mappings that outlive the call; no `&mut` covers them.
pub(crate) unsafe fn send(to: BorrowedFd<'_>, parts: &[RawPart]) -> io::Result<usize> {
    // SAFETY: forwarded to the caller.
    match unsafe { send_message(to, parts, 0) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => {}
        done => return done,
    }
    let parts = vectors(parts);
    loop {
        // SAFETY: `parts` outlives the call. It has at most IOV_MAX entries, so their number fits.
        // The caller guarantees the memory, which is only read, and the kernel checks every
        // address.
        let written = unsafe { libc::writev(to.as_raw_fd(), parts.as_ptr(), parts.len() as i32) };
        match count(written) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Writes parts to a socket like [`send`], without a copy by the kernel if possible.
///
/// The kernel reads the pages until the completion of the call is [read](next_completion). Fails
/// with `ENOBUFS` if too many calls are incomplete.
///
/// # Safety
///
/// The requirements of [`send`]. The mappings and their content must stay until the completion.
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
    // SAFETY: zeros are a valid `msghdr` without address and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut();
    message.msg_iovlen = parts.len() as _;
    loop {
        let flags = flags | libc::MSG_NOSIGNAL;
        // SAFETY: `message` and `parts` outlive the call. The caller guarantees the memory, which
        // is only read, and the kernel checks every address.
        let sent = unsafe { libc::sendmsg(to.as_raw_fd(), &raw const message, flags) };
        match count(sent) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Enables [`send_zerocopy`] on a socket.
pub(crate) fn allow_zerocopy(socket: BorrowedFd<'_>) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option takes an int, which outlives the call.
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

/// Range of completed [`send_zerocopy`] calls of a socket, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) first: u32,
    /// Last call, inclusive.
    pub(crate) last: u32,
    /// Whether the kernel copied the data.
    pub(crate) was_copied: bool,
}

/// Returns the next completions of a socket, `None` if there are none. Does not wait.
pub(crate) fn next_completion(socket: BorrowedFd<'_>) -> io::Result<Option<Completion>> {
    // Room for one `sock_extended_err` with an address, aligned like a header.
    let mut control = [0u64; 16];
    // SAFETY: zeros are a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast::<c_void>();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: `message` names `control` with its length, and both outlive the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    if let Err(error) = count(received) {
        return match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the kernel filled `message`. The returned header is inside `control`, or null.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: null, or a header inside `control`, which is aligned for it.
    while let Some(found) = unsafe { header.as_ref() } {
        // SAFETY: the header is inside `control`, which outlives the call.
        if let Some(completion) = unsafe { parse_completion(found) } {
            return Ok(Some(completion));
        }
        // SAFETY: as for the first header.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Err(io::Error::other(
        "the error queue of the socket holds an unknown message",
    ))
}

/// Parses a control message, `None` if it is no completion.
///
/// # Safety
///
/// The header is followed by `cmsg_len` bytes in total.
unsafe fn parse_completion(header: &libc::cmsghdr) -> Option<Completion> {
    // From linux/errqueue.h.
    const ORIGIN_ZEROCOPY: u8 = 5;
    const CODE_COPIED: u8 = 1;
    let is_error = matches!(
        (header.cmsg_level, header.cmsg_type),
        (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
    );
    let required_bytes = size_of::<libc::cmsghdr>() + size_of::<libc::sock_extended_err>();
    if !is_error || header.cmsg_len < required_bytes {
        return None;
    }
    // SAFETY: the header is valid. Its data follows it.
    let data = unsafe { libc::CMSG_DATA(header) }.cast::<libc::sock_extended_err>();
    // SAFETY: the data is long enough, as checked above.
    let error = unsafe { data.read_unaligned() };
    if error.ee_origin != ORIGIN_ZEROCOPY || error.ee_errno != 0 {
        return None;
    }
    Some(Completion {
        first: error.ee_info,
        last: error.ee_data,
        was_copied: error.ee_code == CODE_COPIED,
    })
}

/// Waits until completions may be available. Returns `false` after the timeout.
pub(crate) fn wait_for_completions(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(&socket, PollFlags::empty())];
    let timeout = Timespec::try_from(timeout).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Reads from a socket, pipe or file into parts. Returns the number of read bytes, 0 at the end.
///
/// # Safety
///
/// The parts are inside writable mappings that outlive the call; no reference covers them.
pub(crate) unsafe fn receive(from: BorrowedFd<'_>, parts: &[RawPart]) -> io::Result<usize> {
    let parts = vectors(parts);
    loop {
        // SAFETY: `parts` outlives the call. The caller guarantees the memory, and the kernel
        // checks every address.
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
    match usize::try_from(done) {
        Ok(done) => Ok(done),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
