//! Errors of a group.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::mapping_cache::MappingError;

/// Error of a group.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GroupError {
    /// An operation on a file of the group failed.
    #[error(transparent)]
    File(#[from] MappingError),
    /// The range is inverted, exceeds 2^64 - 1 or exceeds the group.
    #[error("range {range} is out of bounds (length {group_bytes} bytes)")]
    OutOfBounds {
        /// The bounds as given.
        range: String,
        /// Length of the group, or of the span or piece that the range refers to, in bytes.
        group_bytes: u64,
    },
    /// The range exceeds the entry.
    #[error("range {range} exceeds entry {entry} ({}) of {entry_bytes} bytes", path.display())]
    OutOfEntry {
        /// Number of the entry.
        entry: usize,
        /// Path of the entry; empty for padding.
        path: PathBuf,
        /// The bounds as given, relative to the entry.
        range: String,
        /// Length of the entry in bytes.
        entry_bytes: u64,
    },
    /// The sum of the entry lengths exceeds 2^64 - 1 bytes.
    #[error("entry {entry}: the sum of the entry lengths exceeds 2^64 - 1 bytes")]
    LengthOverflow {
        /// Number of the entry at which the sum overflows.
        entry: usize,
    },
    /// No file can have this entry: it ends after 2^63 - 1 bytes, or its range is inverted.
    #[error("entry {entry} ({}): {reason}", path.display())]
    InvalidEntry {
        /// Number of the entry.
        entry: usize,
        /// Path of the entry.
        path: PathBuf,
        /// Reason why it is invalid.
        reason: &'static str,
    },
    /// The entry does not exist, or it is padding.
    #[error("entry {entry} of {entries} is not a file")]
    NoSuchEntry {
        /// Requested number.
        entry: usize,
        /// Number of entries of the group.
        entries: usize,
    },
    /// A write to padding contains bytes other than zero, or a span for writing includes padding.
    #[error("entry {entry} is padding, which only accepts zeros by positioned writes")]
    WriteToPadding {
        /// Number of the entry.
        entry: usize,
    },
    /// A write starts at or after the end of the group.
    #[error("write starts at or after the end of the group ({group_bytes} bytes)")]
    UnexpectedEof {
        /// Length of the group in bytes.
        group_bytes: u64,
    },
    /// A transfer to or from a descriptor ended early. If a file caused it, the inner error of
    /// `source` is the error of that file.
    #[error("transfer ended after {transferred_bytes} bytes")]
    Transfer {
        /// Bytes that the descriptor accepted or delivered before. If a file was truncated
        /// meanwhile, the last of them may be zeros that the file does not contain, or may be lost.
        transferred_bytes: usize,
        /// Cause.
        source: io::Error,
    },
    /// The kernel still used the memory of zero-copy sends when the timeout elapsed.
    #[error("timed out while the kernel still sends from {pending_sends} zero-copy buffers")]
    TimedOut {
        /// Sends that are not complete.
        pending_sends: usize,
    },
    /// An argument or an option is invalid.
    #[error("invalid `{argument}`: {reason}")]
    InvalidArgument {
        /// Name of the argument or option.
        argument: &'static str,
        /// Reason why it is invalid.
        reason: String,
    },
}

impl GroupError {
    /// Returns the full path of the file that caused the error, if any.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(error) => error.path(),
            Self::Transfer { source, .. } => {
                let inner = source.get_ref()?;
                match inner.downcast_ref::<MappingError>() {
                    Some(error) => error.path(),
                    None => inner.downcast_ref::<Self>()?.path(),
                }
            }
            _ => None,
        }
    }

    /// Returns the kind of `std::io` error that is closest to this error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Transfer { source, .. } => source.kind(),
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            Self::UnexpectedEof { .. } => io::ErrorKind::UnexpectedEof,
            Self::NoSuchEntry { .. } => io::ErrorKind::NotFound,
            Self::WriteToPadding { .. } => io::ErrorKind::PermissionDenied,
            Self::OutOfBounds { .. }
            | Self::OutOfEntry { .. }
            | Self::LengthOverflow { .. }
            | Self::InvalidEntry { .. }
            | Self::InvalidArgument { .. } => io::ErrorKind::InvalidInput,
        }
    }

    /// An error of a transfer after `done_bytes`.
    pub(super) fn transfer(done_bytes: usize, source: io::Error) -> Self {
        Self::Transfer {
            transferred_bytes: done_bytes,
            source,
        }
    }

    /// The same error, with `before` added to the bytes that were transferred.
    pub(super) fn after(self, before: usize) -> Self {
        match self {
            Self::Transfer {
                transferred_bytes: done_bytes,
                source,
            } => Self::transfer(before + done_bytes, source),
            other => other,
        }
    }
}

impl From<GroupError> for io::Error {
    /// Keeps the kind; the group's error becomes the inner error.
    fn from(error: GroupError) -> Self {
        Self::new(error.kind(), error)
    }
}
