//! Spans on a tokio runtime.
//!
//! Operations that may wait for a disk (open, map, populate) run on the blocking pool. Transfers
//! then only access pages that are in memory.
//!
//! Every future may be dropped at any time. The result of its blocking task is then dropped when
//! the task ends. If the future of a single transfer is dropped, no bytes were transferred.

use std::io;
use std::ops::{Range, RangeBounds};
use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_blocking;

use super::pinned_parts::GroupHandle;
use super::span_guard::{Span, SpanMut};
use crate::span::error::GroupError;
use crate::span::group::Group;

mod sealed {
    pub trait Sealed {}
    impl Sealed for tokio::net::TcpStream {}
    impl Sealed for tokio::net::UnixStream {}
}

/// Socket of tokio for transfers from and to spans. Implemented by [`TcpStream`] and
/// [`UnixStream`].
pub trait AsyncSocket: AsFd + Sync + sealed::Sealed {
    /// Calls `attempt` whenever the socket is ready, until it does not return `WouldBlock`.
    #[doc(hidden)]
    fn when_ready<T: Send>(
        &self,
        interest: Interest,
        attempt: impl FnMut() -> io::Result<T> + Send,
    ) -> impl Future<Output = io::Result<T>> + Send;
}

impl AsyncSocket for TcpStream {
    async fn when_ready<T: Send>(
        &self,
        interest: Interest,
        attempt: impl FnMut() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        self.async_io(interest, attempt).await
    }
}

impl AsyncSocket for UnixStream {
    async fn when_ready<T: Send>(
        &self,
        interest: Interest,
        attempt: impl FnMut() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        self.async_io(interest, attempt).await
    }
}

impl Group {
    /// Locks and pins a range for reading, as [`owned_span`](Self::owned_span), and brings all of
    /// it into memory. Uses no blocking thread if the range is mapped and in memory.
    ///
    /// Waits for the disk, but not for locks: a locked range is an error at once.
    ///
    /// # Errors
    ///
    /// The errors of [`span`](Self::span) and [`Span::populate`].
    pub async fn owned_span_async(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<Span<Arc<Self>>, GroupError> {
        let range = self.layout.resolve_range(range)?;
        if let Some(span) = Span::if_mapped(Arc::clone(self), range.clone())
            && span.is_resident()
        {
            return Ok(span);
        }
        let group = Arc::clone(self);
        blocking(move || {
            let span = group.owned_span(range)?;
            span.populate()?;
            Ok(span)
        })
        .await
    }

    /// Locks and pins a range for writing, as [`owned_span_mut`](Self::owned_span_mut), and brings
    /// all of it into memory.
    ///
    /// Waits for the disk, but not for locks: a locked range is an error at once.
    ///
    /// # Errors
    ///
    /// The errors of [`span_mut`](Self::span_mut) and [`Span::populate`].
    pub async fn owned_span_mut_async(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<SpanMut<Arc<Self>>, GroupError> {
        let (range, group) = (self.layout.resolve_range(range)?, Arc::clone(self));
        blocking(move || {
            let span = group.owned_span_mut(range)?;
            span.as_span().populate()?;
            Ok(span)
        })
        .await
    }

    /// Reads all of a range, as [`read_exact_at`](Self::read_exact_at).
    ///
    /// # Errors
    ///
    /// - [`GroupError::InvalidArgument`] if the range exceeds the address space.
    /// - The errors of [`read_exact_at`](Self::read_exact_at).
    pub async fn read_exact_async(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<u8>, GroupError> {
        let (Range { start, end }, group) = (self.layout.resolve_range(range)?, Arc::clone(self));
        let Ok(len) = usize::try_from(end - start) else {
            return Err(GroupError::InvalidArgument {
                argument: "range",
                reason: "the range exceeds the address space".to_owned(),
            });
        };
        blocking(move || {
            let mut buf = vec![0; len];
            group.read_exact_at(start, &mut buf)?;
            Ok(buf)
        })
        .await
    }
}

impl<G: GroupHandle + Send + Sync> Span<G> {
    /// Writes bytes from offset `at` of the span to a socket, and returns their number. The number
    /// is zero only at the end of the span. If the future is dropped, no bytes are written.
    ///
    /// # Errors
    ///
    /// The errors of [`write_to`](Self::write_to), without `WouldBlock`.
    pub async fn write_to_async(
        &self,
        at: usize,
        to: &impl AsyncSocket,
    ) -> Result<usize, GroupError> {
        let attempt = || self.write_to(at, to).map_err(would_block);
        let sent = to.when_ready(Interest::WRITABLE, attempt).await;
        sent.map_err(|error| unwrap_error(0, error))
    }

    /// Writes all of the span to a socket. If the future is dropped, part of it may be written.
    ///
    /// # Errors
    ///
    /// The errors of [`write_all_to`](Self::write_all_to).
    pub async fn write_all_to_async(&self, to: &impl AsyncSocket) -> Result<(), GroupError> {
        let mut done = 0;
        while done < self.len() {
            match self.write_to_async(done, to).await {
                Ok(0) => return Err(unwrap_error(done, io::ErrorKind::WriteZero.into())),
                Ok(sent) => done += sent,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }
}

impl<G: GroupHandle + Send + Sync> SpanMut<G> {
    /// Reads bytes from a socket to offset `at` of the span, and returns their number. The number
    /// is zero at the end of the span, or if the peer closed. If the future is dropped, no bytes
    /// are read.
    ///
    /// # Errors
    ///
    /// The errors of [`read_from`](Self::read_from), without `WouldBlock`.
    pub async fn read_from_async(
        &mut self,
        at: usize,
        from: &impl AsyncSocket,
    ) -> Result<usize, GroupError> {
        let attempt = || self.read_from(at, from).map_err(would_block);
        let received = from.when_ready(Interest::READABLE, attempt).await;
        received.map_err(|error| unwrap_error(0, error))
    }

    /// Fills the span from a socket. If the future is dropped, part of the span may be filled.
    ///
    /// # Errors
    ///
    /// The errors of [`read_exact_from`](Self::read_exact_from).
    pub async fn read_exact_from_async(
        &mut self,
        from: &impl AsyncSocket,
    ) -> Result<(), GroupError> {
        let mut done = 0;
        while done < self.len() {
            match self.read_from_async(done, from).await {
                Ok(0) => return Err(unwrap_error(done, io::ErrorKind::UnexpectedEof.into())),
                Ok(received) => done += received,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }
}

/// The plain `WouldBlock` on which tokio waits for the socket, or any other error as an inner
/// error.
fn would_block(error: GroupError) -> io::Error {
    match error {
        GroupError::Transfer {
            transferred_bytes: 0,
            source,
        } if source.kind() == io::ErrorKind::WouldBlock => source,
        other => other.into(),
    }
}

/// The error that `would_block` wrapped, or an error of the socket.
fn unwrap_error(done_bytes: usize, error: io::Error) -> GroupError {
    match error.downcast::<GroupError>() {
        Ok(inner) => inner,
        Err(source) => GroupError::transfer(done_bytes, source),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GroupError> + Send + 'static,
) -> Result<T, GroupError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(error) => Err(unwrap_error(0, io::Error::other(error))),
    }
}
