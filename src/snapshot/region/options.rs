//! Options and kinds of regions, and checks of arguments.

use std::fmt;
use std::fs::File;

use super::error::RegionError;
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::address_space::AddressReservation;
use crate::sys::rlimits;

/// Options of a region.
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::{Region, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = RegionOptions::default().reserve_bytes(1 << 30);
/// let region = Region::new_anonymous(4096, options)?;
/// region.grow(1 << 30)?;
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
    /// Sets the address space to reserve, in bytes, which is the maximum length of the region.
    ///
    /// Reserved addresses cost no memory, so terabytes are possible. Defaults to 0, which reserves
    /// the initial length.
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

/// Backing of the memory of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegionKind {
    /// Private memory of this process.
    Anonymous,
    /// A memfd, which other processes may map.
    Memfd,
    /// Files next to each other, whose mappings are shared with other processes.
    Files,
    /// Files next to each other, mapped privately: the files never change, and changed pages are
    /// private memory of this process.
    PrivateFiles,
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous",
            Self::Memfd => "memfd",
            Self::Files => "files",
            Self::PrivateFiles => "restored",
        })
    }
}

/// File of [`Region::map_files`](super::Region::map_files), open for reading and writing.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct FilePart {
    /// The file. A shorter file is extended; a longer one is an error.
    pub file: File,
    /// Length of the part in bytes, a multiple of 4096.
    pub bytes: usize,
}

/// File range of [`Region::map_private_files`](super::Region::map_private_files), open for reading.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct PrivateFilePart {
    /// The file.
    pub file: File,
    /// Offset of the range in the file, a multiple of 4096.
    pub offset: u64,
    /// Length of the range in bytes, a multiple of 4096.
    pub bytes: usize,
}

impl RegionOptions {
    /// Reserves addresses for a region of `len` bytes, which are whole pages.
    pub(super) fn reserve(&self, len: usize) -> Result<AddressReservation, RegionError> {
        let wanted = match self.reserve_bytes {
            0 => len.max(PAGE_BYTES),
            bytes if bytes < len => {
                let reason = format!("{bytes} bytes are less than the length of {len} bytes");
                return Err(RegionError::option("reserve_bytes", reason));
            }
            bytes => whole_pages(bytes)?,
        };
        if let Some(address) = self.fixed_address
            && (address == 0 || !address.is_multiple_of(PAGE_BYTES))
        {
            let reason = format!("{address:#x} is not a positive multiple of {PAGE_BYTES}");
            return Err(RegionError::option("fixed_address", reason));
        }
        AddressReservation::new(wanted, self.fixed_address)
            .map_err(|source| self.refused(wanted, source))
    }

    fn refused(&self, bytes: usize, source: std::io::Error) -> RegionError {
        match (source.raw_os_error(), self.fixed_address) {
            (Some(libc::EEXIST), Some(address)) => RegionError::AddressInUse { address, bytes },
            // The address is below vm.mmap_min_addr.
            (Some(libc::EPERM), Some(address)) => {
                let reason =
                    format!("the kernel allows no mapping at {address:#x} (vm.mmap_min_addr)");
                RegionError::option("fixed_address", reason)
            }
            _ => RegionError::of_mapping(bytes, source),
        }
    }
}

/// Fails unless the system has pages of the format's length: page tables show which pages changed.
pub(super) fn check_page_size() -> Result<(), RegionError> {
    match rlimits::page_bytes() {
        PAGE_BYTES => Ok(()),
        page_bytes => Err(RegionError::UnsupportedPageSize { page_bytes }),
    }
}

/// Rounds up to whole pages.
pub(super) fn whole_pages(bytes: usize) -> Result<usize, RegionError> {
    bytes.checked_next_multiple_of(PAGE_BYTES).ok_or_else(|| {
        RegionError::option("len", format!("{bytes} bytes exceed the address space"))
    })
}

/// Rejects a part that does not consist of whole pages.
pub(super) fn check_part(part: usize, offset: u64, bytes: usize) -> Result<(), RegionError> {
    let whole = bytes.is_multiple_of(PAGE_BYTES) && offset.is_multiple_of(PAGE_BYTES as u64);
    if whole && bytes > 0 {
        return Ok(());
    }
    let reason = format!(
        "part {part}: {bytes} bytes at offset {offset} are not whole pages of {PAGE_BYTES} bytes"
    );
    Err(RegionError::option("parts", reason))
}
