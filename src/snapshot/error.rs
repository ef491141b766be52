//! Errors of a store.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::file_names::LogicalFile;
use super::format::{HeaderError, HeapName};
use super::region::RegionError;
use super::tracker::TrackerError;
use crate::numbers::{Generation, PageIndex, Sequence};

/// Error of a store. The memory is unchanged unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An operation of the storage backend failed.
    #[error("cannot {operation} {file}")]
    Backend {
        /// Operation that failed.
        operation: &'static str,
        /// Logical file that it was applied to.
        file: LogicalFile,
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
    #[error("{}: in use by {}", path.display(), writer(*pid))]
    InUse {
        /// Directory.
        path: PathBuf,
        /// Process that last recorded its id in the lock file.
        pid: Option<u32>,
    },
    /// The headers lead to no complete heap.
    #[error("no heap to restore from")]
    HeapSelection(#[source] Box<HeapSelectionError>),
    /// Stored bytes differ from what was written.
    #[error("{file} is corrupt at byte {offset}: {cause}")]
    Corrupt {
        /// Logical file.
        file: LogicalFile,
        /// Offset of the corruption in it.
        offset: u64,
        /// Kind of corruption.
        cause: CorruptionCause,
    },
    /// Neither heap could be restored.
    #[error("nothing to restore from: heap {first} failed ({first_error}), {rest}")]
    NoUsableHeap {
        /// Newest heap.
        first: HeapName,
        /// Error of the newest heap.
        first_error: Box<Self>,
        /// Result of trying the other heap.
        rest: String,
    },
    /// An earlier error left the files of the store without the latest state of the memory.
    ///
    /// A store is poisoned by a failed sync or write of the journal, or by a lost page of its
    /// memory. It then accepts no commit and no checkpoint. Reopening the store restores what is
    /// durable.
    #[error("the store is poisoned: {why}; reopen it to restore the durable state")]
    Poisoned {
        /// Error that poisoned the store.
        why: String,
    },
    /// An option has an unusable value.
    #[error("`{option}`: {reason}")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// Why the value is unusable.
        reason: String,
    },
    /// A range is outside of the region. A new store has a region of 0 bytes, unless
    /// [`StoreOptions::initial_bytes`](super::StoreOptions::initial_bytes) is set.
    #[error("{len} bytes at offset {offset} exceed the region of {region_bytes} bytes")]
    OutOfBounds {
        /// Start of the range.
        offset: u64,
        /// Length of the range.
        len: u64,
        /// Length of the region.
        region_bytes: u64,
    },
    /// A range ends before it starts.
    #[error("range {start}..{end} ends before it starts")]
    InvertedRange {
        /// Start of the range.
        start: u64,
        /// End of the range.
        end: u64,
    },
    /// A slice of a type starts at an offset that is not a multiple of the alignment of the type.
    #[error("offset {offset} is not aligned to {align} bytes")]
    Unaligned {
        /// Start of the slice.
        offset: u64,
        /// Alignment of the type.
        align: usize,
    },
    /// The store was opened with another [`WriteMode`](super::WriteMode).
    #[error("`{method}` needs a store opened with WriteMode::{required}")]
    WrongMode {
        /// Method that was called.
        method: &'static str,
        /// Mode that the method needs.
        required: &'static str,
    },
    /// The calling thread holds the access lock already and would wait for itself.
    #[error("`{method}` inside of a transaction, view or write guard of the same store")]
    WouldDeadlock {
        /// Method that was called.
        method: &'static str,
    },
    /// Another thread held the access lock for longer than the timeout.
    #[error("waited {waited:?} for thread {holder} to release the memory")]
    LockTimeout {
        /// Time waited.
        waited: Duration,
        /// Name or id of a thread that holds the lock.
        holder: String,
    },
    /// [`Quiesce::quiesce`](super::Quiesce::quiesce) failed to stop the external writers.
    #[error("cannot stop the external writers of the memory")]
    Quiesce(#[source] io::Error),
    /// Reserving, mapping or copying the memory failed.
    #[error("cannot use the memory of the region")]
    Region(#[from] RegionError),
    /// The dirty tracker failed.
    #[error("cannot determine which pages changed")]
    Tracker(#[from] TrackerError),
    /// A page of the region's memory lost its storage and was replaced by zeros: its file was
    /// truncated, or the disk failed.
    #[error("memory was lost: a page of the mapped heap could not be read")]
    MemoryLost,
    /// A page changed without a report from the tracker, or memory is faulty.
    #[error("page {page} differs from its last checkpoint without a reported change: {why}")]
    UntrackedChange {
        /// Page number.
        page: PageIndex,
        /// Possible cause.
        why: &'static str,
    },
}

/// Kind of corruption of stored bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorruptionCause {
    /// A page does not match its hash in the checksum tree.
    #[error("page {page} does not have its checksum")]
    PageChecksum {
        /// Page number.
        page: PageIndex,
    },
    /// A block of the checksum tree does not match its hash.
    #[error(
        "a block of the checksum tree (level {level}, number {index}) does not have its checksum"
    )]
    TreeBlockChecksum {
        /// Level in the tree. Level 0 has the hashes of pages.
        level: u8,
        /// Number of the block on its level.
        index: u64,
    },
    /// The logical file is shorter than its header says.
    #[error("it has {actual_bytes} bytes, {required_bytes} are needed")]
    TooShort {
        /// Present length.
        actual_bytes: u64,
        /// Required length.
        required_bytes: u64,
    },
    /// The header of a journal file is invalid.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// A durable record of the journal cannot be read.
    #[error("record {sequence} was durable and cannot be read")]
    UnreadableRecord {
        /// Sequence number of the record.
        sequence: Sequence,
    },
    /// A record has a valid checksum and an invalid body.
    #[error("record {sequence}: {header_error}")]
    InvalidRecord {
        /// Sequence number of the record.
        sequence: Sequence,
        /// Reason why the body is invalid.
        header_error: HeaderError,
    },
}

