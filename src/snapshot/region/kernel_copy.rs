//! Copies from and to a region, made by the kernel [I6].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::error::RegionError;
use super::memory::{Backing, Region};
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::memfd;

impl Region {
    /// Reads bytes of the region. If another thread writes them meanwhile, each byte is an old or a
    /// new one.
    ///
    /// # Errors
    ///
    /// `buf` may be partly filled.
    ///
    /// - [`RegionError::OutOfBounds`] if the range is not within the region.
    /// - [`RegionError::BadPage`] if a load would raise SIGBUS.
    /// - [`RegionError::Io`] if the copy fails otherwise.
    pub fn read_at(&self, offset: usize, buf: &mut [u8]) -> Result<(), RegionError> {
        self.check_range(offset, buf.len())?;
        let copied = match &self.backing {
            Backing::Memfd(file) => read_memfd(file, offset, buf),
            _ => self.memory.read(offset, buf),
        };
        let copied = copied.map_err(RegionError::io("read from the region"))?;
        bad_page(offset, copied, buf.len())
    }

    /// Reads several ranges, one after the other, into `buf`, which has the length of all of them.
    pub(crate) fn gather(
        &self,
        ranges: &[Range<usize>],
        buf: &mut [u8],
    ) -> Result<(), RegionError> {
        for range in ranges {
            self.check_range(range.start, range.len())?;
        }
        let copied = match &self.backing {
            // A memfd is read range by range.
            Backing::Memfd(_) => 0,
            _ => self
                .memory
                .gather(ranges, buf)
                .map_err(RegionError::io("read from the region"))?,
        };
        let mut before = 0;
        for range in ranges {
            if copied < before + range.len() {
                // One call copies at most 2 GiB, and stops at a bad page.
                self.read_at(range.start, &mut buf[before..before + range.len()])?;
            }
            before += range.len();
        }
        Ok(())
    }

    /// Separate description of the memfd for finding holes, which moves its position. `None` for
    /// other kinds, and without `/proc`.
    pub(crate) fn memfd_to_seek_in(&self) -> Option<File> {
        match &self.backing {
            Backing::Memfd(file) => memfd::reopen(file, false).ok(),
            _ => None,
        }
    }

    /// Writes bytes to the region. Trackers find the change as they find stores.
    ///
    /// # Errors
    ///
    /// Some of the bytes may be written.
    ///
    /// - [`RegionError::OutOfBounds`] if the range is not within the region.
    /// - [`RegionError::BadPage`] if a store would raise SIGBUS.
    /// - [`RegionError::Io`] if the copy fails otherwise.
    pub fn write_at(&self, offset: usize, buf: &[u8]) -> Result<(), RegionError> {
        self.check_range(offset, buf.len())?;
        self.write_all(offset, buf)
    }

    pub(super) fn write_all(&self, offset: usize, buf: &[u8]) -> Result<(), RegionError> {
        let copied = self
            .memory
            .write(offset, buf)
            .map_err(RegionError::io("write to the region"))?;
        bad_page(offset, copied, buf.len())
    }

    pub(super) fn check_range(&self, offset: usize, bytes: usize) -> Result<(), RegionError> {
        let len_bytes = self.len();
        match offset.checked_add(bytes) {
            Some(end) if end <= len_bytes => Ok(()),
            _ => Err(RegionError::OutOfBounds {
                offset,
                bytes,
                len_bytes,
            }),
        }
    }
}

/// Reads the file, not its mapping, because reading a hole of a mapping allocates memory. The rest
/// of the page in which the file ends is zero.
fn read_memfd(file: &File, offset: usize, buf: &mut [u8]) -> io::Result<usize> {
    let mut copied = 0;
    while copied < buf.len() {
        match file.read_at(&mut buf[copied..], (offset + copied) as u64) {
            Ok(0) => break,
            Ok(bytes) => copied += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let end = (offset + copied).next_multiple_of(PAGE_BYTES) - offset;
    let end = end.min(buf.len());
    buf[copied..end].fill(0);
    Ok(end)
}

fn bad_page(offset: usize, copied: usize, wanted: usize) -> Result<(), RegionError> {
    if copied == wanted {
        return Ok(());
    }
    Err(RegionError::BadPage {
        offset: offset + copied,
    })
}
