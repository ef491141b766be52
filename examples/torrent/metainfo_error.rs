//! Reasons to refuse a torrent. Each error names the field and its byte position.

use thiserror::Error;

use crate::bencode::BencodeError;

/// The reason to refuse a torrent.
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
    #[error("the torrent has {bytes} bytes, more than the accepted {bytes_max}")]
    TooLarge { bytes: u64, bytes_max: u64 },
}

// Not `#[from]`, which would also make the error a source, so that it would be printed twice.
impl From<BencodeError> for MetainfoError {
    fn from(error: BencodeError) -> Self {
        Self::Bencode(error)
    }
}

/// The error of a field. Texts from the torrent are escaped and shortened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Problem {
    #[error("is missing")]
    Missing,
    #[error("is {found} instead of {expected}")]
    WrongType {
        expected: &'static str,
        found: &'static str,
    },
    #[error("is repeated")]
    Repeated,
    #[error("contains a number with leading zeros, or a negative zero")]
    NotCanonical,
    #[error("is negative: {0}")]
    Negative(i64),
    #[error("has no files")]
    NoFiles,
    #[error("has {count} files, more than the accepted {count_max}")]
    TooManyFiles { count: usize, count_max: usize },
    #[error("makes the sum of all lengths exceed 2^63 - 1")]
    SumOverflows,
    #[error("is {0}, which is not a valid piece length (1 byte to 2 GiB)")]
    PieceLength(u64),
    #[error("has {0} bytes, which is not a multiple of 20")]
    IncompleteDigest(usize),
    #[error("has {found} pieces, but {bytes} bytes need {expected}")]
    PieceCount {
        found: u64,
        expected: u64,
        bytes: u64,
    },
    #[error("is an empty path")]
    EmptyPath,
    #[error("is not a valid file name: {0}")]
    HostileName(String),
    #[error("names the same file as info.files[{0}]")]
    DuplicatePath(usize),
    #[error("is a file, but a directory in the path of info.files[{0}]")]
    FileAndDirectory(usize),
    #[error("has the file {0} with files below it")]
    FileWithFiles(String),
    #[error("is of version 2 only (BEP 52); only version 1 and hybrid torrents are supported")]
    VersionTwoOnly,
    #[error("contradicts version 1: {found} instead of {expected}")]
    Contradiction { found: String, expected: String },
    #[error("contradicts version 1, in which {file} does not start with a piece, but at byte {at}")]
    UnalignedFile { file: String, at: u64 },
}