/// Why the headers lead to no heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeapSelectionError {
    /// Neither heap is complete.
    #[error("neither heap is complete: a {a}, b {b}")]
    NoneComplete {
        /// Why heap a is unusable.
        a: HeapUnusable,
        /// Why heap b is unusable.
        b: HeapUnusable,
    },
    /// A newer program wrote one of the heaps.
    #[error("heap {heap} has version {found}, this program knows 1")]
    UnsupportedVersion {
        /// Heap.
        heap: HeapName,
        /// Format version of the heap.
        found: u32,
    },
    /// The heaps belong to different stores.
    #[error("the heaps are of different stores: one was copied here from elsewhere")]
    StoreIdMismatch,
    /// Both heaps have the same generation.
    #[error("both heaps have generation {generation}: one is a copy of the other")]
    DuplicateGeneration {
        /// Generation of both heaps.
        generation: Generation,
    },
    /// The files of one heap contain the header of the other heap.
    #[error("the files of heap {heap} hold the other heap: they were renamed")]
    WrongHeap {
        /// Heap that the files are named after.
        heap: HeapName,
    },
}

/// Why a heap cannot be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeapUnusable {
    /// The heap has no files.
    #[error("is missing")]
    Missing,
    /// Neither copy of METADATA is valid.
    #[error("has no valid METADATA ({first}; {second})")]
    Corrupt {
        /// Error of the first copy.
        first: HeaderError,
        /// Error of the second copy.
        second: HeaderError,
    },
    /// A checkpoint into the heap was interrupted.
    #[error("was being written (generation {generation})")]
    Incomplete {
        /// Generation of the interrupted checkpoint.
        generation: Generation,
    },
}

impl StoreError {
    /// Returns a closure that adds the operation and the logical file to an error of the backend.
    pub(crate) fn disk(
        operation: &'static str,
        array: LogicalFile,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Backend {
            operation,
            file: array,
            source,
        }
    }

    /// Returns the matching [`io::ErrorKind`].
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Backend { source, .. }
            | Self::Directory { source, .. }
            | Self::Quiesce(source) => source.kind(),
            Self::InUse { .. } => io::ErrorKind::ResourceBusy,
            Self::InvalidOption { .. }
            | Self::OutOfBounds { .. }
            | Self::InvertedRange { .. }
            | Self::Unaligned { .. }
            | Self::WrongMode { .. } => io::ErrorKind::InvalidInput,
            Self::LockTimeout { .. } => io::ErrorKind::TimedOut,
            Self::WouldDeadlock { .. } => io::ErrorKind::Deadlock,
            Self::Poisoned { .. } | Self::Region(_) | Self::Tracker(_) => io::ErrorKind::Other,
            Self::NotAStore { .. }
            | Self::HeapSelection(_)
            | Self::Corrupt { .. }
            | Self::NoUsableHeap { .. }
            | Self::MemoryLost
            | Self::UntrackedChange { .. } => io::ErrorKind::InvalidData,
        }
    }
}

impl From<HeapSelectionError> for StoreError {
    fn from(error: HeapSelectionError) -> Self {
        Self::HeapSelection(Box::new(error))
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind(), error)
    }
}

fn writer(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => {
            format!("another `Store` that was opened by this process ({pid})")
        }
        Some(pid) => format!("another writer (process {pid})"),
        None => "another writer".to_owned(),
    }
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
