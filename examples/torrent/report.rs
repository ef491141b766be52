//! The result of a verification, with the names of the torrent.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use flatspan::mapping_cache::MappingError;
use flatspan::span::{FileReport, FileStatus, GroupError, PieceState, VerifyReport};

use crate::metainfo::Metainfo;

/// The verification of one torrent.
pub(crate) struct Report {
    pub(crate) torrent: PathBuf,
    pub(crate) metainfo: Metainfo,
    /// What the torrent has that was ignored.
    pub(crate) warnings: Vec<String>,
    /// Whether the torrent has a part of version 2, which was not verified.
    pub(crate) has_version_two: bool,
    /// The directory with the content.
    pub(crate) root: PathBuf,
    /// The reason why no file of the torrent's directory can be found.
    pub(crate) directory_problem: Option<String>,
    /// The path below the root of each entry of the group, which has no entries for symbolic links.
    pub(crate) paths: Vec<PathBuf>,
    /// Whether symbolic links were followed.
    pub(crate) follow_symlinks: bool,
    /// Whether a missing empty file is a problem.
    pub(crate) strict: bool,
    pub(crate) verification: VerifyReport,
}

/// Numbers of pieces by state.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PieceCounts {
    pub(crate) ok: usize,
    pub(crate) mismatched: usize,
    pub(crate) unreadable: usize,
    pub(crate) unchecked: usize,
}

impl Report {
    /// Returns whether every piece and every file is correct. A piece of padding only belongs to no
    /// file.
    pub(crate) fn is_ok(&self) -> bool {
        self.verification.complete
            && self.directory_problem.is_none()
            && self.pieces().ok == self.verification.pieces.len()
            && self
                .verification
                .files
                .iter()
                .all(|file| matches!(file.status, FileStatus::Ok) || self.is_tolerated(file))
    }

    /// Returns whether the file is missing and empty, and that is no problem: some clients do not
    /// create empty files.
    pub(crate) fn is_tolerated(&self, file: &FileReport) -> bool {
        matches!(file.status, FileStatus::Missing) && file.declared_bytes == 0 && !self.strict
    }

    pub(crate) fn pieces(&self) -> PieceCounts {
        let mut counts = PieceCounts::default();
        for state in &self.verification.pieces {
            match state {
                PieceState::Ok => counts.ok += 1,
                PieceState::Mismatch => counts.mismatched += 1,
                PieceState::Unreadable(_) => counts.unreadable += 1,
                _ => counts.unchecked += 1,
            }
        }
        counts
    }

    /// The path of an entry, below the root.
    pub(crate) fn path(&self, entry: usize) -> String {
        let path = self.paths.get(entry).cloned().unwrap_or_default();
        path.to_string_lossy().into_owned()
    }

    /// The symbolic link that makes a file unreadable, if there is one. It may be a directory in
    /// the path of the file.
    pub(crate) fn refused_link(&self, file: &FileReport) -> Option<PathBuf> {
        let FileStatus::Unreadable(error) = &file.status else {
            return None;
        };
        let is_refused_link = matches!(
            &**error,
            GroupError::File(MappingError::OutsideRoot { .. })
                | GroupError::File(MappingError::NotRegularFile {
                    found: "a symlink",
                    ..
                })
        );
        if self.follow_symlinks || !is_refused_link {
            return None;
        }
        let path = self.paths.get(file.entry)?;
        let mut prefixes: Vec<_> = path.ancestors().collect();
        prefixes.pop();
        prefixes
            .into_iter()
            .rev()
            .find(|prefix| self.root.join(prefix).is_symlink())
            .map(Path::to_owned)
    }
}

/// The reason for an unreadable file because of a symbolic link.
pub(crate) fn link_reason(link: &Path) -> String {
    let link = link.to_string_lossy();
    format!("{link} is a symbolic link; use --follow-symlinks to follow it")
}

/// An error with its causes, of which the last is that of the system.
pub(crate) fn reason(error: &GroupError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
