//! Sending spans to a descriptor, and receiving into them: safe, and without a copy of ours.

use std::io;
use std::os::fd::AsFd;

use super::error::SpanError;
use super::guard::{Span, SpanMut};
use super::parts::GroupHandle;
use crate::mapping_cache::{Access, MappingError, Stretch, receive, send};

impl<G: GroupHandle> Span<G> {
    /// Sends all of the span to a socket, pipe or file, straight from mapped memory. For one that is not
    /// blocking, see [`send_some_to`](Self::send_some_to).
    ///
    /// # Errors
    ///
    /// [`SpanError::Transfer`] with the bytes that were sent before: the descriptor's error (no SIGPIPE is
    /// raised for sockets), or the file's as its inner error.
    pub fn send_to(&self, to: impl AsFd) -> Result<(), SpanError> {
        let mut done = 0;
        while done < self.len() {
            match self.send_some_to(done, &to) {
                Ok(0) => return Err(transfer(done, io::ErrorKind::WriteZero.into())),
                Ok(sent) => done += sent,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }

    /// Sends bytes of the span, from `at` on, as many as the descriptor takes at once; returns how many. 0
    /// only at the end of the span.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`] behind the end; [`SpanError::Transfer`], with `WouldBlock` where a descriptor
    /// that is not blocking takes nothing now.
    pub fn send_some_to(&self, at: usize, to: impl AsFd) -> Result<usize, SpanError> {
        self.inside(at, 0)?;
        if at == self.len() {
            return Ok(0);
        }
        let sent = send(to.as_fd(), self.stretches(at));
        self.sent(at, sent)
    }

    pub(super) fn stretches(&self, at: usize) -> impl Iterator<Item = Stretch<'_>> {
        self.from(at).map(|(part, from, len)| match part {
            Some(part) => Stretch::Part(part, from),
            None => Stretch::Zeros(len - from),
        })
    }

    /// What became of sending from `at` on.
    pub(super) fn sent(&self, at: usize, sent: io::Result<usize>) -> Result<usize, SpanError> {
        let sent = sent.map_err(|error| self.blame(at, Access::ReadOnly, error))?;
        self.check_used(at, sent)
            .map_err(|error| error.after(sent))?;
        Ok(sent)
    }

    /// Asks whether what was used was there: a page that was replaced (hazard 36), or a file that now ends
    /// inside its last page, gives zeros without any error.
    fn check_used(&self, at: usize, len: usize) -> Result<(), SpanError> {
        let wrong = |error: SpanError| transfer(0, error.into());
        self.check().map_err(wrong)?;
        if self.group.trusted {
            return Ok(());
        }
        let start = self.start + at as u64;
        for extent in self.group.layout.extents(start..start + len as u64)? {
            if let Some((file, place)) = self.group.entries[extent.entry].place(extent) {
                let there = file.must_reach(place.end);
                there.map_err(|error| wrong(error.into()))?;
            }
        }
        Ok(())
    }

    /// Whose fault it was: a bad page is the file's, all else the descriptor's.
    fn blame(&self, at: usize, access: Access, error: io::Error) -> SpanError {
        if error.raw_os_error() != Some(libc::EFAULT) {
            return transfer(0, error);
        }
        let rest = self.start + at as u64..self.start + self.len() as u64;
        let extents = self.group.layout.extents(rest).into_iter().flatten();
        let files = extents.filter_map(|extent| self.group.entries[extent.entry].place(extent));
        // The first that is short, or else any: the kernel does not say which page it was.
        let errors = files.map(|(file, place)| file.bad_page(place, access));
        let (short, other): (Vec<_>, Vec<_>) =
            errors.partition(|error| matches!(error, MappingError::ShortFile { .. }));
        let first = short.into_iter().chain(other).next();
        transfer(0, first.map_or(error, io::Error::from))
    }

    /// The error of the part that begins at `at`, whose pages could not be brought in.
    pub(super) fn page_error(&self, at: usize, error: io::Error) -> SpanError {
        let start = self.start + at as u64;
        let extents = self.group.layout.extents(start..self.range().end);
        let first = extents.into_iter().flatten().next();
        match first.and_then(|extent| self.group.entries[extent.entry].place(extent)) {
            Some((file, place)) => file.page_error(place, Access::ReadOnly, error).into(),
            None => transfer(0, error),
        }
    }

    /// The parts from a byte on: the part, where in it to begin, and its length.
    fn from(
        &self,
        at: usize,
    ) -> impl Iterator<Item = (Option<&crate::mapping_cache::Part<'static>>, usize, usize)> {
        let mut skip = at;
        self.parts.iter().filter_map(move |(part, len)| {
            let from = skip.min(len);
            skip -= from;
            (from < len).then_some((part, from, len))
        })
    }
}

impl<G: GroupHandle> SpanMut<G> {
    /// Fills all of the span from a socket, pipe or file, straight into mapped memory.
    ///
    /// # Errors
    ///
    /// [`SpanError::Transfer`] with the bytes that arrived before, which are in place: `UnexpectedEof` when
    /// the peer ended, its error, or the file's as inner error.
    pub fn receive_from(&mut self, from: impl AsFd) -> Result<(), SpanError> {
        let mut done = 0;
        while done < self.len() {
            match self.receive_some_from(done, &from) {
                Ok(0) => return Err(transfer(done, io::ErrorKind::UnexpectedEof.into())),
                Ok(received) => done += received,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }

    /// Receives into the span, from `at` on, as many bytes as there are at once; returns how many. 0 at the
    /// end of the span, or when the peer has ended.
    ///
    /// # Errors
    ///
    /// As for [`Span::send_some_to`].
    pub fn receive_some_from(&mut self, at: usize, from: impl AsFd) -> Result<usize, SpanError> {
        let span = &self.span;
        span.inside(at, 0)?;
        let parts = span.from(at).map(|(part, from, _)| {
            let part = part.expect("there is no span for writing over padding");
            (part, from)
        });
        if at == span.len() {
            return Ok(0);
        }
        let received = match receive(from.as_fd(), parts) {
            Ok(received) => received,
            Err(error) => return Err(span.blame(at, Access::ReadWrite, error)),
        };
        span.check_used(at, received)
            .map_err(|error| error.after(received))?;
        Ok(received)
    }

    /// Sends all of the span, as [`Span::send_to`].
    ///
    /// # Errors
    ///
    /// As for [`Span::send_to`].
    pub fn send_to(&self, to: impl AsFd) -> Result<(), SpanError> {
        self.span.send_to(to)
    }
}

pub(super) fn transfer(done: usize, source: io::Error) -> SpanError {
    SpanError::Transfer {
        done_bytes: done,
        source,
    }
}

impl SpanError {
    /// The same, after so many bytes more.
    pub(super) fn after(self, before: usize) -> Self {
        match self {
            Self::Transfer { done_bytes, source } => transfer(before + done_bytes, source),
            other => other,
        }
    }
}
