//! Errors of regions.

use std::io;

use thiserror::Error;

use crate::sys::rlimits;

/// Distance to the limit of mappings at which the limit counts as the cause, since one call may
/// split two mappings.
const SPLITS: usize = 4;

/// An error of a region.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegionError {
    /// An option or argument is invalid.
    #[error("invalid `{field}`: {reason}")]
    InvalidOption {
        /// Name of the option or argument.
        field: &'static str,
        /// Reason why it is invalid.
        reason: String,
    },
    /// The pages of the system do not have the length that the format needs.
    #[error("the system has pages of {page_bytes} bytes, but regions need pages of 4096 bytes")]
    UnsupportedPageSize {
        /// Length of a page of the system in bytes.
        page_bytes: usize,
    },
    /// Something is mapped at the address that was asked for.
    #[error(
        "the {bytes} bytes at {address:#x} overlap an existing mapping; choose another `fixed_address`"
    )]
    AddressInUse {
        /// The address.
        address: usize,
        /// Length of the address range in bytes.
        bytes: usize,
    },
    /// The region would become longer than its reserved addresses.
    #[error(
        "region of {required_bytes} bytes exceeds the {reserve_bytes} reserved bytes; increase `reserve_bytes`"
    )]
    ReserveExceeded {
        /// The new length in bytes.
        required_bytes: usize,
        /// Reserved addresses in bytes.
        reserve_bytes: usize,
    },
    /// A range is not within the region.
    #[error("{bytes} bytes at offset {offset} are not within the region of {len_bytes} bytes")]
    OutOfBounds {
        /// Start of the range.
        offset: usize,
        /// Length of the range.
        bytes: usize,
        /// Length of the region.
        len_bytes: usize,
    },
    /// A range does not consist of whole pages.
    #[error("{bytes} bytes at offset {offset} are not whole pages of 4096 bytes")]
    Unaligned {
        /// Start of the range.
        offset: usize,
        /// Length of the range.
        bytes: usize,
    },
    /// A file ends before the range that is to be mapped.
    #[error("part {part}: the file has {actual_bytes} bytes, but {required_bytes} are required")]
    FileTooShort {
        /// Index of the part.
        part: usize,
        /// Length that the file should have.
        required_bytes: u64,
        /// Length that it has.
        actual_bytes: u64,
    },
    /// A file is longer than its part of the region. The extra bytes would appear when the region
    /// grows.
    #[error(
        "part {part}: the file has {actual_bytes} bytes, more than the {expected_bytes} of its part"
    )]
    FileTooLong {
        /// Index of the part.
        part: usize,
        /// Maximum length of the file.
        expected_bytes: u64,
        /// Length that it has.
        actual_bytes: u64,
    },
    /// The filesystem is full, or the quota of the user is reached.
    #[error("part {part}: cannot reserve storage for {required_bytes} bytes")]
    StorageFull {
        /// Index of the part.
        part: usize,
        /// Length for which storage was to be reserved.
        required_bytes: u64,
        /// Error of the system.
        source: io::Error,
    },
    /// A file cannot be mapped: it is opened with the wrong access mode, or its filesystem does not
    /// support mappings.
    #[error("part {part}: cannot map the file")]
    NotMappable {
        /// Index of the part.
        part: usize,
        /// Error of the system.
        source: io::Error,
    },
    /// A memfd cannot be used for this kind of region.
    #[error("the memfd {reason}")]
    InvalidMemfd {
        /// Reason, as a predicate of the memfd.
        reason: &'static str,
    },
    /// The process has reached the limit of mappings.
    #[error(
        "the process has {mappings} mappings, and vm.max_map_count allows {max_map_count}; raise that limit"
    )]
    TooManyMappings {
        /// Mappings of the process.
        mappings: usize,
        /// The limit.
        max_map_count: usize,
    },
    /// There is not enough memory or address space.
    #[error("cannot map {bytes} bytes")]
    OutOfMemory {
        /// Length of the mapping in bytes.
        bytes: usize,
        /// Error of the system.
        source: io::Error,
    },
    /// A page has no storage: its file was truncated, or its disk is full or failed.
    #[error(
        "the page at offset {offset} has no storage: its file was truncated, or its disk is full or failed"
    )]
    BadPage {
        /// Offset of the first such page, or of the copy that found it.
        offset: usize,
    },
    /// A system call failed.
    #[error("cannot {operation}")]
    Io {
        /// Failed operation.
        operation: &'static str,
        /// Error of the system.
        source: io::Error,
    },
}

impl RegionError {
    pub(super) fn option(field: &'static str, reason: String) -> Self {
        Self::InvalidOption { field, reason }
    }

    /// Error conversion for `map_err`.
    pub(in crate::snapshot) fn io(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }

    /// Cause of a failed mapping of this length.
    pub(super) fn of_mapping(bytes: usize, source: io::Error) -> Self {
        if source.raw_os_error() != Some(libc::ENOMEM) {
            return Self::Io {
                operation: "map memory",
                source,
            };
        }
        let (mappings, max_map_count) = (rlimits::mappings(), rlimits::max_map_count());
        if mappings + SPLITS >= max_map_count {
            return Self::TooManyMappings {
                mappings,
                max_map_count,
            };
        }
        Self::OutOfMemory { bytes, source }
    }

    /// Cause of a failed mapping of a file.
    pub(super) fn of_part(part: usize, bytes: usize, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENODEV | libc::EACCES | libc::EPERM) => Self::NotMappable { part, source },
            _ => Self::of_mapping(bytes, source),
        }
    }

    /// Cause of a failed preallocation.
    pub(super) fn of_storage(part: usize, needed_bytes: u64, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::StorageFull {
                part,
                required_bytes: needed_bytes,
                source,
            },
            _ => Self::Io {
                operation: "extend a file",
                source,
            },
        }
    }
}

impl From<RegionError> for io::Error {
    fn from(error: RegionError) -> Self {
        let kind = match &error {
            RegionError::Io { source, .. }
            | RegionError::StorageFull { source, .. }
            | RegionError::NotMappable { source, .. } => source.kind(),
            RegionError::InvalidOption { .. }
            | RegionError::InvalidMemfd { .. }
            | RegionError::OutOfBounds { .. }
            | RegionError::Unaligned { .. } => io::ErrorKind::InvalidInput,
            RegionError::UnsupportedPageSize { .. } => io::ErrorKind::Unsupported,
            RegionError::AddressInUse { .. } => io::ErrorKind::AddrInUse,
            RegionError::FileTooShort { .. } => io::ErrorKind::UnexpectedEof,
            RegionError::FileTooLong { .. } => io::ErrorKind::InvalidData,
            RegionError::TooManyMappings { .. }
            | RegionError::OutOfMemory { .. }
            | RegionError::ReserveExceeded { .. } => io::ErrorKind::OutOfMemory,
            RegionError::BadPage { .. } => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
