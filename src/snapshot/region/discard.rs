//! Making pages zeros, and giving private pages back to the file beneath.
//!
//! # Safety
//!
//! [`Region::give_back`] is `unsafe` for what it does to the caller's data; what it asks of the kernel is not.
#![expect(
    unsafe_code,
    reason = "giving pages back may undo stores: a promise of the caller"
)]

use std::ops::Range;

use super::error::RegionError;
use super::memory::{Backing, Region, Shape};
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;
use crate::sys::fallocate;

/// In a restored region fewer bytes than these are overwritten with zeros, which takes a page each; more are replaced by
/// new memory, which takes up to two mappings more.
const REPLACE_BYTES: usize = 1 << 20;

/// What is copied in at once where zeros have to be written.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Region {
    /// Makes whole pages zeros, and gives their memory back where it can. The file beneath a restored region never
    /// shows again.
    ///
    /// No tracker sees this by itself: it must be told
    /// ([`DirtyTracker::discarded`](crate::snapshot::DirtyTracker::discarded), hazard 14). With files their storage is
    /// kept.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](RegionError::OutOfRange), [`Unaligned`](RegionError::Unaligned), or what the system refused; then
    /// some of the pages are zeros.
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
        let failed = RegionError::io("give pages back");
        match &self.backing {
            Backing::Anonymous => self.memory.drop_private_pages(range).map_err(failed),
            Backing::Memfd(file) => {
                fallocate::punch(file, offset as u64, bytes as u64).map_err(failed)
            }
            Backing::Files => shape.zero_files(&range),
            Backing::Restored(_) => self.discard_restored(&mut shape, &range),
        }
    }

    /// Gives pages of a restored region back to the files they lie over, and with them their memory; pages that have no
    /// file beneath stay. Returns how many lie over files.
    ///
    /// # Errors
    ///
    /// [`Io`](RegionError::Io); then some were given back.
    ///
    /// # Safety
    ///
    /// Each of these pages equals the file beneath it, durably, and nobody stores to it meanwhile: stores since
    /// would be undone, also under references (hazard 11).
    pub unsafe fn give_back(&self, pages: &PageSet) -> Result<u64, RegionError> {
        let shape = self.shape();
        let mut given = 0;
        for run in pages.runs() {
            for range in overlaps(&shape.beneath, &bytes_of(&run)) {
                given += (range.len() / PAGE_BYTES) as u64;
                self.memory
                    .drop_private_pages(range)
                    .map_err(RegionError::io("give pages back"))?;
            }
        }
        Ok(given)
    }

    fn discard_restored(&self, shape: &mut Shape, range: &Range<usize>) -> Result<(), RegionError> {
        let over_files = overlaps(&shape.beneath, range);
        let mut start = range.start;
        for part in over_files.iter().chain([&(range.end..range.end)]) {
            self.memory
                .drop_private_pages(start..part.start)
                .map_err(RegionError::io("give pages back"))?;
            start = part.end;
        }
        over_files
            .into_iter()
            .try_for_each(|part| self.hide_file(shape, part))
    }

    /// Zeros over a file, which itself stays as it is.
    fn hide_file(&self, shape: &mut Shape, range: Range<usize>) -> Result<(), RegionError> {
        // At the limit of mappings zeros are written instead.
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
    /// This range lies over no file any more.
    fn uncover(&mut self, gone: &Range<usize>) {
        let before = |range: &Range<usize>| range.start..range.end.min(gone.start);
        let behind = |range: &Range<usize>| range.start.max(gone.end)..range.end;
        self.beneath = self
            .beneath
            .iter()
            .flat_map(|range| [before(range), behind(range)])
            .filter(|range| !range.is_empty())
            .collect();
    }

    fn zero_files(&self, range: &Range<usize>) -> Result<(), RegionError> {
        let mut start = 0;
        for part in &self.files {
            let here = overlap(&(start..start + part.bytes), range);
            if !here.is_empty() {
                fallocate::zero(&part.file, (here.start - start) as u64, here.len() as u64)
                    .map_err(RegionError::io("make a range of a file zeros"))?;
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

/// The parts of a range that lie in others, in order.
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
    fn what_lies_over_files_is_known_after_parts_of_it_were_hidden() {
        let mut shape = Shape {
            beneath: vec![0..8, 8..16],
            ..Shape::default()
        };
        shape.uncover(&(2..4));
        assert_eq!(shape.beneath, [0..2, 4..8, 8..16]);
        shape.uncover(&(6..10));
        assert_eq!(shape.beneath, [0..2, 4..6, 10..16]);
        assert_eq!(overlaps(&shape.beneath, &(1..12)), [1..2, 4..6, 10..12]);
        assert_eq!(overlaps(&shape.beneath, &(2..4)), []);
        shape.uncover(&(0..16));
        assert_eq!(shape.beneath, []);
    }
}
