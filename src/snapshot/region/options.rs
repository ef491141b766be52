//! What a region is made of, and the checks of what callers ask for.

use std::fmt;
use std::fs::File;

use super::error::RegionError;
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::address_space::Reservation;
use crate::sys::rlimits;

/// How a region is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionOptions {
    /// Bytes of address space to reserve: how long the region may ever become. 0 for as much as it has at the start.
    /// Reserving costs nothing, and terabytes are fine.
    pub reserve_bytes: usize,
    /// Where it must lie, a multiple of the page size; anywhere if not given.
    pub address: Option<usize>,
    /// Ask for huge pages. A wish: the kernel decides, and some kinds of memory have none.
    pub huge_pages: bool,
}

/// What lies behind the memory of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionKind {
    /// Memory of this process only.
    Anonymous,
    /// A memfd, which other processes may map.
    Memfd,
    /// Files side by side, shared with whoever uses them.
    Files,
    /// Files side by side, mapped privately: they never change, changed pages are this process's own.
    Restored,
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous",
            Self::Memfd => "memfd",
            Self::Files => "files",
            Self::Restored => "restored",
        })
    }
}

/// A file of [`Region::files`](super::Region::files), opened for reading and writing.
#[derive(Debug)]
pub struct FilePart {
    /// The file. If it is shorter, it is made longer; it must not be longer.
    pub file: File,
    /// Its bytes in the region, a multiple of 4096.
    pub bytes: usize,
}

/// A range of a file beneath [`Region::restored`](super::Region::restored), opened for reading.
#[derive(Debug)]
pub struct RestoredPart {
    /// The file.
    pub file: File,
    /// Where the range begins in the file, a multiple of 4096.
    pub offset: u64,
    /// Its length, a multiple of 4096.
    pub bytes: usize,
}

impl RegionOptions {
    /// Reserves what a region of `len` bytes, whole pages already, needs.
    pub(super) fn reserve(&self, len: usize) -> Result<Reservation, RegionError> {
        let wanted = match self.reserve_bytes {
            0 => len.max(PAGE_BYTES),
            bytes if bytes < len => {
                let reason = format!("{bytes} is less than the length, {len}");
                return Err(RegionError::option("reserve_bytes", reason));
            }
            bytes => whole_pages(bytes)?,
        };
        if let Some(address) = self.address
            && (address == 0 || !address.is_multiple_of(PAGE_BYTES))
        {
            let reason = format!("{address:#x} is not a multiple of {PAGE_BYTES} above 0");
            return Err(RegionError::option("address", reason));
        }
        Reservation::new(wanted, self.address).map_err(|source| self.refused(wanted, source))
    }

    fn refused(&self, bytes: usize, source: std::io::Error) -> RegionError {
        match (source.raw_os_error(), self.address) {
            (Some(libc::EEXIST), Some(address)) => RegionError::AddressTaken { address, bytes },
            // Below vm.mmap_min_addr.
            (Some(libc::EPERM), Some(address)) => {
                let reason = format!("the kernel lets nobody map at {address:#x}");
                RegionError::option("address", reason)
            }
            _ => RegionError::of_mapping(bytes, source),
        }
    }
}

/// The format's pages must be the processor's, whose protection and page tables tell what changed.
pub(super) fn check_page_size() -> Result<(), RegionError> {
    match rlimits::page_bytes() {
        PAGE_BYTES => Ok(()),
        page_bytes => Err(RegionError::PageSize { page_bytes }),
    }
}

/// Rounds up to whole pages.
pub(super) fn whole_pages(bytes: usize) -> Result<usize, RegionError> {
    bytes
        .checked_next_multiple_of(PAGE_BYTES)
        .ok_or_else(|| RegionError::option("len", format!("{bytes} bytes are too many")))
}

/// Refuses a part that is not whole pages.
pub(super) fn check_part(part: usize, offset: u64, bytes: usize) -> Result<(), RegionError> {
    let whole = bytes.is_multiple_of(PAGE_BYTES) && offset.is_multiple_of(PAGE_BYTES as u64);
    if whole && bytes > 0 {
        return Ok(());
    }
    let reason =
        format!("part {part}: {bytes} bytes from {offset} are not whole pages of {PAGE_BYTES}");
    Err(RegionError::option("parts", reason))
}
