//! Sequential access to a group on a tokio runtime: `AsyncRead`, `AsyncWrite` and `AsyncSeek`.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};
use tokio::task::{JoinHandle, spawn_blocking};

use super::cursor::seek_position;
use super::group::Group;
use crate::span::error::GroupError;

/// Largest transfer of one blocking operation.
const BUFFER_BYTES: usize = 256 << 10;

/// Position in a group for sequential reads and writes on a tokio runtime.
///
/// All file access happens on the blocking pool of the runtime, so that no worker thread waits for
/// a disk. Methods must be called in the context of a runtime.
///
/// As for `tokio::fs::File`, a write returns when its bytes are buffered. A failed write is
/// reported by the next write, flush or shutdown, and the position returns to the start of that
/// write. Await [`flush`](https://docs.rs/tokio/latest/tokio/io/trait.AsyncWriteExt.html#method.flush) before dropping the cursor: it returns
/// when the bytes are in the page cache. [`Group::sync_all`] makes them durable.
///
/// ```
/// use std::sync::Arc;
///
/// use flatspan::span::{AsyncCursor, Group};
/// use tokio::io::AsyncReadExt as _;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let group = Arc::new(Group::builder("/").padding(1 << 20).open()?);
/// let mut cursor = AsyncCursor::new(group);
/// let mut bytes = Vec::new();
/// cursor.read_to_end(&mut bytes).await?;
/// assert_eq!(bytes.len(), 1 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncCursor {
    group: Arc<Group>,
    /// Offset of the next byte to be returned or accepted.
    position: u64,
    /// Bytes that were read, of which `used` are consumed. The next one belongs to `position`.
    buffer: Vec<u8>,
    used: usize,
    state: State,
    /// Error of a write that returned before.
    write_error: Option<GroupError>,
}

#[derive(Debug)]
enum State {
    Idle,
    Reading(JoinHandle<(Vec<u8>, Result<(), GroupError>)>),
    Writing {
        /// Position to return to if the write fails; `None` after a seek.
        start: Option<u64>,
        task: JoinHandle<(Vec<u8>, Result<(), GroupError>)>,
    },
}

impl AsyncCursor {
    /// Creates a cursor at the start of the group.
    #[must_use]
    pub fn new(group: Arc<Group>) -> Self {
        Self {
            group,
            position: 0,
            buffer: Vec::new(),
            used: 0,
            state: State::Idle,
            write_error: None,
        }
    }

    /// Returns the offset of the next byte to be read or written.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        self.used = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer
    }

    /// Waits for the write that is in progress, if any, and stores its error.
    fn poll_write_complete(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Writing { start, task } = &mut self.state {
            let (start, result) = (*start, ready!(Pin::new(task).poll(cx)));
            self.state = State::Idle;
            let (buffer, result) = joined(result);
            self.buffer = buffer;
            self.buffer.clear();
            self.used = 0;
            if let Err(error) = result {
                self.position = start.unwrap_or(self.position);
                self.write_error = Some(error);
            }
        }
        Poll::Ready(())
    }

    /// Waits for the write that is in progress, and returns its error or that of an earlier write.
    fn poll_write_result(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_complete(cx));
        Poll::Ready(match self.write_error.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        })
    }
}

/// The result of a blocking task. Panics of the task continue in the caller.
fn joined(
    result: Result<(Vec<u8>, Result<(), GroupError>), tokio::task::JoinError>,
) -> (Vec<u8>, Result<(), GroupError>) {
    match result {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(error) => {
            let error = GroupError::transfer(0, io::Error::other(error));
            (Vec::new(), Err(error))
        }
    }
}

impl AsyncRead for AsyncCursor {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_complete(cx));
        loop {
            let rest = &this.buffer[this.used..];
            if !rest.is_empty() || buf.remaining() == 0 {
                let len = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..len]);
                this.used += len;
                this.position += len as u64;
                return Poll::Ready(Ok(()));
            }
            if let State::Reading(task) = &mut this.state {
                let result = ready!(Pin::new(task).poll(cx));
                this.state = State::Idle;
                let (buffer, result) = joined(result);
                (this.buffer, this.used) = (buffer, 0);
                if let Err(error) = result {
                    this.buffer.clear();
                    return Poll::Ready(Err(error.into()));
                }
                if this.buffer.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let len = buf.remaining().min(BUFFER_BYTES);
            let (group, position) = (Arc::clone(&this.group), this.position);
            let mut buffer = this.take_buffer();
            this.state = State::Reading(spawn_blocking(move || {
                buffer.resize(len, 0);
                let result = group.read_at(position, &mut buffer);
                buffer.truncate(*result.as_ref().unwrap_or(&0));
                (buffer, result.map(drop))
            }));
        }
    }
}

impl AsyncWrite for AsyncCursor {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_result(cx))?;
        let available = this.group.len().saturating_sub(this.position);
        let len = buf.len().min(BUFFER_BYTES);
        let len = usize::try_from(available).map_or(len, |bytes| bytes.min(len));
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let (group, start) = (Arc::clone(&this.group), this.position);
        let mut buffer = this.take_buffer();
        buffer.extend_from_slice(&buf[..len]);
        // This drops a read whose future was dropped: its bytes may be older than this write.
        this.state = State::Writing {
            start: Some(start),
            task: spawn_blocking(move || {
                let result = group.write_all_at(start, &buffer);
                (buffer, result)
            }),
        };
        this.position += len as u64;
        Poll::Ready(Ok(len))
    }

    /// Waits until the bytes of earlier writes are in the page cache.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_write_result(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_write_result(cx)
    }
}

impl AsyncSeek for AsyncCursor {
    fn start_seek(self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        this.position = seek_position(this.group.len(), this.position, position)?;
        match &mut this.state {
            State::Idle => {}
            // The buffer of the read is dropped with its task.
            State::Reading(_) => this.state = State::Idle,
            State::Writing { start, .. } => *start = None,
        }
        this.buffer.clear();
        this.used = 0;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}
