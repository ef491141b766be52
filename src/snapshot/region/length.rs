//! Growing and shrinking in place.

use super::error::RegionError;
use super::make::{lengthen, map_shared, map_zeros, prefer_huge_pages};
use super::memory::{Backing, Region, Shape};
use super::options::{FilePart, check_part, whole_pages};
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::{fallocate, statx};

impl Region {
    /// Makes it at least `len` bytes long, rounded up to whole pages; it does not move, and what is new is zeros. With
    /// files the last one becomes longer ([`append`](Self::append) adds another).
    ///
    /// A tracker must be told ([`DirtyTracker::grown`](crate::snapshot::DirtyTracker::grown)) before anybody stores
    /// there.
    ///
    /// # Errors
    ///
    /// [`ReserveExceeded`](RegionError::ReserveExceeded), and as when it was made. The length stays then.
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
                let longer = RegionError::io("make a memfd longer");
                let present = statx::len(file).map_err(&longer)?;
                // Left from before it shrank; others who have the memfd may have written there.
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

    /// Makes a region of files longer by one more file; otherwise as [`grow`](Self::grow).
    ///
    /// # Errors
    ///
    /// As [`grow`](Self::grow) and [`files`](Self::files); option `parts` when it is not a region of files.
    pub fn append(&self, part: FilePart) -> Result<(), RegionError> {
        let mut shape = self.shape();
        let number = shape.files.len();
        if !matches!(self.backing, Backing::Files) {
            let reason = format!("a region of kind {} takes no files", self.kind());
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

    /// Makes it at most `len` bytes long, rounded up to whole pages: the pages behind are given back, and are zeros if
    /// it grows again. Nobody may use them any more.
    ///
    /// A memfd keeps its length, since it is sealed, and gives its memory back. Files are cut, and those of which
    /// nothing is left have 0 bytes and leave the region, but the first. Files beneath a restored region stay as they
    /// are.
    ///
    /// # Errors
    ///
    /// [`Io`](RegionError::Io) or [`MapLimit`](RegionError::MapLimit). When files could not be cut, the region is
    /// shorter all the same.
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
                shape.keep_beneath(len);
                Ok(())
            }
            Backing::Memfd(file) => fallocate::punch(file, len as u64, (old - len) as u64)
                .map_err(RegionError::io("give back memory of a memfd")),
            Backing::Files => shape.cut_files(len),
        }
    }

    pub(super) fn within_reserve(&self, needed_bytes: usize) -> Result<usize, RegionError> {
        let reserve_bytes = self.reserve_bytes();
        if needed_bytes <= reserve_bytes {
            return Ok(needed_bytes);
        }
        Err(RegionError::ReserveExceeded {
            needed_bytes,
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

    /// With the shape locked.
    pub(super) fn finish_growth(&self, old: usize, len: usize) {
        if self.huge_pages {
            prefer_huge_pages(&self.memory, old..len);
        }
        debug_assert!(len.is_multiple_of(PAGE_BYTES));
        self.set_len(len);
    }
}

impl Shape {
    fn keep_beneath(&mut self, len: usize) {
        self.beneath.retain_mut(|range| {
            range.end = range.end.min(len);
            range.start < range.end
        });
    }

    /// All are tried; the first error is told.
    fn cut_files(&mut self, len: usize) -> Result<(), RegionError> {
        let mut start = 0;
        let mut result = Ok(());
        for part in &mut self.files {
            let kept = len.saturating_sub(start).min(part.bytes);
            start += part.bytes;
            if kept < part.bytes {
                part.bytes = kept;
                let cut = part.file.set_len(kept as u64);
                result = result.and(cut.map_err(RegionError::io("cut a file")));
            }
        }
        let mut is_first = true;
        self.files
            .retain(|part| std::mem::take(&mut is_first) || part.bytes > 0);
        result
    }
}
