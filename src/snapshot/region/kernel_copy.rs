//! Copies out of and into a region, done by the kernel (hazard 6).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::error::RegionError;
use super::memory::{Backing, Region};
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::memfd;

impl Region {
    /// Copies from the region into `buf`, whoever writes it meanwhile: then each byte is one that was there.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](RegionError::OutOfRange); [`BadPage`](RegionError::BadPage) where a plain load would raise a
    /// signal. `buf` may be filled in part.
    pub fn copy_out(&self, offset: usize, buf: &mut [u8]) -> Result<(), RegionError> {
        self.check_range(offset, buf.len())?;
        let copied = match &self.backing {
            Backing::Memfd(file) => read_memfd(file, offset, buf),
            _ => self.memory.read(offset, buf),
        };
        let copied = copied.map_err(RegionError::io("copy out of a region"))?;
        bad_page(offset, copied, buf.len())
    }

    /// As [`copy_out`](Self::copy_out), of several ranges in order, to one behind the other: `buf` is as long as they are
    /// together.
    pub(crate) fn gather(
        &self,
        ranges: &[Range<usize>],
        buf: &mut [u8],
    ) -> Result<(), RegionError> {
        for range in ranges {
            self.check_range(range.start, range.len())?;
        }
        let copied = match &self.backing {
            // Each by itself.
            Backing::Memfd(_) => 0,
            _ => self
                .memory
                .gather(ranges, buf)
                .map_err(RegionError::io("copy out of a region"))?,
        };
        let mut before = 0;
        for range in ranges {
            if copied < before + range.len() {
                // What one call copies is more than 2 GiB or has a bad page in it.
                self.copy_out(range.start, &mut buf[before..before + range.len()])?;
            }
            before += range.len();
        }
        Ok(())
    }

    /// A description of the memfd of its own, to look for holes, which moves its position; `None` for the other kinds, and where
    /// there is no `/proc`.
    pub(crate) fn memfd_to_seek_in(&self) -> Option<File> {
        match &self.backing {
            Backing::Memfd(file) => memfd::reopen(file, false).ok(),
            _ => None,
        }
    }

    /// Copies `buf` into the region. Its trackers see that as they see stores.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](RegionError::OutOfRange); [`BadPage`](RegionError::BadPage) where a plain store would raise a
    /// signal. A part of `buf` may be there then.
    pub fn copy_in(&self, offset: usize, buf: &[u8]) -> Result<(), RegionError> {
        self.check_range(offset, buf.len())?;
        self.write_all(offset, buf)
    }

    pub(super) fn write_all(&self, offset: usize, buf: &[u8]) -> Result<(), RegionError> {
        let copied = self
            .memory
            .write(offset, buf)
            .map_err(RegionError::io("copy into a region"))?;
        bad_page(offset, copied, buf.len())
    }

    pub(super) fn check_range(&self, offset: usize, bytes: usize) -> Result<(), RegionError> {
        let len_bytes = self.len();
        match offset.checked_add(bytes) {
            Some(end) if end <= len_bytes => Ok(()),
            _ => Err(RegionError::OutOfRange {
                offset,
                bytes,
                len_bytes,
            }),
        }
    }
}

/// By the file, not by its mapping: reading a hole there, also by the kernel, would give it memory. What is missing of the page
/// that the file ends in is zeros.
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
