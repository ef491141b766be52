//! Problems that a verification finds.

use std::fmt;
use std::ops::Range;

use crate::snapshot::error::HeapSelectionError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::HeaderError;

/// Part of a store that differs from what was written, or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Logical file with the problem.
    pub file: LogicalFile,
    /// Kind and position of the problem.
    pub kind: ProblemKind,
}

/// Kind and position of a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A copy of METADATA is invalid.
    Metadata {
        /// Number of the copy, 0 or 1.
        copy: usize,
        /// Error of the copy.
        header_error: HeaderError,
    },
    /// The headers of both heaps contradict each other, or no heap is complete.
    HeapSelection(HeapSelectionError),
    /// A part file is missing or has a wrong length.
    PartFiles {
        /// File and error.
        reason: String,
    },
    /// Pages do not match their checksums.
    Pages {
        /// Page numbers.
        pages: Range<u64>,
    },
    /// A block of the checksum tree does not match its checksum, so the pages under it cannot be
    /// verified.
    TreeBlock {
        /// Level of the block; level 0 holds the hashes of pages.
        level: u8,
        /// Number of the block on its level.
        index: u64,
        /// Pages under the block.
        pages: Range<u64>,
    },
    /// A journal record or the header of a journal file is invalid.
    Journal {
        /// Offset in the journal file.
        offset: u64,
        /// Error at that offset.
        reason: String,
    },
    /// The system could not read a file. The stored bytes may still be intact.
    Unreadable {
        /// Pages of a heap that could not be read; empty if the error concerns no pages.
        pages: Range<u64>,
        /// Error of the system.
        error: String,
    },
}

impl ProblemKind {
    /// Returns a stable name of the kind, for machine-readable output.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Metadata { .. } => "metadata",
            Self::HeapSelection(_) => "heap_selection",
            Self::PartFiles { .. } => "part_files",
            Self::Pages { .. } => "pages",
            Self::TreeBlock { .. } => "tree_block",
            Self::Journal { .. } => "journal",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// Returns the pages that the problem affects.
    #[must_use]
    pub fn pages(&self) -> Option<Range<u64>> {
        match self {
            Self::Pages { pages }
            | Self::TreeBlock { pages, .. }
            | Self::Unreadable { pages, .. } => Some(pages.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let array = self.file;
        match &self.kind {
            ProblemKind::Metadata {
                copy,
                header_error: defect,
            } => {
                write!(f, "{array}: copy {copy} of METADATA: {defect}")
            }
            ProblemKind::HeapSelection(error) => write!(f, "no usable heap: {error}"),
            ProblemKind::PartFiles { reason } => write!(f, "{array}: {reason}"),
            ProblemKind::Pages { pages } if pages.end - pages.start == 1 => {
                let page = pages.start;
                write!(f, "{array}: page {page} does not match its checksum")
            }
            ProblemKind::Pages { pages } => {
                let (first, last) = (pages.start, pages.end - 1);
                write!(
                    f,
                    "{array}: pages {first} to {last} do not match their checksums"
                )
            }
            ProblemKind::TreeBlock {
                level,
                index,
                pages,
            } => write!(
                f,
                "{array}: a block of the checksum tree (level {level}, number {index}) does not match its checksum, \
                 so pages {} to {} cannot be verified",
                pages.start,
                pages.end - 1
            ),
            ProblemKind::Journal { offset, reason } => {
                write!(f, "{array}: at offset {offset}: {reason}")
            }
            ProblemKind::Unreadable { pages, error } if pages.is_empty() => {
                write!(f, "{array}: {error}")
            }
            ProblemKind::Unreadable { pages, error } => {
                write!(
                    f,
                    "{array}: pages {} to {}: {error}",
                    pages.start,
                    pages.end - 1
                )
            }
        }
    }
}
