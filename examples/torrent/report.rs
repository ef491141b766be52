//! The result of a verification, with the names of the torrent.

use std::path::PathBuf;

use flatspan::span::{FileStatus, PieceState, VerifyReport};

use crate::metainfo::Metainfo;

/// The verification of one torrent.
pub(crate) struct Report {
    pub(crate) torrent: PathBuf,
    pub(crate) metainfo: Metainfo,
    /// The torrent's file for each entry of the group, which has no entries for symbolic links.
    pub(crate) file_of_entry: Vec<usize>,
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
            && self.pieces().ok == self.verification.pieces.len()
            && self
                .verification
                .files
                .iter()
                .all(|file| matches!(file.status, FileStatus::Ok))
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
        let file = self
            .file_of_entry
            .get(entry)
            .map(|file| self.metainfo.disk_path(*file));
        file.unwrap_or_default().to_string_lossy().into_owned()
    }
}
