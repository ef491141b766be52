//! Derivation of the status of each file from the states of the pieces, without I/O.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

use crate::mapping_cache::MappingError;
use crate::span::error::GroupError;

/// State of a verified piece.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PieceState {
    /// The hash is the expected one.
    Ok,
    /// The hash differs from the expected one.
    Mismatch,
    /// Bytes of the piece could not be read.
    Unreadable(Arc<GroupError>),
    /// Verification was cancelled before the piece was hashed.
    Unchecked,
}

/// Status of a verified file: the most severe problem found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FileStatus {
    /// All bytes are as expected.
    Ok,
    /// The file does not exist.
    Missing,
    /// The file ends before its declared length.
    TooShort,
    /// The file could not be read.
    Unreadable(Arc<GroupError>),
    /// Pieces that are only in this file differ from the expected hashes.
    Corrupt,
    /// The file is longer than declared, and no piece that is only in this file is known to be bad.
    /// A piece that it shares with other files may be bad.
    TooLong,
    /// All pieces that are only in this file are good. A piece that it shares with other files is
    /// bad, and either of the files may be corrupt.
    Undecided {
        /// Entries that share the bad pieces: those that have a problem of their own if any do,
        /// otherwise all. Limited to the first 16.
        shared_with: Vec<usize>,
    },
    /// No problem was found, but verification was cancelled before the whole file was hashed.
    Unchecked,
}

/// Result of verifying one file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileReport {
    /// Number of the entry.
    pub entry: usize,
    /// Path as given to the builder.
    pub path: PathBuf,
    /// Declared length in bytes.
    pub declared_bytes: u64,
    /// Actual length in bytes; `None` if the file is missing or cannot be opened.
    pub actual_bytes: Option<u64>,
    /// Most severe problem found.
    pub status: FileStatus,
    /// Pieces that differ from the expected hashes and are only in this file.
    pub corrupt_pieces: Vec<RangeInclusive<usize>>,
}

/// Result of verifying all pieces.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// State of each piece, in order.
    pub pieces: Vec<PieceState>,
    /// Report for each entry that is a file, in order.
    pub files: Vec<FileReport>,
    /// Whether the verification was finished, not cancelled.
    pub complete: bool,
}

impl VerifyReport {
    /// Returns whether all pieces and files were verified and are as expected.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        let piece_ok = |piece: &PieceState| matches!(piece, PieceState::Ok);
        let file_ok = |file: &FileReport| matches!(file.status, FileStatus::Ok);
        self.pieces.iter().all(piece_ok) && self.files.iter().all(file_ok)
    }
}

/// Properties of a file that do not depend on its pieces.
#[derive(Debug)]
pub(super) struct CheckedFile {
    pub(super) entry: usize,
    pub(super) path: PathBuf,
    /// Path as in errors.
    pub(super) full_path: PathBuf,
    /// Byte range in the group.
    pub(super) range: Range<u64>,
    /// Length of the file, or the end of its range in the file.
    pub(super) declared_bytes: u64,
    /// Whether the entry is a range of a file: the bytes after it do not matter.
    pub(super) is_range: bool,
    pub(super) actual_bytes: Result<u64, GroupError>,
}

/// Findings about one file from its pieces.
#[derive(Debug, Default)]
struct Findings {
    /// Mismatches of pieces that are only in this file.
    corrupt: Vec<RangeInclusive<usize>>,
    unreadable: Option<Arc<GroupError>>,
    unchecked: bool,
}

/// Derives the report. `checked_files` are in the order of the group.
pub(super) fn assess(
    piece_bytes: u64,
    pieces: Vec<PieceState>,
    checked_files: Vec<CheckedFile>,
) -> VerifyReport {
    let (findings, shared) = collect_findings(piece_bytes, &pieces, &checked_files);
    let files = checked_files.into_iter().zip(findings);
    let mut files: Vec<_> = files.map(|(file, found)| report(file, found)).collect();
    mark_undecided(&mut files, &shared);
    let is_unchecked = |piece: &PieceState| matches!(piece, PieceState::Unchecked);
    let complete = !pieces.iter().any(is_unchecked);
    VerifyReport {
        pieces,
        files,
        complete,
    }
}

/// Attributes each bad piece to the only file of it. Returns the findings for each file, and for
/// each bad piece of several files, these files.
fn collect_findings(
    piece_bytes: u64,
    pieces: &[PieceState],
    checked_files: &[CheckedFile],
) -> (Vec<Findings>, Vec<Vec<usize>>) {
    let ranges: Vec<_> = checked_files
        .iter()
        .map(|file| file.range.clone())
        .collect();
    let mut findings: Vec<_> = ranges.iter().map(|_| Findings::default()).collect();
    let mut shared = Vec::new();
    let mut files_of_piece = FilesOfPiece::new(&ranges, piece_bytes);
    for (piece, state) in pieces.iter().enumerate() {
        if matches!(state, PieceState::Ok) {
            continue;
        }
        let files = files_of_piece.find(piece);
        match (state, files.as_slice()) {
            (PieceState::Unchecked, _) => {
                for file in files {
                    findings[file].unchecked = true;
                }
            }
            (PieceState::Mismatch, [file]) => push_piece(&mut findings[*file].corrupt, piece),
            (PieceState::Unreadable(error), [file]) => {
                findings[*file].unreadable = Some(Arc::clone(error));
            }
            (PieceState::Unreadable(error), _) => {
                // The error names its file, but does not distinguish two ranges of the same file.
                let is_named =
                    |file: &&usize| error.path() == Some(checked_files[**file].full_path.as_path());
                let mut named = files.iter().filter(is_named);
                if let (Some(file), None) = (named.next(), named.next()) {
                    findings[*file].unreadable = Some(Arc::clone(error));
                }
                shared.push(files);
            }
            _ => shared.push(files),
        }
    }
    (findings, shared)
}

