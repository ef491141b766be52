//! What a region is made of, and the checks of what callers ask for.

use std::fmt;
use std::fs::File;

use super::error::RegionError;
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::limits;
use crate::sys::reserve::Reservation;

/// Options of a region.
///
/// ```
/// use flatspan::snapshot::{Region, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = RegionOptions::default().reserve_bytes(1 << 30);
/// let region = Region::anonymous(4096, options)?;
/// assert_eq!(region.reserve_bytes(), 1 << 30);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RegionOptions {
    reserve_bytes: usize,
    fixed_address: Option<usize>,
    pub(super) huge_pages: bool,
}

impl RegionOptions {
    /// Sets the address space to reserve, in bytes: the greatest length that the region can have.
    ///
    /// Reserved addresses cost no memory, so terabytes are fine. Defaults to 0, which reserves the
    /// length that the region has at first.
    pub fn reserve_bytes(mut self, bytes: usize) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// Sets the address of the region, a multiple of the page size. Defaults to any free address.
    pub fn fixed_address(mut self, address: usize) -> Self {
        self.fixed_address = Some(address);
        self
    }

    /// Sets whether to ask the kernel for huge pages. Defaults to `false`.
    ///
    /// The kernel decides, and some kinds of memory have no huge pages.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }
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
        if let Some(address) = self.fixed_address
            && (address == 0 || !address.is_multiple_of(PAGE_BYTES))
        {
            let reason = format!("{address:#x} is not a multiple of {PAGE_BYTES} above 0");
            return Err(RegionError::option("fixed_address", reason));
        }
        Reservation::new(wanted, self.fixed_address).map_err(|source| self.refused(wanted, source))
    }

    fn refused(&self, bytes: usize, source: std::io::Error) -> RegionError {
        match (source.raw_os_error(), self.fixed_address) {
            (Some(libc::EEXIST), Some(address)) => RegionError::AddressTaken { address, bytes },
            // Below vm.mmap_min_addr.
            (Some(libc::EPERM), Some(address)) => {
                let reason = format!("the kernel lets nobody map at {address:#x}");
                RegionError::option("fixed_address", reason)
            }
            _ => RegionError::of_mapping(bytes, source),
        }
    }
}

/// The format's pages must be the processor's, whose protection and page tables tell what changed.
pub(super) fn check_page_size() -> Result<(), RegionError> {
    match limits::page_bytes() {
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
