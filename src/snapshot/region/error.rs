//! What can go wrong with a region.

use std::io;

use thiserror::Error;

use crate::sys::rlimits;

/// How close to the limit the number of mappings is when it is the reason: one call may split two.
const SPLITS: usize = 4;

/// An error of a region.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegionError {
    /// An option or argument has a value that cannot work.
    #[error("option `{field}`: {reason}")]
    Option {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The processor's pages are not those of the format.
    #[error("pages of this system have {page_bytes} bytes; regions need pages of 4096")]
    PageSize {
        /// What they have.
        page_bytes: usize,
    },
    /// Something lies where the region should.
    #[error("option `address`: something is mapped within {bytes} bytes from {address:#x}")]
    AddressTaken {
        /// The address asked for.
        address: usize,
        /// The bytes to be reserved there.
        bytes: usize,
    },
    /// The region would become longer than what it reserved.
    #[error(
        "option `reserve_bytes`: {needed_bytes} bytes are needed but {reserve_bytes} are reserved"
    )]
    ReserveExceeded {
        /// The length asked for.
        needed_bytes: usize,
        /// What was reserved at the start.
        reserve_bytes: usize,
    },
    /// A range leaves the region.
    #[error("{bytes} bytes from {offset} leave the region, which has {len_bytes}")]
    OutOfRange {
        /// Where the range begins.
        offset: usize,
        /// Its length.
        bytes: usize,
        /// Length of the region.
        len_bytes: usize,
    },
    /// A range is not made of whole pages.
    #[error("{bytes} bytes from {offset} are not whole pages of 4096 bytes")]
    Unaligned {
        /// Where the range begins.
        offset: usize,
        /// Its length.
        bytes: usize,
    },
    /// A file is shorter than the range of it that is to be mapped.
    #[error("part {part}: bytes up to {needed_bytes} are needed but the file has {present_bytes}")]
    ShortFile {
        /// Which part, from 0.
        part: usize,
        /// Length the file should have.
        needed_bytes: u64,
        /// Length it has.
        present_bytes: u64,
    },
    /// A file is longer than its part of the region: what lies behind would come up when the region grows.
    #[error(
        "part {part}: the file has {present_bytes} bytes, more than its {expected_bytes} in the region"
    )]
    LongFile {
        /// Which part, from 0.
        part: usize,
        /// Length the file should have at most.
        expected_bytes: u64,
        /// Length it has.
        present_bytes: u64,
    },
    /// The filesystem is full, or the user's quota on it.
    #[error("part {part}: no space left for its bytes up to {needed_bytes}")]
    StorageFull {
        /// Which part, from 0.
        part: usize,
        /// Length that was to be reserved.
        needed_bytes: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The file cannot be mapped: it is not opened for this, or its filesystem cannot.
    #[error("part {part} cannot be mapped")]
    Unmappable {
        /// Which part, from 0.
        part: usize,
        /// The system's error.
        source: io::Error,
    },
    /// A memfd that cannot be adopted, or not so.
    #[error("the memfd {reason}")]
    Memfd {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The process has as many mappings as it may.
    #[error("the process has {mappings} mappings; vm.max_map_count allows {max_map_count}")]
    MapLimit {
        /// Mappings it has.
        mappings: usize,
        /// The limit.
        max_map_count: usize,
    },
    /// There is not enough memory or address space.
    #[error("no memory or address space for {bytes} bytes")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// The system's error.
        source: io::Error,
    },
    /// A page has no storage: its file was cut, or its disk is full or broken.
    #[error("the page at {offset} has no storage: its file was cut, or its disk is full or failed")]
    BadPage {
        /// Where the first such page begins, or the copy that met it.
        offset: usize,
    },
    /// The system refused something.
    #[error("cannot {operation}")]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl RegionError {
    pub(super) fn option(field: &'static str, reason: String) -> Self {
        Self::Option { field, reason }
    }

    /// For `map_err`.
    pub(in crate::snapshot) fn io(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }

    /// What a failed mapping of so many bytes means.
    pub(super) fn of_mapping(bytes: usize, source: io::Error) -> Self {
        if source.raw_os_error() != Some(libc::ENOMEM) {
            return Self::Io {
                operation: "map memory",
                source,
            };
        }
        let (mappings, max_map_count) = (rlimits::mappings(), rlimits::max_map_count());
        if mappings + SPLITS >= max_map_count {
            return Self::MapLimit {
                mappings,
                max_map_count,
            };
        }
        Self::OutOfMemory { bytes, source }
    }

    /// What a failed mapping of a file means.
    pub(super) fn of_part(part: usize, bytes: usize, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENODEV | libc::EACCES | libc::EPERM) => Self::Unmappable { part, source },
            _ => Self::of_mapping(bytes, source),
        }
    }

    /// What a failed reservation of storage means.
    pub(super) fn of_storage(part: usize, needed_bytes: u64, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::StorageFull {
                part,
                needed_bytes,
                source,
            },
            _ => Self::Io {
                operation: "make a file longer",
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
            | RegionError::Unmappable { source, .. } => source.kind(),
            RegionError::Option { .. }
            | RegionError::Memfd { .. }
            | RegionError::OutOfRange { .. }
            | RegionError::Unaligned { .. } => io::ErrorKind::InvalidInput,
            RegionError::PageSize { .. } => io::ErrorKind::Unsupported,
            RegionError::AddressTaken { .. } => io::ErrorKind::AddrInUse,
            RegionError::ShortFile { .. } => io::ErrorKind::UnexpectedEof,
            RegionError::LongFile { .. } => io::ErrorKind::InvalidData,
            RegionError::MapLimit { .. }
            | RegionError::OutOfMemory { .. }
            | RegionError::ReserveExceeded { .. } => io::ErrorKind::OutOfMemory,
            RegionError::BadPage { .. } => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
