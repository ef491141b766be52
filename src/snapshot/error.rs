//! What can go wrong with a store.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::choose::NoHeap;
use super::disk::Array;
use super::format::{Defect, HeapName};
use super::region::RegionError;
use super::tracker::TrackerError;

/// An error of a store. What it says of the memory: nothing of it was changed, unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk refused something.
    #[error("cannot {operation} {array}")]
    Disk {
        /// What was asked for.
        operation: &'static str,
        /// Of which array of the store.
        array: Array,
        /// What it said, with the file.
        source: io::Error,
    },
    /// Something about the directory of the store.
    #[error("{}: cannot {operation}", path.display())]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What was asked for.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There are files, but none of a store.
    #[error("{}: not a store: {reason}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// Another process, or another `Store` of this one, has it open for writing.
    #[error("{}: in use by another writer{}", path.display(), held_by(*pid))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who wrote its number there last.
        pid: Option<u32>,
    },
    /// The headers lead to no complete heap.
    #[error("no heap to restore from")]
    NoHeap(#[source] Box<NoHeap>),
    /// Stored bytes are not what was written.
    #[error("{array} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The array.
        array: Array,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: Damage,
    },
    /// No heap could be restored.
    #[error("nothing to restore from: heap {first} failed ({first_error}), {rest}")]
    NothingGood {
        /// The newest.
        first: HeapName,
        /// What was wrong with it.
        first_error: Box<SnapshotError>,
        /// What became of the other one.
        rest: String,
    },
    /// An earlier error has left the store behind the memory; it must be opened again.
    #[error("the store is poisoned: {why}; what is durable comes back when it is opened again")]
    Poisoned {
        /// The error that did it.
        why: String,
    },
    /// An option that cannot work.
    #[error("`{option}`: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A range that is not in the region.
    #[error("{offset} + {len} is not within the region of {region_bytes} bytes")]
    Range {
        /// Where it begins.
        offset: u64,
        /// Its length.
        len: u64,
        /// Length of the region.
        region_bytes: u64,
    },
    /// This store is changed in another way ([`Changes`](super::Changes)).
    #[error("`{door}` needs a store opened with Changes::{needs}")]
    Door {
        /// What was called.
        door: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// The thread has the store's memory in its hands already, so it would wait for itself.
    #[error("`{door}` inside of a transaction, view or write of the same store")]
    Nested {
        /// What was called.
        door: &'static str,
    },
    /// Writers did not come to an end in time.
    #[error("waited {waited:?} for thread {holder} to leave the memory")]
    GateTimeout {
        /// How long.
        waited: Duration,
        /// Who is inside.
        holder: String,
    },
    /// Writers who stand at no gate ([`Standstill`](super::Standstill)) could not be stopped for the instant of a checkpoint.
    #[error("those who write the memory could not be stopped")]
    Standstill(#[source] io::Error),
    /// The memory itself: reserving, mapping, copying.
    #[error("the memory of the region")]
    Memory(#[from] RegionError),
    /// Finding out which pages changed.
    #[error("which pages changed cannot be found out")]
    Tracker(#[from] TrackerError),
    /// A page of the region's memory had no storage and was replaced by zeros (a file was cut, or a disk failed).
    #[error("memory was lost: a page of the heap beneath could not be read")]
    MemoryLost,
    /// A page changed though nobody reported it, or memory is bad.
    #[error("page {page} is not what was checkpointed, and nobody reported a change: {why}")]
    Untracked {
        /// Number of the page.
        page: u64,
        /// What may have happened.
        why: &'static str,
    },
}

/// What is wrong with stored bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A page does not have the hash that the table has for it.
    #[error("page {page} does not have its checksum")]
    Page {
        /// Its number.
        page: u64,
    },
    /// A block of the checksum tree does not have its own.
    #[error(
        "a block of the checksum tree (level {level}, number {index}) does not have its checksum"
    )]
    Block {
        /// 0 is next to the pages.
        level: u8,
        /// Its number on that level.
        index: u64,
    },
    /// The array is shorter than its header says.
    #[error("it ends at {present_bytes}, {needed_bytes} are needed")]
    Short {
        /// What is there.
        present_bytes: u64,
        /// What must be.
        needed_bytes: u64,
    },
    /// The header of a journal file.
    #[error("{0}")]
    Header(#[from] Defect),
    /// A record of the journal that was durable cannot be read.
    #[error("record {sequence} was durable and cannot be read")]
    Record {
        /// Its sequence.
        sequence: u64,
    },
    /// A record that is whole says something impossible.
    #[error("record {sequence}: {defect}")]
    Body {
        /// Its sequence.
        sequence: u64,
        /// What it says.
        defect: Defect,
    },
}

impl SnapshotError {
    pub(crate) fn disk(operation: &'static str, array: Array) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk {
            operation,
            array,
            source,
        }
    }

    /// The kind, as [`io::Error`] has it.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Disk { source, .. } | Self::Directory { source, .. } => source.kind(),
            Self::InUse { .. } => io::ErrorKind::ResourceBusy,
            Self::Option { .. } | Self::Range { .. } | Self::Door { .. } => {
                io::ErrorKind::InvalidInput
            }
            Self::GateTimeout { .. } => io::ErrorKind::TimedOut,
            Self::Standstill(source) => source.kind(),
            Self::Nested { .. } => io::ErrorKind::Deadlock,
            Self::Poisoned { .. } | Self::Memory(_) | Self::Tracker(_) => io::ErrorKind::Other,
            Self::NotAStore { .. }
            | Self::NoHeap(_)
            | Self::Damaged { .. }
            | Self::NothingGood { .. }
            | Self::MemoryLost
            | Self::Untracked { .. } => io::ErrorKind::InvalidData,
        }
    }
}

impl From<NoHeap> for SnapshotError {
    fn from(error: NoHeap) -> Self {
        Self::NoHeap(Box::new(error))
    }
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        Self::new(error.kind(), error)
    }
}

fn held_by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// An error with its sources, in one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
