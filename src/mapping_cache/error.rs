//! Errors of the mapping cache, with the path and the numbers that a caller needs.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error of the mapping cache.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MappingError {
    /// An option has an invalid value.
    #[error("option `{field}`: {reason}")]
    InvalidOption {
        /// The option's name.
        field: &'static str,
        /// The reason why the value is invalid.
        reason: String,
    },
    /// No file exists at this path.
    #[error("{}: no such file", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The path leads to a file that is not a regular file.
    #[error("{}: is {found}, not a regular file", path.display())]
    NotRegularFile {
        /// The path.
        path: PathBuf,
        /// The kind of the file.
        found: &'static str,
    },
    /// The path leads out of the root directory.
    #[error("{}: leads out of the root directory; if that is intended, set `allow_outside_root`", path.display())]
    OutsideRoot {
        /// The path.
        path: PathBuf,
    },
    /// The path leads to another file than when it was first opened.
    #[error("{}: another file has replaced the one that was opened before; close the file to accept it", path.display())]
    FileReplaced {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before the requested bytes: it is shorter than declared, or another process
    /// truncated it.
    #[error("{}: the file has {actual_bytes} bytes but {required_bytes} are required", path.display())]
    FileTooShort {
        /// The file.
        path: PathBuf,
        /// Required length of the file.
        required_bytes: u64,
        /// Present length of the file.
        actual_bytes: u64,
    },
    /// The filesystem or the user's quota is full.
    #[error("{}: no space left for {required_bytes} bytes ({available_bytes} available)", path.display())]
    StorageFull {
        /// The file that could not be extended or written.
        path: PathBuf,
        /// Bytes that were to be preallocated or written.
        required_bytes: u64,
        /// Bytes that the filesystem reports as available to this user.
        available_bytes: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The filesystem does not support the operation.
    #[error("{}: the filesystem does not support {operation}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The operation.
        operation: &'static str,
    },
    /// The filesystem cannot map the file. Copies still work.
    #[error("{}: the filesystem cannot map the file; use `read_at` and `write_at` instead", path.display())]
    NotMappable {
        /// The file.
        path: PathBuf,
    },
    /// All of the budget is pinned, and the policy is
    /// [`BudgetPolicy::Fail`](super::BudgetPolicy::Fail).
    #[error(
        "all of the budget is pinned ({budget_bytes} bytes, {mappings_max} mappings); raise `budget_bytes` or `mappings_max`"
    )]
    BudgetExhausted {
        /// The budget in bytes.
        budget_bytes: u64,
        /// The budget in mappings.
        mappings_max: usize,
    },
    /// The window is pinned, so that it cannot be unmapped.
    #[error("{}: the window at byte {offset} is pinned", path.display())]
    WindowPinned {
        /// The file.
        path: PathBuf,
        /// Offset of the window in the file.
        offset: u64,
    },
    /// A span or a copy holds a conflicting lock on part of the range, or waits for one. A copy
    /// waits for other copies, but not for spans. A span without a timeout waits for neither.
    ///
    /// Copies do not starve, and neither do spans with a timeout that wait for copies. A file that
    /// has refused such a request grants conflicting locks to at most 64 later requests. Then the
    /// oldest request comes first, also over several files.
    ///
    /// The fields describe the part of the caller's request that is in this file. They do not
    /// describe the range that the other span or copy holds.
    #[error("{}: bytes {offset} + {len} are locked by another span or copy", path.display())]
    RangeLocked {
        /// The file.
        path: PathBuf,
        /// Offset in the file of the requested range.
        offset: u64,
        /// Length in bytes of the requested range in this file.
        len: u64,
    },
    /// A page of mapped memory was lost and replaced by zeros: the file was truncated, the disk is
    /// full, or the disk failed. Reads through the mapping may return zeros, and stores may be
    /// lost.
    #[error("{}: a mapped page at or after byte {offset} was lost; data read or stored there is invalid", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
        /// Offset of the accessed range in the file.
        offset: u64,
    },
    /// The kernel refuses more mappings, even after windows were evicted.
    #[error("{}: too many mappings; raise the sysctl vm.max_map_count (now {max_map_count}) or lower `mappings_max`", path.display())]
    TooManyMappings {
        /// The file that was to be mapped.
        path: PathBuf,
        /// The present value of the sysctl.
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
    /// Syncing the file failed, so that earlier writes may be lost. Later syncs of this file return
    /// the error again.
    #[error("{}: sync failed; earlier writes may be lost", path.display())]
    SyncFailed {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is opened for reading only.
    #[error("{}: opened for reading only; set `access(Access::ReadWrite)`", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The range ends past the largest offset of a file, 2^63 - 1.
    #[error("{}: bytes {offset} + {len} exceed the largest offset of a file", path.display())]
    OffsetOverflow {
        /// The file.
        path: PathBuf,
        /// The offset.
        offset: u64,
        /// The length of the range.
        len: u64,
    },
    /// Any other error of a system call.
    #[error("{}: cannot {operation}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation that failed.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl MappingError {
    /// Returns the path of the file, if the error concerns a file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::InvalidOption { .. } | Self::BudgetExhausted { .. } => None,
            Self::NotFound { path }
            | Self::NotRegularFile { path, .. }
            | Self::OutsideRoot { path }
            | Self::FileReplaced { path }
            | Self::FileTooShort { path, .. }
            | Self::StorageFull { path, .. }
            | Self::Unsupported { path, .. }
            | Self::NotMappable { path }
            | Self::WindowPinned { path, .. }
            | Self::RangeLocked { path, .. }
            | Self::Poisoned { path, .. }
            | Self::TooManyMappings { path, .. }
            | Self::TooManyDescriptors { path, .. }
            | Self::SyncFailed { path, .. }
            | Self::ReadOnly { path }
            | Self::OffsetOverflow { path, .. }
            | Self::Io { path, .. } => Some(path),
        }
    }

    /// Returns the closest kind of `std::io` error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind as Kind;
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::NotRegularFile { found, .. } if *found == "a directory" => Kind::IsADirectory,
            Self::InvalidOption { .. }
            | Self::OffsetOverflow { .. }
            | Self::NotRegularFile { .. } => Kind::InvalidInput,
            Self::OutsideRoot { .. } | Self::ReadOnly { .. } => Kind::PermissionDenied,
            Self::FileReplaced { .. } => Kind::StaleNetworkFileHandle,
            Self::FileTooShort { .. } => Kind::UnexpectedEof,
            Self::StorageFull { .. } => Kind::StorageFull,
            Self::Unsupported { .. } | Self::NotMappable { .. } => Kind::Unsupported,
            Self::BudgetExhausted { .. } | Self::WindowPinned { .. } | Self::RangeLocked { .. } => {
                Kind::ResourceBusy
            }
            Self::TooManyMappings { .. } => Kind::OutOfMemory,
            Self::TooManyDescriptors { .. } | Self::Poisoned { .. } => Kind::Other,
            Self::SyncFailed { source, .. } | Self::Io { source, .. } => source.kind(),
        }
    }
}

impl From<MappingError> for io::Error {
    /// Wraps the error and keeps its kind.
    fn from(error: MappingError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Returns whether the disk or the quota is full.
pub(in crate::mapping_cache) fn is_storage_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
