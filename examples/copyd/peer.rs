//! One connection of the server.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flatspan::span::{Group, GroupError, Span};

use crate::protocol::{MESSAGE_BYTES_MAX, Op, REQUEST_HEAD_BYTES, Request, Status, reply_head};

/// Time limit for a peer that neither sends nor receives.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Time limit of a put that waits for a range in use by other peers.
const PUT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limits for the bytes that a peer sends after the server has ended the connection, and for a
/// pause in them.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// Counters of the requests of all peers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Connections that ended in the middle of a message.
    pub(crate) broken: AtomicU64,
}

pub(crate) struct Peer<'a> {
    stream: &'a TcpStream,
    group: &'a Group,
    counters: &'a Counters,
}

/// Whether the peer may send another request.
enum Next {
    Continue,
    End,
}

impl<'a> Peer<'a> {
    pub(crate) fn new(stream: &'a TcpStream, group: &'a Group, counters: &'a Counters) -> Self {
        Self {
            stream,
            group,
            counters,
        }
    }

    /// Answers requests until the connection ends. Fails if the connection fails.
    pub(crate) fn serve(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(SILENCE_MAX))?;
        self.stream.set_write_timeout(Some(SILENCE_MAX))?;
        while let Some(request) = self.request()? {
            if let Next::End = self.answer(request)? {
                return self.linger();
            }
        }
        Ok(())
    }

    /// The next request, or `None` if the peer has closed the connection.
    fn request(&self) -> io::Result<Option<Request>> {
        let mut head = [0; REQUEST_HEAD_BYTES];
        let mut stream = self.stream;
        if stream.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut head[1..])?;
        Ok(Some(Request::decode(head)))
    }

    fn answer(&self, request: Request) -> io::Result<Next> {
        let Request { op, offset, len } = request;
        let Some(op) = Op::of(op) else {
            return self.malformed(&format!("unknown op {op}"), Next::Continue);
        };
        if op == Op::Sync {
            return match self.group.sync_all() {
                Ok(()) => self.done(),
                Err(error) => self.refuse(&error),
            };
        }
        if len > MESSAGE_BYTES_MAX {
            let text = format!("{len} bytes exceed the limit of {MESSAGE_BYTES_MAX}");
            // Reading up to 4 GiB only to discard them is not worthwhile.
            let next = if op == Op::Put {
                Next::End
            } else {
                Next::Continue
            };
            return self.malformed(&text, next);
        }
        // A range past the largest offset also ends after the end of every group.
        let end = offset.saturating_add(len.into());
        match op {
            Op::Put => self.put(offset, end, len),
            _ => self.get(offset, end, len),
        }
    }

    fn get(&self, offset: u64, end: u64, len: u32) -> io::Result<Next> {
        let span = self
            .check_range(offset, end, len)
            .and_then(|()| self.readable_span(offset..end));
        let span = match span {
            Ok(span) => span,
            Err(error) => return self.refuse(&error),
        };
        self.send(&reply_head(Status::Done, len))?;
        // The status is sent, so a failing file can only end the connection from here on.
        span.write_all_to(self.stream)?;
        self.counters.gets.fetch_add(1, Ordering::Relaxed);
        Ok(Next::Continue)
    }

    fn put(&self, offset: u64, end: u64, len: u32) -> io::Result<Next> {
        let span = self
            .check_range(offset, end, len)
            .and_then(|()| self.group.span_mut_timeout(offset..end, PUT_TIMEOUT));
        let mut span = match span {
            Ok(span) => span,
            Err(error) => {
                self.drain(len)?;
                return self.refuse(&error);
            }
        };
        match span.read_exact_from(self.stream) {
            Ok(()) => {}
            // The number of bytes that were read from the socket is unknown then.
            Err(error) if error.path().is_some() => {
                self.refuse(&error)?;
                return Ok(Next::End);
            }
            Err(error) => return Err(error.into()),
        }
        // Released before the reply, so that the peer can request the block.
        drop(span);
        self.counters.puts.fetch_add(1, Ordering::Relaxed);
        self.done()
    }

    /// A readable span whose bytes exist. Mapped memory does not show that a file was truncated; a
    /// copy reports it. After the status is sent, such an error cannot be reported any more.
    fn readable_span(&self, range: Range<u64>) -> Result<Span<&'a Group>, GroupError> {
        let span = self.group.span(range.clone())?;
        let mut end = range.start;
        for extent in self.group.layout().extents(range)? {
            end += extent.len;
            self.group.read_exact_at(end - 1, &mut [0])?;
        }
        Ok(span)
    }

    /// Refuses a range that ends past the largest offset, which a range of `u64` cannot express.
    fn check_range(&self, offset: u64, end: u64, len: u32) -> Result<(), GroupError> {
        if end - offset == u64::from(len) {
            return Ok(());
        }
        Err(GroupError::OutOfBounds {
            range: format!("{offset} + {len}"),
            group_bytes: self.group.len(),
        })
    }

    fn done(&self) -> io::Result<Next> {
        self.send(&reply_head(Status::Done, 0))?;
        Ok(Next::Continue)
    }

    fn refuse(&self, error: &GroupError) -> io::Result<Next> {
        let status = match error {
            GroupError::OutOfBounds { .. } => Status::Range,
            error if error.kind() == ErrorKind::ResourceBusy => Status::Busy,
            _ => Status::File,
        };
        self.send_error(status, &text_of(error), Next::Continue)
    }

    fn malformed(&self, text: &str, next: Next) -> io::Result<Next> {
        self.send_error(Status::Malformed, text, next)
    }

    fn send_error(&self, status: Status, text: &str, next: Next) -> io::Result<Next> {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        send_text(self.stream, status, text)?;
        Ok(next)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(bytes)
    }

    /// Reads and discards the payload of a refused put.
    fn drain(&self, len: u32) -> io::Result<()> {
        let mut payload = self.stream.take(len.into());
        match io::copy(&mut payload, &mut io::sink())? {
            drained if drained == u64::from(len) => Ok(()),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Lets the peer read the last reply: closing a socket that has unread bytes resets the
    /// connection.
    fn linger(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.stream.set_read_timeout(Some(LINGER))?;
        io::copy(&mut self.stream.take(LINGER_BYTES), &mut io::sink())?;
        Ok(())
    }
}

/// Replies with a message, shortened to the limit of a reply.
pub(crate) fn send_text(mut stream: &TcpStream, status: Status, text: &str) -> io::Result<()> {
    let text = text.as_bytes();
    let len = u32::try_from(text.len()).map_or(MESSAGE_BYTES_MAX, |len| len.min(MESSAGE_BYTES_MAX));
    let mut reply = reply_head(status, len).to_vec();
    reply.extend_from_slice(&text[..len as usize]);
    stream.write_all(&reply)
}

/// The error with its causes.
fn text_of(error: &GroupError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}"); // Writing to a string cannot fail.
        cause = error.source();
    }
    text
}
