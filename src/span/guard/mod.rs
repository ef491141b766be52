//! Spans: ranges of a group that are locked and pinned, and their I/O.

#[cfg(feature = "tokio")]
mod async_io;
#[cfg(feature = "bytes")]
mod bytes_impls;
mod pinned_parts;
mod socket_io;
mod span_guard;
#[cfg(any(feature = "stream", feature = "http-body"))]
mod span_stream;
mod zero_copy_sender;

#[cfg(feature = "tokio")]
pub use async_io::AsyncSocket;
#[cfg(feature = "bytes")]
pub use bytes_impls::{SpanBuf, SpanBufMut};
pub use pinned_parts::GroupHandle;
pub use span_guard::{Span, SpanMut};
#[cfg(any(feature = "stream", feature = "http-body"))]
pub use span_stream::SpanStream;
pub use zero_copy_sender::ZeroCopySender;
