//! Ranges of a group as a [`Stream`](futures_core::Stream) of [`Bytes`] and as an HTTP body.

use std::ops::{Range, RangeBounds};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::span_guard::Span;
use crate::span::error::GroupError;
use crate::span::group::Group;

/// Default length of a chunk.
const CHUNK_BYTES: u64 = 256 << 10;

/// Bytes of a range of a group, chunk by chunk.
///
/// It implements `futures_core::Stream` (feature `stream`) and `http_body::Body` (feature
/// `http-body`). Each item is a [`Bytes`] of one chunk. After an error, the stream ends.
///
/// **Writers.** The stream does not wait for locks. If a span for writing holds part of the next
/// chunk, the item is the error [`RangeLocked`] and the stream ends. Start
/// another stream at the first byte that was not received.
///
/// **Locks and memory.** A chunk is locked and pinned when the reader requests it, never before. A
/// slow reader therefore blocks no writer of the bytes that it has not reached, and the content of
/// different chunks may be of different points in time. If the group [allows
/// slices](Group::allows_slices), a chunk that is in one window is not copied. Its `Bytes` keep the
/// range locked and the window pinned until the last clone is dropped. The pin counts against the
/// budget of the cache. All other chunks are copied, and hold no lock after that. The stream
/// itself holds no chunk.
///
/// **Blocking.** Chunks that are not in memory are read from the disk. With the feature `tokio` and
/// in the context of a runtime, this happens on its blocking pool. Otherwise polling waits for the
/// disk.
///
/// ```
/// use std::sync::Arc;
///
/// use flatspan::span::Group;
/// use futures_util::TryStreamExt as _;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let group = Arc::new(Group::builder("/").padding(1_000_000).open()?);
/// let mut stream = group.stream(1000..)?;
/// let mut received = 0;
/// while let Some(chunk) = stream.try_next().await? {
///     received += chunk.len();
/// }
/// assert_eq!(received, 999_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`RangeLocked`]: crate::mapping_cache::MappingError::RangeLocked
#[derive(Debug)]
#[must_use = "a stream reads nothing until it is polled"]
pub struct SpanStream {
    group: Arc<Group>,
    /// Bytes that were not returned yet.
    rest: Range<u64>,
    chunk_bytes: u64,
    #[cfg(feature = "tokio")]
    reading: Option<tokio::task::JoinHandle<Result<Bytes, GroupError>>>,
}

impl Group {
    /// Returns a range as a stream of bytes, which locks and reads one chunk at a time. The group
    /// must be in an `Arc`, since the stream owns a handle of it.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    pub fn stream(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<SpanStream, GroupError> {
        let rest = self.layout.resolve_range(range)?;
        Ok(SpanStream::new(Arc::clone(self), rest))
    }
}

impl Span<Arc<Group>> {
    /// Releases the span and returns its range as a stream of bytes, which locks one chunk at a
    /// time.
    ///
    /// Between this call and the reading of a chunk, the chunk can be written. To keep the whole
    /// range locked and pinned instead, use [`into_bytes`](Self::into_bytes).
    pub fn into_stream(self) -> SpanStream {
        SpanStream::new(Arc::clone(&self.group), self.range())
    }
}

impl SpanStream {
    fn new(group: Arc<Group>, rest: Range<u64>) -> Self {
        Self {
            group,
            rest,
            chunk_bytes: CHUNK_BYTES,
            #[cfg(feature = "tokio")]
            reading: None,
        }
    }

