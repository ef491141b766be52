//! Why a torrent is refused. Each error names the field and the byte at which it stands.

use thiserror::Error;

use crate::bencode::BencodeError;

/// A torrent that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MetainfoError {
    #[error("not bencode: {0}")]
    Bencode(BencodeError),
    #[error("{field} (byte {at}): {problem}")]
    Field {
        field: String,
        at: usize,
        problem: Problem,
    },
    #[error("the torrent has {bytes} bytes, more than the {bytes_max} that are accepted")]
    TooLarge { bytes: u64, bytes_max: u64 },
}

// Not `#[from]`, which would make the fault a cause as well and have it printed twice.
impl From<BencodeError> for MetainfoError {
    fn from(error: BencodeError) -> Self {
        Self::Bencode(error)
    }
}

/// What is wrong with a field. Texts from the torrent are shown escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Problem {
    #[error("is missing")]
    Missing,
    #[error("is {found} where {expected} is needed")]
    WrongType {
        expected: &'static str,
        found: &'static str,
    },
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("is negative: {0}")]
    Negative(i64),
    #[error("stands beside {0}, which excludes it")]
    Excludes(&'static str),
    #[error("has no files")]
    NoFiles,
    #[error("has {count} files, more than the {count_max} that are accepted")]
    TooManyFiles { count: usize, count_max: usize },
    #[error("takes the sum of all lengths beyond 2^63 - 1")]
    SumOverflows,
    #[error("is {0}, which is no piece length (1 to 2 GiB)")]
    PieceLength(u64),
    #[error("has {0} bytes, which is no multiple of 20")]
    DigestsCut(usize),
    #[error("has {found} pieces where {bytes} bytes make {expected}")]
    PieceCount {
        found: u64,
        expected: u64,
        bytes: u64,
    },
    #[error("is an empty path")]
    EmptyPath,
    #[error("is no name for a file: {0}")]
    HostileName(String),
    #[error("names the same file as info.files[{0}]")]
    DuplicatePath(usize),
    #[error("is a file and, by info.files[{0}], also a folder")]
    FileAndFolder(usize),
    #[error("is a symbolic link with a length")]
    SymlinkWithLength,
    #[error("is version 2 only (BEP 52); version 1 and hybrid torrents are supported")]
    VersionTwoOnly,
}
