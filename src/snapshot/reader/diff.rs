//! Comparison of two images, by their checksum trees where possible, otherwise by content.

use std::ops::{ControlFlow, Range};

use super::image::{Image, STEP_PAGES};
use crate::snapshot::error::StoreError;
use crate::snapshot::format::{FAN, PAGE_BYTES};
use crate::snapshot::heap::ChecksumTree as Table;

/// Pages between two calls of the progress callback: 64 MiB.
const PROGRESS_PAGES: u64 = 32 * FAN;

impl Image {
    /// Calls `found` with each range of pages that differ, in ascending order. The shorter image
    /// counts as followed by zeros.
    ///
    /// `progress` gets the number of pages that are compared so far. If it returns `Break`, the
    /// comparison stops.
    ///
    /// The hashes of two images of the same store are compared. Hashes of different stores only
    /// show which pages are zero, so the other pages are read. Pages that the journal changes are
    /// also read.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Corrupt`] if a page that has to be read does not match its checksum.
    /// - [`StoreError::Backend`] if a file cannot be read.
    /// - [`StoreError::Directory`] with `ResourceBusy` if a checkpoint has changed one of the
    ///   heaps.
    pub fn diff(
        &self,
        other: &Self,
        mut found: impl FnMut(Range<u64>),
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let pages = self.len().max(other.len()) / PAGE_BYTES as u64;
        let mut runs = Runs::default();
        let mut tables = (self.table()?, other.table()?);
        for leaf in (0..pages).step_by(FAN as usize) {
            if leaf % PROGRESS_PAGES == 0 && progress(leaf).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if leaf % STEP_PAGES == 0 {
                // A tree keeps every block that it has read, so start with empty ones.
                tables = (self.table()?, other.table()?);
            }
            let end = pages.min(leaf + FAN);
            self.compare_leaf(other, &mut tables, leaf..end, |page| {
                runs.add(page, &mut found);
            })?;
        }
        runs.end(&mut found);
        self.verify_unchanged()?;
        other.verify_unchanged()?;
        Ok(progress(pages))
    }

    fn compare_leaf(
        &self,
        other: &Self,
        (ours, theirs): &mut (Table, Table),
        pages: Range<u64>,
        mut differs: impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let same_seed = self.metadata().store_id == other.metadata().store_id;
        let ours_known = self.hashes(ours, pages.clone())?;
        let theirs_known = other.hashes(theirs, pages.clone())?;
        let mut bytes = [[0; PAGE_BYTES]; 2];
        for (page, known) in pages.zip(ours_known.into_iter().zip(theirs_known)) {
            let differ = match known {
                // The hash 0 means a page of zeros in every store.
                (Some(one), Some(two)) if same_seed || one == 0 || two == 0 => one != two,
                _ => {
                    self.read_pages(ours, page, &mut bytes[0])?;
                    other.read_pages(theirs, page, &mut bytes[1])?;
                    bytes[0] != bytes[1]
                }
            };
            if differ {
                differs(page);
            }
        }
        Ok(())
    }

    /// Hashes of pages of one leaf; `None` where the journal changes the page.
    fn hashes(&self, table: &mut Table, pages: Range<u64>) -> Result<Vec<Option<u64>>, StoreError> {
        let page_bytes = PAGE_BYTES as u64;
        let base_end = self.metadata().pages().min(self.len() / page_bytes);
        let leaf = if pages.start < base_end {
            *table.leaf(&self.heap_lock.disk, pages.start)?
        } else {
            [0; FAN as usize]
        };
        let untouched = !self
            .overlay
            .touches(pages.start * page_bytes..pages.end * page_bytes);
        let hash = |page: u64| {
            let touched = !untouched
                && self
                    .overlay
                    .touches(page * page_bytes..(page + 1) * page_bytes);
            let stored = if page < base_end {
                leaf[(page % FAN) as usize]
            } else {
                0
            };
            (!touched || page >= self.len() / page_bytes).then_some(stored)
        };
        Ok(pages.map(hash).collect())
    }
}

/// Merges adjacent pages into ranges.
#[derive(Default)]
struct Runs(Option<Range<u64>>);

impl Runs {
    fn add(&mut self, page: u64, found: &mut impl FnMut(Range<u64>)) {
        match &mut self.0 {
            Some(run) if run.end == page => run.end += 1,
            _ => {
                self.end(found);
                self.0 = Some(page..page + 1);
            }
        }
    }

    fn end(&mut self, found: &mut impl FnMut(Range<u64>)) {
        self.0.take().into_iter().for_each(found);
    }
}