/// Lookup of the files of a piece, for pieces in ascending order.
struct FilesOfPiece<'a> {
    ranges: &'a [Range<u64>],
    piece_bytes: u64,
    /// First file that is not completely before the last piece.
    first: usize,
}

impl<'a> FilesOfPiece<'a> {
    fn new(ranges: &'a [Range<u64>], piece_bytes: u64) -> Self {
        Self {
            ranges,
            piece_bytes,
            first: 0,
        }
    }

    fn find(&mut self, piece: usize) -> Vec<usize> {
        let start = (piece as u64).saturating_mul(self.piece_bytes);
        let end = start.saturating_add(self.piece_bytes);
        while self
            .ranges
            .get(self.first)
            .is_some_and(|file| file.end <= start)
        {
            self.first += 1;
        }
        let from_first = self.ranges.iter().enumerate().skip(self.first);
        from_first
            .take_while(|(_, file)| file.start < end)
            .filter(|(_, file)| !file.is_empty())
            .map(|(index, _)| index)
            .collect()
    }
}

/// The report of one file, without regard to files that share its pieces.
fn report(file: CheckedFile, found: Findings) -> FileReport {
    let present_bytes = file.actual_bytes.as_ref().ok().copied();
    let status = match file.actual_bytes {
        Err(GroupError::File(MappingError::NotFound { .. })) => FileStatus::Missing,
        Err(error) => FileStatus::Unreadable(Arc::new(error)),
        Ok(actual) if actual < file.declared_bytes => FileStatus::TooShort,
        Ok(_) if !found.corrupt.is_empty() => FileStatus::Corrupt,
        Ok(actual) => match found.unreadable {
            Some(error) => FileStatus::Unreadable(error),
            None if actual > file.declared_bytes && !file.is_range => FileStatus::TooLong,
            None if found.unchecked => FileStatus::Unchecked,
            None => FileStatus::Ok,
        },
    };
    FileReport {
        entry: file.entry,
        path: file.path,
        declared_bytes: file.declared_bytes,
        actual_bytes: present_bytes,
        status,
        corrupt_pieces: found.corrupt,
    }
}

/// Limit of `shared_with`. Complete lists would grow with the square of the number of small files
/// in a piece.
const SHARED_WITH_MAX: usize = 16;

/// Marks files that share a bad piece and have no other problem as undecided.
fn mark_undecided(files: &mut [FileReport], shared: &[Vec<usize>]) {
    let bad: Vec<bool> = files.iter().map(|file| is_bad(&file.status)).collect();
    for sharers in shared {
        let known = sharers.iter().any(|file| bad[*file]);
        let suspects = sharers.iter().filter(|file| bad[**file] || !known);
        // One more than the limit, since a file is not listed for itself.
        let suspects: Vec<usize> = suspects.copied().take(SHARED_WITH_MAX + 1).collect();
        for &file in sharers.iter().filter(|file| !bad[**file]) {
            let others = suspects.iter().filter(|suspect| **suspect != file);
            let others = others
                .take(SHARED_WITH_MAX)
                .map(|other| files[*other].entry);
            let others = others.collect();
            add_undecided(&mut files[file].status, others);
        }
    }
}

/// Whether the file has a problem that explains a bad piece.
fn is_bad(status: &FileStatus) -> bool {
    matches!(
        status,
        FileStatus::Missing
            | FileStatus::TooShort
            | FileStatus::Unreadable(_)
            | FileStatus::Corrupt
    )
}

fn add_undecided(status: &mut FileStatus, suspects: Vec<usize>) {
    match status {
        FileStatus::Undecided {
            shared_with: because_of,
        } => {
            because_of.extend(suspects);
            because_of.sort_unstable();
            because_of.dedup();
            because_of.truncate(SHARED_WITH_MAX);
        }
        // A known problem of the file, although it does not explain the bad piece.
        FileStatus::TooLong => {}
        _ => {
            *status = FileStatus::Undecided {
                shared_with: suspects,
            };
        }
    }
}

fn push_piece(runs: &mut Vec<RangeInclusive<usize>>, piece: usize) {
    match runs.last_mut() {
        Some(run) if *run.end() + 1 == piece => *run = *run.start()..=piece,
        _ => runs.push(piece..=piece),
    }
}
