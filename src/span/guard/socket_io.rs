//! Transfers between spans and descriptors, straight from and to mapped memory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::pinned_parts::GroupHandle;
use super::span_guard::{Span, SpanMut};
use crate::mapping_cache::{Access, BufferRange, MappingError, PinnedRange, receive, send};
use crate::span::error::GroupError;

/// Bytes that are copied at once if they cannot be mapped.
const COPY_BYTES: usize = 64 << 10;

/// Whether a system call could not access a page of mapped memory.
pub(super) fn is_bad_page(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EFAULT)
}

impl<G: GroupHandle> Span<G> {
    /// Writes all of the span to a socket, pipe or file, straight from mapped memory.
    ///
    /// For a non-blocking descriptor use [`write_to`](Self::write_to).
    ///
    /// # Errors
    ///
    /// - [`GroupError::Transfer`] if the descriptor fails, with the number of bytes that were
    ///   written. No SIGPIPE is raised for sockets.
    /// - [`GroupError::Transfer`] with the file's error as inner error if a page cannot be read.
    pub fn write_all_to(&self, to: impl AsFd) -> Result<(), GroupError> {
        let mut done = 0;
        while done < self.len() {
            match self.write_to(done, &to) {
                Ok(0) => return Err(GroupError::transfer(done, io::ErrorKind::WriteZero.into())),
                Ok(sent) => done += sent,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }

    /// Writes bytes from offset `at` of the span to a descriptor by one system call, and returns
    /// their number. The number is zero only at the end of the span.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if `at` exceeds the span.
    /// - [`GroupError::Transfer`] with [`io::ErrorKind::WouldBlock`] if a non-blocking descriptor
    ///   accepts no bytes now.
    /// - The errors of [`write_all_to`](Self::write_all_to).
    pub fn write_to(&self, at: usize, to: impl AsFd) -> Result<usize, GroupError> {
        self.offset_in_group(at, 0)?;
        if at == self.len() {
            return Ok(0);
        }
        match send(to.as_fd(), self.buffers(at)) {
            Err(error) if is_bad_page(&error) => self.write_copied_to(at, to.as_fd()),
            sent => self.check_sent(at, sent),
        }
    }

    /// Writes bytes from offset `at` that cannot be mapped by a copy. A hole needs storage to be
    /// mapped from a tmpfs, and none to be read.
    pub(super) fn write_copied_to(
        &self,
        at: usize,
        to: BorrowedFd<'_>,
    ) -> Result<usize, GroupError> {
        let mut copy = vec![0; COPY_BYTES.min(self.len() - at)];
        if self.read_at(at, &mut copy).is_err() {
            let error = io::Error::from_raw_os_error(libc::EFAULT);
            return Err(self.transfer_error(at, Access::ReadOnly, error));
        }
        let sent = send(to, std::iter::once(BufferRange::Copy(&copy)));
        self.check_sent(at, sent)
    }

    pub(super) fn buffers(&self, at: usize) -> impl Iterator<Item = BufferRange<'_>> {
        self.parts_from(at).map(|(part, from, len)| match part {
            Some(part) => BufferRange::Part(part, from),
            None => BufferRange::Zeros(len - from),
        })
    }

    /// Checks the outcome of a send that started at `at`.
    pub(super) fn check_sent(
        &self,
        at: usize,
        sent: io::Result<usize>,
    ) -> Result<usize, GroupError> {
        let sent = sent.map_err(|error| self.transfer_error(at, Access::ReadOnly, error))?;
        self.check_transferred(at, sent)
            .map_err(|error| error.after(sent))?;
        Ok(sent)
    }

    /// Checks that the bytes of a transfer existed. A replaced page [I36], or a file that now ends
    /// within its last page, transfers zeros without any error.
    fn check_transferred(&self, at: usize, len: usize) -> Result<(), GroupError> {
        let lost = |error: GroupError| GroupError::transfer(0, error.into());
        self.check_intact().map_err(lost)?;
        if self.group.options.is_exclusive {
            return Ok(());
        }
        let start = self.start + at as u64;
        for extent in self.group.layout.extents(start..start + len as u64)? {
            if let Some((file, range)) = self.group.entries[extent.entry].file_range(extent) {
                file.must_reach(range.end)
                    .map_err(|error| lost(error.into()))?;
            }
        }
        Ok(())
    }

    /// The error of a transfer: that of a file if a page is bad (EFAULT), otherwise that of the
    /// descriptor.
    fn transfer_error(&self, at: usize, access: Access, error: io::Error) -> GroupError {
        if !is_bad_page(&error) {
            return GroupError::transfer(0, error);
        }
        let rest = self.start + at as u64..self.start + self.len() as u64;
        let extents = self.group.layout.extents(rest).into_iter().flatten();
        let files =
            extents.filter_map(|extent| self.group.entries[extent.entry].file_range(extent));
        // The kernel does not report which page is bad: prefer a file that is too short.
        let errors = files.map(|(file, range)| file.bad_page(range, access));
        let (short, other): (Vec<_>, Vec<_>) =
            errors.partition(|error| matches!(error, MappingError::FileTooShort { .. }));
        let source = match short.into_iter().chain(other).next() {
            Some(file_error) => io::Error::from(file_error),
            None => error,
        };
        GroupError::transfer(0, source)
    }

    /// The parts from offset `at` of the span: the part, the first offset in it, and its length.
    fn parts_from(
        &self,
        at: usize,
    ) -> impl Iterator<Item = (Option<&PinnedRange<'static>>, usize, usize)> {
        let mut skip = at;
        self.parts.iter().filter_map(move |(part, len)| {
            let from = skip.min(len);
            skip -= from;
            (from < len).then_some((part, from, len))
        })
    }
}

impl<G: GroupHandle> SpanMut<G> {
    /// Fills the span from a socket, pipe or file, straight into mapped memory.
    ///
    /// For a non-blocking descriptor use [`read_from`](Self::read_from).
    ///
    /// # Errors
    ///
    /// The span contains the bytes that arrived before the error.
    ///
    /// - [`GroupError::Transfer`] with [`io::ErrorKind::UnexpectedEof`] if the peer closes early.
    /// - [`GroupError::Transfer`] if the descriptor fails, with the number of bytes that arrived.
    /// - [`GroupError::Transfer`] with the file's error as inner error if a page cannot be written.
    pub fn read_exact_from(&mut self, from: impl AsFd) -> Result<(), GroupError> {
        let mut done = 0;
        while done < self.len() {
            match self.read_from(done, &from) {
                Ok(0) => {
                    let source = io::ErrorKind::UnexpectedEof.into();
                    return Err(GroupError::transfer(done, source));
                }
                Ok(received) => done += received,
                Err(error) => return Err(error.after(done)),
            }
        }
        Ok(())
    }

