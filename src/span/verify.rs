//! From the state of each piece to the state of each file. Decisions only: no I/O.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

use super::error::SpanError;
use crate::mapping_cache::MappingError;

/// What a piece turned out to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PieceState {
    /// Its hash is the expected one.
    Ok,
    /// Its hash is another.
    Mismatch,
    /// Some of its bytes could not be read.
    Unreadable(Arc<SpanError>),
    /// It was not looked at: the run was cancelled before.
    Unchecked,
}

/// What a file turned out to be: the gravest thing that is wrong with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FileStatus {
    /// All its bytes are as expected.
    Ok,
    /// It is not there.
    Missing,
    /// It ends before its declared length.
    TooShort,
    /// It could not be read.
    Unreadable(Arc<SpanError>),
    /// Pieces that lie in it alone are not as expected.
    Corrupt,
    /// Its bytes are as expected but it goes on behind its declared length.
    TooLong,
    /// All pieces of its own are good; one it shares is not, and the blame may lie with the others.
    Undecided {
        /// The entries it shares bad pieces with, those known to be bad if there are any; of many the
        /// first 16.
        because_of: Vec<usize>,
    },
    /// Nothing wrong was seen, but the run was cancelled before all of it was looked at.
    Unchecked,
}

/// What became of one file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileReport {
    /// Number of its entry.
    pub entry: usize,
    /// Its path as given to the builder.
    pub path: PathBuf,
    /// Length it should have.
    pub declared_bytes: u64,
    /// Length it has; `None` when it is missing or cannot be asked.
    pub present_bytes: Option<u64>,
    /// The gravest thing that is wrong with it.
    pub status: FileStatus,
    /// Pieces that are not as expected and in which no other file has a part.
    pub corrupt_pieces: Vec<RangeInclusive<usize>>,
}

/// What a verification found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verification {
    /// One state for each piece, in order.
    pub pieces: Vec<PieceState>,
    /// One report for each entry that is a file, in order.
    pub files: Vec<FileReport>,
    /// False when the run was cancelled before its end.
    pub complete: bool,
}

impl Verification {
    /// True when everything was looked at and all of it is as expected.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        let good = |piece: &PieceState| matches!(piece, PieceState::Ok);
        let fine = |file: &FileReport| matches!(file.status, FileStatus::Ok);
        self.pieces.iter().all(good) && self.files.iter().all(fine)
    }
}

/// What is known of a file before its pieces are looked at.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) entry: usize,
    pub(super) path: PathBuf,
    /// As errors name it.
    pub(super) full_path: PathBuf,
    /// Where it lies in the group.
    pub(super) range: Range<u64>,
    /// Length of the file, or where its range ends in it.
    pub(super) declared_bytes: u64,
    /// A range of a file: what lies behind it is not its business.
    pub(super) is_range: bool,
    pub(super) present: Result<u64, SpanError>,
}

/// What the pieces say of one file.
#[derive(Debug, Default)]
struct Evidence {
    /// Mismatches in which no other file has a part.
    corrupt: Vec<RangeInclusive<usize>>,
    unreadable: Option<Arc<SpanError>>,
    unchecked: bool,
}

/// Draws the conclusions. `subjects` are in the order of the group.
pub(super) fn conclude(
    piece_bytes: u64,
    pieces: Vec<PieceState>,
    subjects: Vec<Subject>,
) -> Verification {
    let full_paths: Vec<_> = subjects.iter().map(|file| file.full_path.clone()).collect();
    let ranges: Vec<_> = subjects.iter().map(|file| file.range.clone()).collect();
    let mut evidence: Vec<Evidence> = subjects.iter().map(|_| Evidence::default()).collect();
    // Bad pieces in which several files have a part.
    let mut shared: Vec<Vec<usize>> = Vec::new();
    let mut sharers = Sharers::new(&ranges, piece_bytes);
    for (piece, state) in pieces.iter().enumerate() {
        if matches!(state, PieceState::Ok) {
            continue;
        }
        let files = sharers.of(piece);
        match (state, files.as_slice()) {
            (PieceState::Unchecked, _) => {
                for file in files {
                    evidence[file].unchecked = true;
                }
            }
            (PieceState::Mismatch, [file]) => extend(&mut evidence[*file].corrupt, piece),
            (PieceState::Unreadable(error), [file]) => {
                evidence[*file].unreadable = Some(error.clone());
            }
            (PieceState::Unreadable(error), _) => {
                // The error names the file it happened in.
                let named = |file: &&usize| error.path() == Some(&full_paths[**file]);
                let mut named = files.iter().filter(named);
                // Of two ranges of one file it cannot tell which.
                if let (Some(file), None) = (named.next(), named.next()) {
                    evidence[*file].unreadable = Some(error.clone());
                }
                shared.push(files);
            }
            _ => shared.push(files),
        }
    }
    let files = subjects.into_iter().zip(evidence);
    let mut files: Vec<_> = files.map(|(file, seen)| judge(file, seen)).collect();
    spread_doubt(&mut files, &shared);
    let unchecked = |piece: &PieceState| matches!(piece, PieceState::Unchecked);
    let complete = !pieces.iter().any(unchecked);
    Verification {
        pieces,
        files,
        complete,
    }
}

