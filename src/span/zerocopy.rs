//! Sending spans without a copy by the kernel either (`MSG_ZEROCOPY`): they are kept until it is done.
//!
//! # Safety
//!
//! What is being sent stays in the list of those under way, with its claim and its pins, until the kernel
//! has said that it is done; what is still under way when the sender goes is never given back.
#![expect(unsafe_code, reason = "pages stay with the kernel after the call")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::SpanError;
use super::group::Group;
use super::guard::Span;
use super::transfer::transfer;
use crate::mapping_cache::{allow_zerocopy, reap, send_zerocopy, wait_for_completions};

/// Sends spans over a TCP socket without any copy, where the network card can; on loopback and others the
/// kernel makes one after all, and it costs more than [`Span::send_to`]. Worth measuring before use.
///
/// A span that was sent stays claimed and pinned until the kernel is done with its pages.
/// [`reap`](Self::reap) or [`finish`](Self::finish) gives back those that are. When a sender is dropped
/// earlier, what is still under way stays claimed for ever.
#[derive(Debug)]
pub struct ZeroCopySender<S: AsFd> {
    socket: S,
    /// Number of the next call, as the kernel counts those that sent something.
    next: u32,
    under_way: VecDeque<(u32, Arc<Span<Arc<Group>>>)>,
    copied_calls: u64,
}

impl<S: AsFd> ZeroCopySender<S> {
    /// Takes a connected TCP socket on which nobody else sends in this way, before or meanwhile: the kernel
    /// counts the calls of a socket, not of a sender.
    ///
    /// # Errors
    ///
    /// The system's error, for a socket that cannot.
    pub fn new(socket: S) -> Result<Self, SpanError> {
        allow_zerocopy(socket.as_fd()).map_err(|error| transfer(0, error))?;
        Ok(Self {
            socket,
            next: 0,
            under_way: VecDeque::new(),
            copied_calls: 0,
        })
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// Sends all of a span on a socket that blocks. Returns when the kernel has all of it in hand.
    ///
    /// # Errors
    ///
    /// As for [`Span::send_to`]. What was sent before stays under way.
    pub fn send(&mut self, span: Span<Arc<Group>>) -> Result<(), SpanError> {
        let span = Arc::new(span);
        let mut done = 0;
        while done < span.len() {
            match self.send_some(&span, done) {
                Ok(0) => return Err(transfer(done, io::ErrorKind::WriteZero.into())),
                Ok(sent) => done += sent,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }

    fn send_some(&mut self, span: &Arc<Span<Arc<Group>>>, at: usize) -> Result<usize, SpanError> {
        // Before the call: whatever happens after it, the span is kept.
        self.under_way.push_back((self.next, span.clone()));
        // SAFETY: the span is under way, and stays so until its completion was reaped.
        let sent = unsafe { send_zerocopy(self.socket.as_fd(), span.stretches(at)) };
        if let Ok(1..) = sent {
            self.next = self.next.wrapping_add(1);
            self.collect()?;
            return span.sent(at, sent);
        }
        // The kernel has nothing of it.
        self.under_way.pop_back();
        match sent {
            // Too much is under way: this part goes by a copy.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.collect()?;
                span.send_some_to(at, &self.socket)
            }
            other => span.sent(at, other),
        }
    }

    /// Gives back what the kernel is done with, without waiting; returns how many calls are under way.
    ///
    /// # Errors
    ///
    /// The socket's error.
    pub fn reap(&mut self) -> Result<usize, SpanError> {
        self.collect()?;
        Ok(self.under_way.len())
    }

    /// Waits until the kernel is done with everything; false after the timeout.
    ///
    /// # Errors
    ///
    /// The socket's error.
    pub fn finish(&mut self, timeout: Duration) -> Result<bool, SpanError> {
        let begun = Instant::now();
        while self.reap()? > 0 {
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let waited = wait_for_completions(self.socket.as_fd(), left);
            waited.map_err(|error| transfer(0, error))?;
        }
        Ok(true)
    }

    /// Of how many calls the kernel made a copy after all.
    #[must_use]
    pub fn copied_calls(&self) -> u64 {
        self.copied_calls
    }

    fn collect(&mut self) -> Result<(), SpanError> {
        let next = |socket: &S| reap(socket.as_fd()).map_err(|error| transfer(0, error));
        while let Some(done) = next(&self.socket)? {
            let calls = done.last.wrapping_sub(done.first);
            let is_done = |number: u32| number.wrapping_sub(done.first) <= calls;
            let before = self.under_way.len();
            self.under_way.retain(|(number, _)| !is_done(*number));
            if done.was_copied {
                self.copied_calls += (before - self.under_way.len()) as u64;
            }
        }
        Ok(())
    }
}

impl<S: AsFd> Drop for ZeroCopySender<S> {
    fn drop(&mut self) {
        // An error leaves them under way.
        let _ = self.collect();
        for (_, span) in self.under_way.drain(..) {
            // The kernel may still be reading its pages.
            std::mem::forget(span);
        }
    }
}
