//! Errors of a store.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::file_names::Array;
use super::format::{Defect, HeapName};
use super::region::RegionError;
use super::tracker::TrackerError;

/// Error of a store. The memory is unchanged unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// An operation of the storage backend failed.
    #[error("cannot {operation} {array}")]
    Disk {
        /// Operation that failed.
        operation: &'static str,
        /// Logical file that it was applied to.
        array: Array,
        /// Error of the backend, which names the file.
        source: io::Error,
    },
    /// An operation on the directory of the store failed.
    #[error("{}: cannot {operation}", path.display())]
    Directory {
        /// Directory, or file in it.
        path: PathBuf,
        /// Operation that failed.
        operation: &'static str,
        /// Error of the system.
        source: io::Error,
    },
    /// The directory has files, but none of a store.
    #[error("{}: not a store: {reason}", path.display())]
    NotAStore {
        /// Directory.
        path: PathBuf,
        /// Content of the directory.
        reason: String,
    },
    /// Another process, or another `Store` of this process, has the store open for writing.
    #[error("{}: in use by another writer{}", path.display(), writer_pid(*pid))]
    InUse {
        /// Directory.
        path: PathBuf,
        /// Process that last recorded its id in the lock file.
        pid: Option<u32>,
    },
    /// The headers lead to no complete heap.
    #[error("no heap to restore from")]
    NoHeap(#[source] Box<NoHeap>),
    /// Stored bytes differ from what was written.
    #[error("{array} is damaged at byte {offset}: {what}")]
    Damaged {
        /// Logical file.
        array: Array,
        /// Offset of the corruption in it.
        offset: u64,
        /// Kind of corruption.
        what: Damage,
    },
    /// Neither heap could be restored.
    #[error("nothing to restore from: heap {first} failed ({first_error}), {rest}")]
    NothingGood {
        /// Newest heap.
        first: HeapName,
        /// Error of the newest heap.
        first_error: Box<SnapshotError>,
        /// Result of trying the other heap.
        rest: String,
    },
    /// An earlier error left the store without the latest state of the memory. Reopening the store
    /// restores what is durable.
    #[error("the store is poisoned: {why}; reopen it to restore the durable state")]
    Poisoned {
        /// Error that poisoned the store.
        why: String,
    },
    /// An option has an unusable value.
    #[error("`{option}`: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Why the value is unusable.
        reason: String,
    },
    /// A range is outside of the region.
    #[error("{len} bytes at offset {offset} exceed the region of {region_bytes} bytes")]
    Range {
        /// Start of the range.
        offset: u64,
        /// Length of the range.
        len: u64,
        /// Length of the region.
        region_bytes: u64,
    },
    /// The store was opened for another way of writing ([`Changes`](super::Changes)).
    #[error("`{door}` needs a store opened with Changes::{needs}")]
    Door {
        /// Method that was called.
        door: &'static str,
        /// Mode that the method needs.
        needs: &'static str,
    },
    /// The calling thread holds the access lock already and would wait for itself.
    #[error("`{door}` inside of a transaction, view or write guard of the same store")]
    Nested {
        /// Method that was called.
        door: &'static str,
    },
    /// Another thread held the access lock for longer than the timeout.
    #[error("waited {waited:?} for thread {holder} to release the memory")]
    GateTimeout {
        /// Time waited.
        waited: Duration,
        /// Name or id of a thread that holds the lock.
        holder: String,
    },
    /// External writers could not be stopped for a checkpoint ([`Standstill`](super::Standstill)).
    #[error("cannot stop the external writers of the memory")]
    Standstill(#[source] io::Error),
    /// Reserving, mapping or copying the memory failed.
    #[error("cannot use the memory of the region")]
    Memory(#[from] RegionError),
    /// The dirty tracker failed.
    #[error("cannot determine which pages changed")]
    Tracker(#[from] TrackerError),
    /// A page of the region's memory lost its storage and was replaced by zeros: its file was
    /// truncated, or the disk failed.
    #[error("memory was lost: a page of the mapped heap could not be read")]
    MemoryLost,
    /// A page changed without a report from the tracker, or memory is faulty.
    #[error("page {page} differs from its last checkpoint without a reported change: {why}")]
    Untracked {
        /// Page number.
        page: u64,
        /// Possible cause.
        why: &'static str,
    },
}

/// Kind of corruption of stored bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A page does not match its hash in the checksum tree.
    #[error("page {page} does not have its checksum")]
    Page {
        /// Page number.
        page: u64,
    },
    /// A block of the checksum tree does not match its hash.
    #[error(
        "a block of the checksum tree (level {level}, number {index}) does not have its checksum"
    )]
    Block {
        /// Level in the tree. Level 0 has the hashes of pages.
        level: u8,
        /// Number of the block on its level.
        index: u64,
    },
    /// The logical file is shorter than its header says.
    #[error("it has {present_bytes} bytes, {needed_bytes} are needed")]
    Short {
        /// Present length.
        present_bytes: u64,
        /// Required length.
        needed_bytes: u64,
    },
    /// The header of a journal file is invalid.
    #[error("{0}")]
    Header(#[from] Defect),
    /// A durable record of the journal cannot be read.
    #[error("record {sequence} was durable and cannot be read")]
    Record {
        /// Sequence number of the record.
        sequence: u64,
    },
    /// A record has a valid checksum and an invalid body.
    #[error("record {sequence}: {defect}")]
    Body {
        /// Sequence number of the record.
        sequence: u64,
        /// Reason why the body is invalid.
        defect: Defect,
    },
}

