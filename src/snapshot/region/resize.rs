//! Growing and shrinking a region in place.

use super::constructors::{lengthen, map_shared, map_zeros, prefer_huge_pages};
use super::error::RegionError;
use super::memory::{Backing, Region, Shape};
use super::options::{FilePart, check_part, whole_pages};
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::{fallocate, statx};

impl Region {
    /// Grows the region to at least `len` bytes, rounded up to whole pages. It does not move, and
    /// the new bytes are zero.
    ///
    /// In a region of files the last file is extended; [`append_file`](Self::append_file) adds
    /// another one. Report the growth to the tracker before any thread stores to the new bytes
    /// ([`DirtyTracker::note_grown`](crate::snapshot::DirtyTracker::note_grown)).
    ///
    /// # Errors
    ///
    /// The length does not change on errors.
    ///
    /// - [`RegionError::ReserveExceeded`] if `len` exceeds the reserved addresses.
    /// - Any error of the constructor.
    pub fn grow(&self, len: usize) -> Result<(), RegionError> {
        let len = self.within_reserve(whole_pages(len)?)?;
        let mut shape = self.shape();
        let old = self.len();
        if len <= old {
            return Ok(());
        }
        match &self.backing {
            Backing::Anonymous | Backing::Restored(_) => map_zeros(&self.memory, old..len)?,
            Backing::Memfd(file) => {
                let longer = RegionError::io("extend the memfd");
                let present = statx::len(file).map_err(&longer)?;
                // The bytes are left from before the region shrank, and another process may have
                // written them.
                let left = present.saturating_sub(old as u64);
                if left > 0 {
                    fallocate::punch(file, old as u64, left).map_err(&longer)?;
                }
                if present < len as u64 {
                    file.set_len(len as u64).map_err(longer)?;
                }
                map_shared(&self.memory, old..len, file, old, 0)?;
            }
            Backing::Files => self.grow_last(&mut shape, old, len)?,
        }
        self.finish_growth(old, len);
        Ok(())
    }

    /// Grows a region of files by one more file; otherwise the same as [`grow`](Self::grow).
    ///
    /// # Errors
    ///
    /// - [`RegionError::InvalidOption`] for `parts` if the region is of another kind.
    /// - Any error of [`grow`](Self::grow) and [`map_files`](Self::map_files).
    pub fn append_file(&self, part: FilePart) -> Result<(), RegionError> {
        let mut shape = self.shape();
        let number = shape.files.len();
        if !matches!(self.backing, Backing::Files) {
            let reason = format!("a region of kind {} has no files", self.kind());
            return Err(RegionError::option("parts", reason));
        }
        check_part(number, 0, part.bytes)?;
        let old = self.len();
        let len = self.within_reserve(old.saturating_add(part.bytes))?;
        lengthen(number, &part.file, 0..part.bytes, part.bytes)?;
        map_shared(&self.memory, old..len, &part.file, 0, number)?;
        shape.files.push(part);
        self.finish_growth(old, len);
        Ok(())
    }

    /// Shrinks the region to at most `len` bytes, rounded up to whole pages. The removed pages are
    /// freed, and are zero if the region grows again.
    ///
    /// Other threads must not access the removed pages. A memfd keeps its length because of its
    /// seal, and frees its memory. Files are truncated; those with no bytes left are removed from
    /// the region, except the first. Files under private mappings do not change.
    ///
    /// # Errors
    ///
    /// - [`RegionError::TooManyMappings`] or [`RegionError::Io`] if the pages cannot be unmapped.
    /// - [`RegionError::Io`] if a file cannot be truncated. The region is shorter nevertheless.
    pub fn shrink(&self, len: usize) -> Result<(), RegionError> {
        let len = whole_pages(len)?;
        let mut shape = self.shape();
        let old = self.len();
        if len >= old {
            return Ok(());
        }
        self.memory
            .unmap(len..old)
            .map_err(|source| RegionError::of_mapping(old - len, source))?;
        self.set_len(len);
        match &self.backing {
            Backing::Anonymous => Ok(()),
            Backing::Restored(_) => {
                shape.truncate_file_ranges(len);
                Ok(())
            }
            Backing::Memfd(file) => fallocate::punch(file, len as u64, (old - len) as u64)
                .map_err(RegionError::io("free memory of the memfd")),
            Backing::Files => shape.truncate_files(len),
        }
    }

    pub(super) fn within_reserve(&self, needed_bytes: usize) -> Result<usize, RegionError> {
        let reserve_bytes = self.reserved_bytes();
        if needed_bytes <= reserve_bytes {
            return Ok(needed_bytes);
        }
        Err(RegionError::ReserveExceeded {
            required_bytes: needed_bytes,
            reserve_bytes,
        })
    }

    fn grow_last(&self, shape: &mut Shape, old: usize, len: usize) -> Result<(), RegionError> {
        let part = shape.files.len().saturating_sub(1);
        let Some(last) = shape.files.last_mut() else {
            let reason = "the region has no file to grow; append one".to_owned();
            return Err(RegionError::option("parts", reason));
        };
        let bytes = last.bytes + (len - old);
        lengthen(part, &last.file, last.bytes..bytes, last.bytes)?;
        map_shared(&self.memory, old..len, &last.file, last.bytes, part)?;
        last.bytes = bytes;
        Ok(())
    }

    /// Requires the lock of the shape.
    pub(super) fn finish_growth(&self, old: usize, len: usize) {
        if self.huge_pages {
            prefer_huge_pages(&self.memory, old..len);
        }
        debug_assert!(len.is_multiple_of(PAGE_BYTES));
        self.set_len(len);
    }
}

impl Shape {
    fn truncate_file_ranges(&mut self, len: usize) {
        self.file_ranges.retain_mut(|range| {
            range.end = range.end.min(len);
            range.start < range.end
        });
    }

    /// Truncates all files, and returns the first error.
    fn truncate_files(&mut self, len: usize) -> Result<(), RegionError> {
        let mut start = 0;
        let mut result = Ok(());
        for part in &mut self.files {
            let kept = len.saturating_sub(start).min(part.bytes);
            start += part.bytes;
            if kept < part.bytes {
                part.bytes = kept;
                let truncated = part.file.set_len(kept as u64);
                result =
                    result.and_then(|()| truncated.map_err(RegionError::io("truncate a file")));
            }
        }
        let mut is_first = true;
        self.files
            .retain(|part| std::mem::take(&mut is_first) || part.bytes > 0);
        result
    }
}