    /// Sets the length of a chunk. Chunks end at multiples of it in the group, so the first and the
    /// last one may be shorter. Zero is treated as one. Defaults to 256 KiB.
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = (bytes as u64).max(1);
        self
    }

    /// Returns the number of bytes that the stream has not returned yet.
    #[must_use]
    pub fn remaining_bytes(&self) -> u64 {
        self.rest.end - self.rest.start
    }

    /// The number of chunks that the stream has not returned yet.
    #[cfg(feature = "stream")]
    fn remaining_chunks(&self) -> usize {
        let Range { start, end } = self.rest;
        if start >= end {
            return 0;
        }
        let chunks = (end - 1) / self.chunk_bytes - start / self.chunk_bytes + 1;
        usize::try_from(chunks).unwrap_or(usize::MAX)
    }

    /// The range of the next chunk, or `None` at the end.
    fn next_range(&self) -> Option<Range<u64>> {
        let Range { start, end } = self.rest;
        let chunk_end = (start / self.chunk_bytes + 1).saturating_mul(self.chunk_bytes);
        (start < end).then(|| start..chunk_end.min(end))
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, GroupError>>> {
        let Some(range) = self.next_range() else {
            return Poll::Ready(None);
        };
        let result = std::task::ready!(self.poll_read(cx, range.clone()));
        // After an error the stream ends.
        let next = if result.is_ok() {
            range.end
        } else {
            self.rest.end
        };
        self.rest.start = next;
        Poll::Ready(Some(result))
    }

    #[cfg(not(feature = "tokio"))]
    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        range: Range<u64>,
    ) -> Poll<Result<Bytes, GroupError>> {
        Poll::Ready(read_chunk(&self.group, range))
    }

    #[cfg(feature = "tokio")]
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        range: Range<u64>,
    ) -> Poll<Result<Bytes, GroupError>> {
        if self.reading.is_none() {
            if let Some(bytes) = resident_chunk(&self.group, range.clone()) {
                return Poll::Ready(bytes);
            }
            let Ok(runtime) = tokio::runtime::Handle::try_current() else {
                return Poll::Ready(read_chunk(&self.group, range));
            };
            let group = Arc::clone(&self.group);
            self.reading = Some(runtime.spawn_blocking(move || read_chunk(&group, range)));
        }
        let Some(reading) = &mut self.reading else {
            unreachable!("set above");
        };
        let joined = std::task::ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(match joined {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down.
            Err(error) => Err(GroupError::transfer(0, std::io::Error::other(error))),
        })
    }
}

/// The bytes of a chunk that is mapped and in memory.
#[cfg(feature = "tokio")]
fn resident_chunk(group: &Arc<Group>, range: Range<u64>) -> Option<Result<Bytes, GroupError>> {
    let span = Span::if_mapped(Arc::clone(group), range)?;
    span.is_resident().then(|| bytes_of_chunk(span))
}

fn read_chunk(group: &Arc<Group>, range: Range<u64>) -> Result<Bytes, GroupError> {
    let span = group.owned_span(range)?;
    span.populate()?;
    bytes_of_chunk(span)
}

/// The bytes of a span: without a copy if the group allows it and they are in one window.
fn bytes_of_chunk(span: Span<Arc<Group>>) -> Result<Bytes, GroupError> {
    if span.group.allows_slices() && span.as_slice().is_some() {
        let mut slices = span.into_bytes();
        return Ok(slices.pop().expect("the span is one slice"));
    }
    let mut bytes = vec![0; span.len()];
    span.read_at(0, &mut bytes)?;
    Ok(Bytes::from(bytes))
}

#[cfg(feature = "stream")]
impl futures_core::Stream for SpanStream {
    type Item = Result<Bytes, GroupError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_chunk(cx)
    }

    /// Returns the number of chunks as the upper bound. An error ends the stream earlier.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let chunks = self.remaining_chunks();
        (chunks.min(1), Some(chunks))
    }
}

#[cfg(feature = "http-body")]
impl http_body::Body for SpanStream {
    type Data = Bytes;
    type Error = GroupError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, GroupError>>> {
        let chunk = self.get_mut().poll_chunk(cx);
        chunk.map(|chunk| chunk.map(|chunk| chunk.map(http_body::Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining_bytes() == 0
    }

    /// Returns the exact number of bytes.
    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.remaining_bytes())
    }
}
