//! Spans on a tokio runtime. Whatever may wait for a disk (opening, mapping, bringing pages in) is done on
//! a blocking thread; sending and receiving then only touch pages that are in memory.
//!
//! Every future here may be dropped at any time: what a blocking thread has in hand is given back when it is
//! done, and a transfer that was not awaited to its end did not take place.

use std::io;
use std::ops::{Range, RangeBounds};
use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_blocking;

use super::error::SpanError;
use super::group::Group;
use super::guard::{Span, SpanMut};
use super::parts::GroupHandle;

mod sealed {
    pub trait Sealed {}
    impl Sealed for tokio::net::TcpStream {}
    impl Sealed for tokio::net::UnixStream {}
}

/// A socket of tokio that spans are sent to and received from.
pub trait AsyncSocket: AsFd + Sync + sealed::Sealed {
    /// Waits until the socket is ready, then tries; again when it was not after all.
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
    /// As [`owned_span`](Self::owned_span), with all of it brought into memory. A range that is mapped and in
    /// memory is given at once.
    ///
    /// # Errors
    ///
    /// As for [`span`](Self::span) and [`Span::populate`].
    pub async fn span_async(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<Span<Arc<Self>>, SpanError> {
        let range = self.layout.resolve(range)?;
        if let Some(span) = Span::if_mapped(self.clone(), range.clone())
            && span.is_resident()
        {
            return Ok(span);
        }
        let group = self.clone();
        blocking(move || {
            let span = group.owned_span(range)?;
            span.populate()?;
            Ok(span)
        })
        .await
    }

    /// As [`owned_span_mut`](Self::owned_span_mut), with all of it brought into memory.
    ///
    /// # Errors
    ///
    /// As for [`span_mut`](Self::span_mut) and [`Span::populate`].
    pub async fn span_mut_async(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<SpanMut<Arc<Self>>, SpanError> {
        let (range, group) = (self.layout.resolve(range)?, self.clone());
        blocking(move || {
            let span = group.owned_span_mut(range)?;
            span.as_span().populate()?;
            Ok(span)
        })
        .await
    }

    /// Reads a range, as [`read_exact_at`](Self::read_exact_at).
    ///
    /// # Errors
    ///
    /// As for [`read_exact_at`](Self::read_exact_at); [`SpanError::Argument`] for a range longer than memory.
    pub async fn read_async(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<u8>, SpanError> {
        let (Range { start, end }, group) = (self.layout.resolve(range)?, self.clone());
        let len = usize::try_from(end - start).map_err(|_| SpanError::Argument {
            argument: "range",
            reason: "longer than memory".to_owned(),
        })?;
        blocking(move || {
            let mut buf = vec![0; len];
            group.read_exact_at(start, &mut buf)?;
            Ok(buf)
        })
        .await
    }
}

impl<G: GroupHandle + Send + Sync> Span<G> {
    /// Sends bytes from `at` on, as many as the socket takes; returns how many. 0 only at the end of the
    /// span. Dropping the future sends nothing.
    ///
    /// # Errors
    ///
    /// As for [`send_some_to`](Self::send_some_to).
    pub async fn send_some_async(
        &self,
        at: usize,
        to: &impl AsyncSocket,
    ) -> Result<usize, SpanError> {
        let attempt = || self.send_some_to(at, to).map_err(would_block);
        let sent = to.when_ready(Interest::WRITABLE, attempt).await;
        sent.map_err(|error| restore(0, error))
    }

    /// Sends all of the span. If the future is dropped, some of it may have been sent.
    ///
    /// # Errors
    ///
    /// As for [`send_to`](Self::send_to).
    pub async fn send_async(&self, to: &impl AsyncSocket) -> Result<(), SpanError> {
        let mut done = 0;
        while done < self.len() {
            match self.send_some_async(done, to).await {
                Ok(0) => return Err(restore(done, io::ErrorKind::WriteZero.into())),
                Ok(sent) => done += sent,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }
}

impl<G: GroupHandle + Send + Sync> SpanMut<G> {
    /// Receives into the span from `at` on, as many bytes as there are; returns how many. 0 at the end of the
    /// span, or when the peer has ended. Dropping the future receives nothing.
    ///
    /// # Errors
    ///
    /// As for [`receive_some_from`](Self::receive_some_from).
    pub async fn receive_some_async(
        &mut self,
        at: usize,
        from: &impl AsyncSocket,
    ) -> Result<usize, SpanError> {
        let attempt = || self.receive_some_from(at, from).map_err(would_block);
        let received = from.when_ready(Interest::READABLE, attempt).await;
        received.map_err(|error| restore(0, error))
    }

    /// Fills all of the span. If the future is dropped, some of it may have been filled.
    ///
    /// # Errors
    ///
    /// As for [`receive_from`](Self::receive_from).
    pub async fn receive_async(&mut self, from: &impl AsyncSocket) -> Result<(), SpanError> {
        let mut done = 0;
        while done < self.len() {
            match self.receive_some_async(done, from).await {
                Ok(0) => return Err(restore(done, io::ErrorKind::UnexpectedEof.into())),
                Ok(received) => done += received,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }
}

/// What tokio has to see to wait for the socket, and everything else as an inner error.
fn would_block(error: SpanError) -> io::Error {
    match error {
        SpanError::Transfer {
            done_bytes: 0,
            source,
        } if source.kind() == io::ErrorKind::WouldBlock => source,
        other => other.into(),
    }
}

/// The error that was wrapped by `would_block`, or one of the socket.
fn restore(done_bytes: usize, error: io::Error) -> SpanError {
    match error.downcast::<SpanError>() {
        Ok(inner) => inner,
        Err(source) => SpanError::Transfer { done_bytes, source },
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpanError> + Send + 'static,
) -> Result<T, SpanError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(error) => Err(restore(0, io::Error::other(error))),
    }
}