/// Why the headers lead to no heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoHeap {
    /// Neither heap is complete.
    #[error("neither heap is complete: a {a}, b {b}")]
    NoneComplete {
        /// Why heap a is unusable.
        a: Unfit,
        /// Why heap b is unusable.
        b: Unfit,
    },
    /// A newer program wrote one of the heaps.
    #[error("heap {heap} has version {found}, this program knows 1")]
    Version {
        /// Heap.
        heap: HeapName,
        /// Format version of the heap.
        found: u32,
    },
    /// The heaps belong to different stores.
    #[error("the heaps are of different stores: one was copied here from elsewhere")]
    Strangers,
    /// Both heaps have the same generation.
    #[error("both heaps have generation {generation}: one is a copy of the other")]
    Twins {
        /// Generation of both heaps.
        generation: u64,
    },
    /// The files of one heap contain the header of the other heap.
    #[error("the files of heap {heap} hold the other heap: they were renamed")]
    Swapped {
        /// Heap that the files are named after.
        heap: HeapName,
    },
}

/// Why a heap cannot be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// The heap has no files.
    #[error("is missing")]
    Absent,
    /// Neither copy of METADATA is valid.
    #[error("has no valid METADATA ({first}; {second})")]
    Damaged {
        /// Error of the first copy.
        first: Defect,
        /// Error of the second copy.
        second: Defect,
    },
    /// A checkpoint into the heap was interrupted.
    #[error("was being written (generation {generation})")]
    Taken {
        /// Generation of the interrupted checkpoint.
        generation: u64,
    },
}

impl SnapshotError {
    /// Returns a closure that adds the operation and the logical file to an error of the backend.
    pub(crate) fn disk(operation: &'static str, array: Array) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk {
            operation,
            array,
            source,
        }
    }

    /// Returns the matching [`io::ErrorKind`].
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Disk { source, .. }
            | Self::Directory { source, .. }
            | Self::Standstill(source) => source.kind(),
            Self::InUse { .. } => io::ErrorKind::ResourceBusy,
            Self::Option { .. } | Self::Range { .. } | Self::Door { .. } => {
                io::ErrorKind::InvalidInput
            }
            Self::GateTimeout { .. } => io::ErrorKind::TimedOut,
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

fn writer_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Returns an error and its sources in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
