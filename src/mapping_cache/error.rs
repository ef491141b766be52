//! What can go wrong with a mapped file, each with the path and numbers a caller can act on.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error of the mapping cache.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MappingError {
    /// An option has a value that cannot work.
    #[error("option `{field}`: {reason}")]
    Option {
        /// The option's name.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no file at this path.
    #[error("{}: no such file", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something that is not a regular file lies at this path.
    #[error("{}: not a regular file but {found}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What lies there.
        found: &'static str,
    },
    /// The path would leave the root directory.
    #[error("{}: leaves the root directory; allow it explicitly if that is meant", path.display())]
    OutsideRoot {
        /// The path.
        path: PathBuf,
    },
    /// The path leads to another file than when it was first opened.
    #[error("{}: another file has taken the place of the one opened before; release the file to accept it", path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before the bytes that were asked for: it is shorter than declared, or somebody
    /// has cut it.
    #[error("{}: bytes up to {needed_bytes} are needed but the file has {present_bytes}", path.display())]
    ShortFile {
        /// The file.
        path: PathBuf,
        /// Length the file should have.
        needed_bytes: u64,
        /// Length the file has.
        present_bytes: u64,
    },
    /// The filesystem is full, or the user's quota on it.
    #[error("{}: no space left for {needed_bytes} bytes ({available_bytes} available)", path.display())]
    StorageFull {
        /// The file that could not grow or be filled.
        path: PathBuf,
        /// Bytes that were to be reserved or written.
        needed_bytes: u64,
        /// Bytes the filesystem says it has for this user.
        available_bytes: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The filesystem does not offer the operation.
    #[error("{}: the filesystem does not support {operation}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it cannot do.
        operation: &'static str,
    },
    /// The filesystem refuses to map the file; copies work all the same.
    #[error("{}: cannot be mapped on this filesystem; copy from it instead", path.display())]
    Unmappable {
        /// The file.
        path: PathBuf,
    },
    /// All of the budget is pinned and [`WhenPinned::Fail`](super::WhenPinned::Fail) was chosen.
    #[error("all {budget_bytes} bytes or {mappings_max} mappings of the budget are pinned")]
    BudgetPinned {
        /// The budget in bytes.
        budget_bytes: u64,
        /// The budget in mappings.
        mappings_max: usize,
    },
    /// The window is pinned and cannot be unmapped or mapped longer now.
    #[error("{}: the window at byte {offset} is pinned", path.display())]
    WindowPinned {
        /// The file.
        path: PathBuf,
        /// Where the window starts in the file.
        offset: u64,
    },
    /// The range is borrowed: by a span, or for writing while it is read. Copies wait for each other, not
    /// for spans.
    #[error("{}: bytes {offset} + {len} are borrowed", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// Where the range starts in the file.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// A page of mapped memory was lost and replaced by zeros: somebody cut the file, the disk is full,
    /// or it failed. What was read through the mapping may be zeros; what was stored may be gone.
    #[error("{}: mapped memory behind byte {offset} was lost; what was read or stored there is void", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
        /// Where the range that was used starts in the file.
        offset: u64,
    },
    /// The kernel grants no more mappings, even after windows were evicted.
    #[error("{}: no more mappings; raise the sysctl vm.max_map_count (now {max_map_count}) or lower `mappings_max`", path.display())]
    MapLimit {
        /// The file that was to be mapped.
        path: PathBuf,
        /// The limit of this kernel.
        max_map_count: usize,
    },
    /// The process may open no more files, even after all idle descriptors were closed.
    #[error("{}: too many open files; raise `ulimit -n` (now {descriptors_max})", path.display())]
    TooManyDescriptors {
        /// The file that was to be opened.
        path: PathBuf,
        /// The soft limit of this process.
        descriptors_max: usize,
    },
    /// Writing the file to disk failed. This is final: what was written before may be lost, and no
    /// later sync of this file will say otherwise.
    #[error("{}: sync failed; writes made before it may be lost", path.display())]
    SyncFailed {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is opened for reading only.
    #[error("{}: opened for reading only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// An offset past what a file can have.
    #[error("{}: bytes {offset} + {len} are past the largest offset of a file", path.display())]
    Offset {
        /// The file.
        path: PathBuf,
        /// The offset.
        offset: u64,
        /// Bytes from there.
        len: u64,
    },
    /// Any other error of the system.
    #[error("{}: cannot {operation}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl MappingError {
    /// The file it happened with, if it was one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Option { .. } | Self::BudgetPinned { .. } => None,
            Self::Missing { path }
            | Self::NotAFile { path, .. }
            | Self::OutsideRoot { path }
            | Self::Replaced { path }
            | Self::ShortFile { path, .. }
            | Self::StorageFull { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Unmappable { path }
            | Self::WindowPinned { path, .. }
            | Self::Busy { path, .. }
            | Self::Poisoned { path, .. }
            | Self::MapLimit { path, .. }
            | Self::TooManyDescriptors { path, .. }
            | Self::SyncFailed { path, .. }
            | Self::ReadOnly { path }
            | Self::Offset { path, .. }
            | Self::Io { path, .. } => Some(path),
        }
    }

    /// The kind of `std::io` error this is closest to.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind as Kind;
        match self {
            Self::Option { .. } | Self::Offset { .. } => Kind::InvalidInput,
            Self::Missing { .. } => Kind::NotFound,
            Self::NotAFile { found, .. } if *found == "a directory" => Kind::IsADirectory,
            Self::NotAFile { .. } => Kind::InvalidInput,
            Self::OutsideRoot { .. } | Self::ReadOnly { .. } => Kind::PermissionDenied,
            Self::Replaced { .. } => Kind::StaleNetworkFileHandle,
            Self::ShortFile { .. } => Kind::UnexpectedEof,
            Self::StorageFull { .. } => Kind::StorageFull,
            Self::Unsupported { .. } | Self::Unmappable { .. } => Kind::Unsupported,
            Self::BudgetPinned { .. } | Self::WindowPinned { .. } | Self::Busy { .. } => {
                Kind::ResourceBusy
            }
            Self::MapLimit { .. } => Kind::OutOfMemory,
            Self::TooManyDescriptors { .. } | Self::Poisoned { .. } => Kind::Other,
            Self::SyncFailed { source, .. } | Self::Io { source, .. } => source.kind(),
        }
    }
}

impl From<MappingError> for io::Error {
    /// Keeps the kind; the error itself is the new one's inner error.
    fn from(error: MappingError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Quota is full disk to the one who writes.
pub(in crate::mapping_cache) fn is_storage_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
