//! Unix datagrams with descriptors.
//!
//! See [`unix(7)`](https://man7.org/linux/man-pages/man7/unix.7.html),
//! [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html) and
//! [`poll(2)`](https://man7.org/linux/man-pages/man2/poll.2.html).

use std::io::{self, IoSlice, PipeReader};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Maximum number of descriptors in one datagram (`SCM_MAX_FD`).
pub(crate) const DESCRIPTORS_MAX: usize = 253;

/// Sends a datagram. Waits up to `timeout` while the receive queue is full, then fails with
/// `WouldBlock` or `TimedOut`.
pub(crate) fn send(
    to: &SocketAddr,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    timeout: Duration,
) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(timeout))?;
    socket.connect_addr(to)?;
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG.into());
    }
    let end = Instant::now() + timeout;
    loop {
        match sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            // Each call waits for the whole timeout, so the loop checks it too.
            Err(Errno::INTR) if Instant::now() < end => {}
            Err(Errno::INTR) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until no process has the write end of the pipe open. Returns `false` after the timeout.
pub(crate) fn wait_for_close(pipe: &PipeReader, timeout: Duration) -> io::Result<bool> {
    let end = Instant::now() + timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let poll_timeout = Timespec::try_from(left).unwrap_or_default();
        let mut watched = [PollFd::new(pipe, PollFlags::empty())];
        match poll(&mut watched, Some(&poll_timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) if !left.is_zero() => {}
            Err(error) => return Err(error.into()),
        }
    }
}
