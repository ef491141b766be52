//! What can go wrong with a group.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::mapping_cache::MappingError;

/// An error of a group.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpanError {
    /// A file of the group could not do what was asked.
    #[error(transparent)]
    File(#[from] MappingError),
    /// A range that is inverted, passes 2^64 - 1 or leaves the group.
    #[error("range {range} does not lie in the group of {group_bytes} bytes")]
    Range {
        /// The bounds as given.
        range: String,
        /// Length of the group.
        group_bytes: u64,
    },
    /// The lengths of the entries sum up to more than 2^64 - 1 bytes.
    #[error("entry {entry}: the lengths up to here pass 2^64 - 1 bytes")]
    TooLong {
        /// The entry at which they do.
        entry: usize,
    },
    /// An entry that no file can have: longer than 2^63 - 1 bytes, or an inverted range.
    #[error("entry {entry} ({}): {reason}", path.display())]
    Entry {
        /// Number of the entry.
        entry: usize,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no entry of this number, or it is not a file.
    #[error("entry {entry} of {entries} is not a file of the group")]
    NoSuchFile {
        /// The number.
        entry: usize,
        /// How many entries there are.
        entries: usize,
    },
    /// Padding is zeros and cannot be written.
    #[error("entry {entry} is padding: only zeros can be written there")]
    Padding {
        /// Number of the entry.
        entry: usize,
    },
    /// The bytes behind this offset are not there.
    #[error("the group ends at byte {group_bytes}")]
    End {
        /// Length of the group.
        group_bytes: u64,
    },
    /// A transfer to or from a descriptor ended early. Where a file is at fault, its error is the inner
    /// error of `source`.
    #[error("the transfer ended after {done_bytes} bytes")]
    Transfer {
        /// Bytes that the descriptor took or gave before. Where a file was cut, the last of them may be zeros
        /// that are not in the file, or be lost.
        done_bytes: usize,
        /// Why it ended.
        source: io::Error,
    },
    /// An argument that cannot work.
    #[error("`{argument}`: {reason}")]
    Argument {
        /// Name of the argument.
        argument: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl SpanError {
    /// The file it happened with, root included, if it was one.
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

    /// The kind of `std::io` error this is closest to.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Transfer { source, .. } => source.kind(),
            Self::End { .. } => io::ErrorKind::UnexpectedEof,
            Self::NoSuchFile { .. } => io::ErrorKind::NotFound,
            Self::Padding { .. } => io::ErrorKind::PermissionDenied,
            Self::Range { .. }
            | Self::TooLong { .. }
            | Self::Entry { .. }
            | Self::Argument { .. } => io::ErrorKind::InvalidInput,
        }
    }
}

impl From<SpanError> for io::Error {
    /// Keeps the kind; the error itself is the new one's inner error.
    fn from(error: SpanError) -> Self {
        Self::new(error.kind(), error)
    }
}