/// Which files have a part in a piece; asked for pieces in rising order.
struct Sharers<'a> {
    ranges: &'a [Range<u64>],
    piece_bytes: u64,
    /// No file before this one reaches the piece asked for last.
    first: usize,
}

impl<'a> Sharers<'a> {
    fn new(ranges: &'a [Range<u64>], piece_bytes: u64) -> Self {
        Self {
            ranges,
            piece_bytes,
            first: 0,
        }
    }

    fn of(&mut self, piece: usize) -> Vec<usize> {
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

/// The verdict on one file, its neighbours left aside.
fn judge(subject: Subject, seen: Evidence) -> FileReport {
    let present_bytes = subject.present.as_ref().ok().copied();
    let status = match subject.present {
        Err(SpanError::File(MappingError::Missing { .. })) => FileStatus::Missing,
        Err(error) => FileStatus::Unreadable(Arc::new(error)),
        Ok(present) if present < subject.declared_bytes => FileStatus::TooShort,
        Ok(_) if !seen.corrupt.is_empty() => FileStatus::Corrupt,
        Ok(present) => match seen.unreadable {
            Some(error) => FileStatus::Unreadable(error),
            None if seen.unchecked => FileStatus::Unchecked,
            None if present > subject.declared_bytes && !subject.is_range => FileStatus::TooLong,
            None => FileStatus::Ok,
        },
    };
    FileReport {
        entry: subject.entry,
        path: subject.path,
        declared_bytes: subject.declared_bytes,
        present_bytes,
        status,
        corrupt_pieces: seen.corrupt,
    }
}

/// A list of all would grow with the square of the number of small files in one piece.
const SUSPECTS_MAX: usize = 16;

/// Files that share a bad piece and have nothing else wrong are undecided: because of those that have,
/// or of all others.
fn spread_doubt(files: &mut [FileReport], shared: &[Vec<usize>]) {
    let bad: Vec<bool> = files.iter().map(|file| is_bad(&file.status)).collect();
    for sharers in shared {
        let known = sharers.iter().any(|file| bad[*file]);
        let suspects = sharers.iter().filter(|file| bad[**file] || !known);
        // One more, as nobody is a suspect to itself.
        let suspects: Vec<usize> = suspects.copied().take(SUSPECTS_MAX + 1).collect();
        for &file in sharers.iter().filter(|file| !bad[**file]) {
            let others = suspects.iter().filter(|suspect| **suspect != file);
            let others = others.take(SUSPECTS_MAX).map(|other| files[*other].entry);
            let others = others.collect();
            doubt(&mut files[file].status, others);
        }
    }
}

/// Is something wrong with the file that is its own?
fn is_bad(status: &FileStatus) -> bool {
    matches!(
        status,
        FileStatus::Missing
            | FileStatus::TooShort
            | FileStatus::Unreadable(_)
            | FileStatus::Corrupt
    )
}

fn doubt(status: &mut FileStatus, suspects: Vec<usize>) {
    if let FileStatus::Undecided { because_of } = status {
        because_of.extend(suspects);
        because_of.sort_unstable();
        because_of.dedup();
        because_of.truncate(SUSPECTS_MAX);
    } else {
        *status = FileStatus::Undecided {
            because_of: suspects,
        };
    }
}

fn extend(runs: &mut Vec<RangeInclusive<usize>>, piece: usize) {
    match runs.last_mut() {
        Some(run) if *run.end() + 1 == piece => *run = *run.start()..=piece,
        _ => runs.push(piece..=piece),
    }
}
