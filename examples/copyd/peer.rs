//! One connection of the server.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flatspan::span::{Group, Span, SpanError};

use crate::protocol::{MESSAGE_BYTES_MAX, Op, REQUEST_HEAD_BYTES, Request, Status, reply_head};

/// How long a peer may say nothing, or take nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a put waits for others that have the range.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a peer may still send after the connection was given up, and how long it may pause.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// What peers asked for.
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

/// May the peer send another request?
enum Then {
    GoOn,
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

    /// Answers requests until the peer is gone or given up. The error is that of the connection.
    pub(crate) fn serve(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(SILENCE_MAX))?;
        self.stream.set_write_timeout(Some(SILENCE_MAX))?;
        while let Some(request) = self.request()? {
            if let Then::End = self.answer(request)? {
                return self.linger();
            }
        }
        Ok(())
    }

    /// The next request, if the peer has not ended.
    fn request(&self) -> io::Result<Option<Request>> {
        let mut head = [0; REQUEST_HEAD_BYTES];
        let mut stream = self.stream;
        if stream.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut head[1..])?;
        Ok(Some(Request::decode(head)))
    }

    fn answer(&self, request: Request) -> io::Result<Then> {
        let Request { op, offset, len } = request;
        let Some(op) = Op::of(op) else {
            return self.malformed(&format!("there is no op {op}"), Then::GoOn);
        };
        if op == Op::Sync {
            return match self.group.sync_all() {
                Ok(()) => self.done(),
                Err(error) => self.refuse(&error),
            };
        }
        if len > MESSAGE_BYTES_MAX {
            let text = format!("{len} bytes are more than {MESSAGE_BYTES_MAX}");
            // To read up to 4 GiB only to drop them is asked too much.
            let then = if op == Op::Put { Then::End } else { Then::GoOn };
            return self.malformed(&text, then);
        }
        // One that passes the last offset there is ends behind any group as well.
        let end = offset.saturating_add(len.into());
        match op {
            Op::Put => self.put(offset, end, len),
            _ => self.get(offset, end, len),
        }
    }

    fn get(&self, offset: u64, end: u64, len: u32) -> io::Result<Then> {
        let span = self.range(offset, end, len);
        let span = match span.and_then(|()| self.borrow(offset..end)) {
            Ok(span) => span,
            Err(error) => return self.refuse(&error),
        };
        self.send(&reply_head(Status::Done, len))?;
        // The status is said: all that is left for a file that fails now is to break off.
        span.send_to(self.stream)?;
        self.counters.gets.fetch_add(1, Ordering::Relaxed);
        Ok(Then::GoOn)
    }

    fn put(&self, offset: u64, end: u64, len: u32) -> io::Result<Then> {
        let span = self
            .range(offset, end, len)
            .and_then(|()| self.group.span_mut_within(offset..end, PATIENCE));
        let mut span = match span {
            Ok(span) => span,
            Err(error) => {
                self.drain(len)?;
                return self.refuse(&error);
            }
        };
        match span.receive_from(self.stream) {
            Ok(()) => {}
            // How much was taken from the socket is not known then.
            Err(error) if error.path().is_some() => {
                self.refuse(&error)?;
                return Ok(Then::End);
            }
            Err(error) => return Err(error.into()),
        }
        // Before the peer is told, and asks for it.
        drop(span);
        self.counters.puts.fetch_add(1, Ordering::Relaxed);
        self.done()
    }

    /// A range for reading that is there. Mapped memory does not show that a file was cut since; a copy
    /// does, and only before the status is said is an error of use.
    fn borrow(&self, range: Range<u64>) -> Result<Span<&'a Group>, SpanError> {
        let span = self.group.span(range.clone())?;
        let mut end = range.start;
        for extent in self.group.layout().extents(range)? {
            end += extent.len;
            self.group.read_exact_at(end - 1, &mut [0])?;
        }
        Ok(span)
    }

    /// Refuses what passes the last offset there is, which no range of `u64` can say.
    fn range(&self, offset: u64, end: u64, len: u32) -> Result<(), SpanError> {
        if end - offset == u64::from(len) {
            return Ok(());
        }
        Err(SpanError::Range {
            range: format!("{offset} + {len}"),
            group_bytes: self.group.len(),
        })
    }

    fn done(&self) -> io::Result<Then> {
        self.send(&reply_head(Status::Done, 0))?;
        Ok(Then::GoOn)
    }

    fn refuse(&self, error: &SpanError) -> io::Result<Then> {
        let status = match error {
            SpanError::Range { .. } => Status::Range,
            error if error.kind() == ErrorKind::ResourceBusy => Status::Busy,
            _ => Status::File,
        };
        self.say(status, &text_of(error), Then::GoOn)
    }

    fn malformed(&self, text: &str, then: Then) -> io::Result<Then> {
        self.say(Status::Malformed, text, then)
    }

    fn say(&self, status: Status, text: &str, then: Then) -> io::Result<Then> {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        send_text(self.stream, status, text)?;
        Ok(then)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(bytes)
    }

    /// Reads what a refused put sends.
    fn drain(&self, len: u32) -> io::Result<()> {
        let mut payload = self.stream.take(len.into());
        match io::copy(&mut payload, &mut io::sink())? {
            drained if drained == u64::from(len) => Ok(()),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Lets the peer read the last reply: a socket that is closed with bytes unread takes it back.
    fn linger(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.stream.set_read_timeout(Some(LINGER))?;
        io::copy(&mut self.stream.take(LINGER_BYTES), &mut io::sink())?;
        Ok(())
    }
}

/// Replies with a text, cut to what a message holds.
pub(crate) fn send_text(mut stream: &TcpStream, status: Status, text: &str) -> io::Result<()> {
    let text = text.as_bytes();
    let len = u32::try_from(text.len()).map_or(MESSAGE_BYTES_MAX, |len| len.min(MESSAGE_BYTES_MAX));
    let mut reply = reply_head(status, len).to_vec();
    reply.extend_from_slice(&text[..len as usize]);
    stream.write_all(&reply)
}

/// The error with its causes.
fn text_of(error: &SpanError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
