//! What a verification finds.

use std::fmt;
use std::ops::Range;

use crate::snapshot::choose::NoHeap;
use crate::snapshot::disk::Array;
use crate::snapshot::format::Defect;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The array it is in.
    pub array: Array,
    /// What it is.
    pub kind: FaultKind,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// A copy of METADATA.
    Metadata {
        /// 0 or 1.
        copy: usize,
        /// What is wrong with it.
        defect: Defect,
    },
    /// The headers of both heaps contradict each other, or none is complete.
    Headers(NoHeap),
    /// The row of its files: one is missing, or has another length than it must.
    Files {
        /// Which one, and how.
        reason: String,
    },
    /// Pages do not have their checksums.
    Pages {
        /// Their numbers.
        pages: Range<u64>,
    },
    /// A block of the checksum tree does not have its own: nothing is known of the pages beneath.
    Block {
        /// 0 is next to the pages.
        level: u8,
        /// Its number on that level.
        index: u64,
        /// The pages beneath.
        pages: Range<u64>,
    },
    /// A record, or the header of a file of the journal.
    Journal {
        /// Where.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The disk did not give it. That is no damage of what is stored, as far as is known.
    Unreadable {
        /// The pages in question, of a heap.
        pages: Range<u64>,
        /// What the system said.
        error: String,
    },
}

impl FaultKind {
    /// A word for it, that does not change.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Metadata { .. } => "metadata",
            Self::Headers(_) => "heap_selection",
            Self::Files { .. } => "part_files",
            Self::Pages { .. } => "pages",
            Self::Block { .. } => "tree_block",
            Self::Journal { .. } => "journal",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// The pages that it is about.
    #[must_use]
    pub fn pages(&self) -> Option<Range<u64>> {
        match self {
            Self::Pages { pages } | Self::Block { pages, .. } | Self::Unreadable { pages, .. } => {
                Some(pages.clone())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let array = self.array;
        match &self.kind {
            FaultKind::Metadata { copy, defect } => {
                write!(f, "{array}: copy {copy} of METADATA: {defect}")
            }
            FaultKind::Headers(error) => write!(f, "no heap to restore from: {error}"),
            FaultKind::Files { reason } => write!(f, "{array}: {reason}"),
            FaultKind::Pages { pages } => match pages.end - pages.start {
                1 => write!(
                    f,
                    "{array}: page {} does not have its checksum",
                    pages.start
                ),
                _ => {
                    let (first, last) = (pages.start, pages.end - 1);
                    write!(
                        f,
                        "{array}: pages {first} to {last} do not have their checksums"
                    )
                }
            },
            FaultKind::Block {
                level,
                index,
                pages,
            } => write!(
                f,
                "{array}: a block of the checksum tree (level {level}, number {index}) does not have its checksum: \
                 nothing is known of pages {} to {}",
                pages.start,
                pages.end - 1
            ),
            FaultKind::Journal { offset, reason } => {
                write!(f, "{array}: at byte {offset}: {reason}")
            }
            FaultKind::Unreadable { pages, error } if pages.is_empty() => {
                write!(f, "{array}: {error}")
            }
            FaultKind::Unreadable { pages, error } => {
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
