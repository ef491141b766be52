//! Discarding pages, and dropping private pages of a region over files.
//!
//! # Safety
//!
//! [`Region::drop_private_pages`] is `unsafe` because it can undo stores of the caller. Its system
//! calls are sound.
#![expect(
    unsafe_code,
    reason = "dropping private pages may undo stores, so the caller must rule that out"
)]

use std::ops::Range;

use super::error::RegionError;
use super::memory::{Backing, Region, Shape};
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;
use crate::sys::fallocate;

/// In a region over files shorter ranges are overwritten with zeros, which need a page each. Longer
/// ones get new memory, which needs up to two mappings more.
const REPLACE_BYTES: usize = 1 << 20;

/// Zeros that are copied at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Region {
    /// Sets whole pages to zero and frees their memory where possible. The content of a file under
    /// a private mapping does not show again.
    ///
    /// Trackers do not notice a discard: call
    /// [`DirtyTracker::note_discarded`](crate::snapshot::DirtyTracker::note_discarded) after
    /// it. A region of files keeps its storage.
    ///
    /// # Errors
    ///
    /// Some of the pages may be zero after an error.
    ///
    /// - [`RegionError::OutOfBounds`] if the range is not within the region.
    /// - [`RegionError::Unaligned`] if it does not consist of whole pages.
    /// - [`RegionError::Io`] if a system call fails.
    pub fn discard(&self, range: Range<usize>) -> Result<(), RegionError> {
        let (offset, bytes) = (range.start, range.len());
        if !offset.is_multiple_of(PAGE_BYTES) || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(RegionError::Unaligned { offset, bytes });
        }
        let mut shape = self.shape();
        self.check_range(offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        let failed = RegionError::io("free pages of the region");
        match &self.backing {
            Backing::Anonymous => self.memory.drop_private_pages(range).map_err(failed),
            Backing::Memfd(file) => {
                fallocate::punch(file, offset as u64, bytes as u64).map_err(failed)
            }
            Backing::Files => shape.zero_files(&range),
            Backing::Restored(_) => self.discard_restored(&mut shape, &range),
        }
    }

    /// Drops private pages of a region over files, so that they show the files again. This frees
    /// their memory.
    ///
    /// Pages without a file under them are not changed. Returns the number of pages that have a
    /// file.
    ///
    /// # Errors
    ///
    /// - [`RegionError::Io`] if a system call fails. Some of the pages may be dropped then.
    ///
    /// # Safety
    ///
    /// Each of these pages must equal the durable content of the file under it. No thread may store
    /// to them during the call, not even through a reference: such stores would be undone.
    pub unsafe fn drop_private_pages(&self, pages: &PageSet) -> Result<u64, RegionError> {
        let shape = self.shape();
        let mut page_count = 0;
        for run in pages.runs() {
            for range in overlaps(&shape.file_ranges, &bytes_of(&run)) {
                page_count += (range.len() / PAGE_BYTES) as u64;
                self.memory
                    .drop_private_pages(range)
                    .map_err(RegionError::io("free pages of the region"))?;
            }
        }
        Ok(page_count)
    }

    fn discard_restored(&self, shape: &mut Shape, range: &Range<usize>) -> Result<(), RegionError> {
        let over_files = overlaps(&shape.file_ranges, range);
        let mut start = range.start;
        for part in over_files.iter().chain([&(range.end..range.end)]) {
            self.memory
                .drop_private_pages(start..part.start)
                .map_err(RegionError::io("free pages of the region"))?;
            start = part.end;
        }
        over_files
            .into_iter()
            .try_for_each(|part| self.cover_file(shape, part))
    }

    /// Hides a file range under zeros. The file does not change.
    fn cover_file(&self, shape: &mut Shape, range: Range<usize>) -> Result<(), RegionError> {
        // At the limit of mappings, write zeros instead.
        if range.len() >= REPLACE_BYTES && self.memory.map_zeros(range.clone(), false).is_ok() {
            shape.uncover(&range);
            return Ok(());
        }
        let mut at = range.start;
        while at < range.end {
            let bytes = ZEROS.len().min(range.end - at);
            self.write_all(at, &ZEROS[..bytes])?;
            at += bytes;
        }
        Ok(())
    }
}

impl Shape {
    /// Removes a range from those that show files.
    fn uncover(&mut self, hidden: &Range<usize>) {
        let before = |range: &Range<usize>| range.start..range.end.min(hidden.start);
        let after = |range: &Range<usize>| range.start.max(hidden.end)..range.end;
        self.file_ranges = self
            .file_ranges
            .iter()
            .flat_map(|range| [before(range), after(range)])
            .filter(|range| !range.is_empty())
            .collect();
    }

    fn zero_files(&self, range: &Range<usize>) -> Result<(), RegionError> {
        let mut start = 0;
        for part in &self.files {
            let here = overlap(&(start..start + part.bytes), range);
            if !here.is_empty() {
                fallocate::zero(&part.file, (here.start - start) as u64, here.len() as u64)
                    .map_err(RegionError::io("zero a range of a file"))?;
            }
            start += part.bytes;
        }
        Ok(())
    }
}

fn bytes_of(pages: &Range<u64>) -> Range<usize> {
    let byte = |page: u64| {
        usize::try_from(page).map_or(usize::MAX, |page| page.saturating_mul(PAGE_BYTES))
    };
    byte(pages.start)..byte(pages.end)
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// Intersections of a range with ascending, disjoint ranges.
fn overlaps(ranges: &[Range<usize>], range: &Range<usize>) -> Vec<Range<usize>> {
    let first = ranges.partition_point(|at| at.end <= range.start);
    ranges[first..]
        .iter()
        .take_while(|at| at.start < range.end)
        .map(|at| overlap(at, range))
        .collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn file_ranges_shrink_and_split_when_parts_are_hidden() {
        let mut shape = Shape {
            file_ranges: vec![0..8, 8..16],
            ..Shape::default()
        };
        shape.uncover(&(2..4));
        assert_eq!(shape.file_ranges, [0..2, 4..8, 8..16]);
        shape.uncover(&(6..10));
        assert_eq!(shape.file_ranges, [0..2, 4..6, 10..16]);
        assert_eq!(overlaps(&shape.file_ranges, &(1..12)), [1..2, 4..6, 10..12]);
        assert!(overlaps(&shape.file_ranges, &(2..4)).is_empty());
        shape.uncover(&(0..16));
        assert!(shape.file_ranges.is_empty());
    }
}