    /// Reads bytes from a descriptor to offset `at` of the span by one system call, and returns
    /// their number. The number is zero at the end of the span, or if the peer closed.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if `at` exceeds the span.
    /// - [`GroupError::Transfer`] with [`io::ErrorKind::WouldBlock`] if a non-blocking descriptor
    ///   has no bytes now.
    /// - The errors of [`read_exact_from`](Self::read_exact_from).
    pub fn read_from(&mut self, at: usize, from: impl AsFd) -> Result<usize, GroupError> {
        let span = &self.span;
        span.offset_in_group(at, 0)?;
        // A span for writing has no padding.
        let parts = span.parts_from(at);
        let parts = parts.filter_map(|(part, from, _)| part.map(|part| (part, from)));
        if at == span.len() {
            return Ok(0);
        }
        let received = match receive(from.as_fd(), parts) {
            Ok(received) => received,
            Err(error) => return Err(span.transfer_error(at, Access::ReadWrite, error)),
        };
        span.check_transferred(at, received)
            .map_err(|error| error.after(received))?;
        Ok(received)
    }

    /// Writes all of the span to a descriptor, as [`Span::write_all_to`].
    ///
    /// # Errors
    ///
    /// The errors of [`Span::write_all_to`].
    pub fn write_all_to(&self, to: impl AsFd) -> Result<(), GroupError> {
        self.span.write_all_to(to)
    }
}
