//! Sends of spans without a copy by the kernel (`MSG_ZEROCOPY` of send(2)).
//!
//! # Safety
//!
//! A span that is being sent stays in the list of pending sends, with its range locks and pins,
//! until the kernel reports that the send is complete [I39]. Dropping the sender leaks the spans
//! that are still pending.
#![expect(unsafe_code, reason = "the kernel uses the pages after the call")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::socket_io::is_bad_page;
use super::span_guard::Span;
use crate::mapping_cache::{allow_zerocopy, next_completion, send_zerocopy, wait_for_completions};
use crate::span::error::GroupError;
use crate::span::group::Group;

/// Sender of spans over a TCP socket without any copy.
///
/// Not all network devices support it. On loopback and others the kernel copies after all, which
/// costs more than [`Span::write_all_to`]. Measure before use.
///
/// A span stays locked and pinned until the kernel no longer uses its pages.
/// [`poll_completions`](Self::poll_completions) and [`flush_timeout`](Self::flush_timeout) release
/// such spans. Dropping the sender earlier leaves the ranges of pending sends locked forever.
///
/// ```
/// use std::io::Read as _;
/// use std::net::{TcpListener, TcpStream};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use flatspan::span::{Group, ZeroCopySender};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = TcpStream::connect(listener.local_addr()?)?;
/// let (mut peer, _) = listener.accept()?;
///
/// let group = Arc::new(Group::builder("/").padding(1000).open()?);
/// let mut sender = ZeroCopySender::new(socket)?;
/// sender.send(group.owned_span(..)?)?;
/// let mut received = [1; 1000];
/// peer.read_exact(&mut received)?;
/// sender.flush_timeout(Duration::from_secs(10))?;
/// assert_eq!(received, [0; 1000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ZeroCopySender<S: AsFd> {
    socket: S,
    /// Number of the next call. The kernel counts the calls that sent at least one byte.
    next: u32,
    pending: VecDeque<(u32, Arc<Span<Arc<Group>>>)>,
    copied_calls: u64,
}

impl<S: AsFd> ZeroCopySender<S> {
    /// Creates a sender for a connected TCP socket.
    ///
    /// No other code may send with `MSG_ZEROCOPY` on the socket, neither before nor meanwhile: the
    /// kernel counts the calls of a socket, not of a sender.
    ///
    /// # Errors
    ///
    /// - [`GroupError::Transfer`] with the system's error if the socket does not support it.
    pub fn new(socket: S) -> Result<Self, GroupError> {
        allow_zerocopy(socket.as_fd()).map_err(|error| GroupError::transfer(0, error))?;
        Ok(Self {
            socket,
            next: 0,
            pending: VecDeque::new(),
            copied_calls: 0,
        })
    }

    /// Returns the socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// Sends all of a span on a blocking socket. Returns when the kernel has accepted all bytes,
    /// which is before it has sent them.
    ///
    /// # Errors
    ///
    /// The errors of [`Span::write_all_to`]. Bytes that were accepted before stay pending.
    pub fn send(&mut self, span: Span<Arc<Group>>) -> Result<(), GroupError> {
        let span = Arc::new(span);
        let mut done = 0;
        while done < span.len() {
            match self.send_some(&span, done) {
                Ok(0) => return Err(GroupError::transfer(done, io::ErrorKind::WriteZero.into())),
                Ok(sent) => done += sent,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }

    fn send_some(&mut self, span: &Arc<Span<Arc<Group>>>, at: usize) -> Result<usize, GroupError> {
        // Registered before the call, so that the span is kept whatever happens after it.
        self.pending.push_back((self.next, Arc::clone(span)));
        // SAFETY: the span is pending, and stays so until its completion was received.
        let sent = unsafe { send_zerocopy(self.socket.as_fd(), span.buffers(at)) };
        if let Ok(1..) = sent {
            self.next = self.next.wrapping_add(1);
            self.receive_completions()?;
            return span.check_sent(at, sent);
        }
        // The kernel accepted no bytes.
        self.pending.pop_back();
        match sent {
            // The limit of pending sends is reached: send this part by a copy.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.receive_completions()?;
                span.write_to(at, &self.socket)
            }
            Err(error) if is_bad_page(&error) => span.write_copied_to(at, self.socket.as_fd()),
            other => span.check_sent(at, other),
        }
    }

    /// Releases the spans of completed sends without waiting. Returns the number of pending sends.
    ///
    /// # Errors
    ///
    /// - [`GroupError::Transfer`] if the socket fails.
    pub fn poll_completions(&mut self) -> Result<usize, GroupError> {
        self.receive_completions()?;
        Ok(self.pending.len())
    }

    /// Waits up to `timeout` until all sends are complete, and releases their spans.
    ///
    /// # Errors
    ///
    /// - [`GroupError::TimedOut`] if a send is not complete after the timeout.
    /// - [`GroupError::Transfer`] if the socket fails.
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<(), GroupError> {
        let started = Instant::now();
        loop {
            let pending_sends = self.poll_completions()?;
            if pending_sends == 0 {
                return Ok(());
            }
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(GroupError::TimedOut { pending_sends });
            }
            let waited = wait_for_completions(self.socket.as_fd(), left);
            waited.map_err(|error| GroupError::transfer(0, error))?;
        }
    }

    /// Returns the number of sends for which the kernel made a copy after all.
    #[must_use]
    pub fn copied_sends(&self) -> u64 {
        self.copied_calls
    }

    fn receive_completions(&mut self) -> Result<(), GroupError> {
        let next = |socket: &S| {
            next_completion(socket.as_fd()).map_err(|error| GroupError::transfer(0, error))
        };
        while let Some(done) = next(&self.socket)? {
            let calls = done.last.wrapping_sub(done.first);
            let is_done = |number: u32| number.wrapping_sub(done.first) <= calls;
            let before = self.pending.len();
            self.pending.retain(|(number, _)| !is_done(*number));
            if done.was_copied {
                self.copied_calls += (before - self.pending.len()) as u64;
            }
        }
        Ok(())
    }
}

impl<S: AsFd> Drop for ZeroCopySender<S> {
    fn drop(&mut self) {
        // After an error the sends stay pending.
        drop(self.receive_completions());
        for (_, span) in self.pending.drain(..) {
            // The kernel may still read its pages.
            std::mem::forget(span);
        }
    }
}
