//! The pages that differ between two states: by their tables where these tell, otherwise by content.

use std::ops::{ControlFlow, Range};

use super::image::{Image, STEP_PAGES};
use crate::snapshot::error::SnapshotError;
use crate::snapshot::format::{FAN, PAGE_BYTES};
use crate::snapshot::heap::ChecksumTree as Table;

/// So many pages are compared between two looks at whether to go on: 64 MiB.
const LOOK_PAGES: u64 = 32 * FAN;

impl Image {
    /// Hands out the pages that differ, in order; what is behind an end counts as zeros. `progress` is told how many pages
    /// are done, and may stop it.
    ///
    /// Hashes of two states of one store are compared; of two stores they say only which pages are zeros, and the others
    /// are read. So are those that the journal has.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Damaged`], [`SnapshotError::Disk`].
    pub fn differences(
        &self,
        other: &Self,
        mut found: impl FnMut(Range<u64>),
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SnapshotError> {
        let pages = self.len().max(other.len()) / PAGE_BYTES as u64;
        let mut runs = Runs::default();
        let mut tables = (self.table()?, other.table()?);
        for leaf in (0..pages).step_by(FAN as usize) {
            if leaf % LOOK_PAGES == 0 && progress(leaf).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if leaf % STEP_PAGES == 0 {
                // They keep every block that they have seen.
                tables = (self.table()?, other.table()?);
            }
            let end = pages.min(leaf + FAN);
            self.compare_leaf(other, &mut tables, leaf..end, |page| {
                runs.add(page, &mut found)
            })?;
        }
        runs.end(&mut found);
        self.check_unchanged()?;
        other.check_unchanged()?;
        Ok(progress(pages))
    }

    fn compare_leaf(
        &self,
        other: &Self,
        (ours, theirs): &mut (Table, Table),
        pages: Range<u64>,
        mut differs: impl FnMut(u64),
    ) -> Result<(), SnapshotError> {
        let same_seed = self.metadata().store == other.metadata().store;
        let ours_known = self.hashes(ours, pages.clone())?;
        let theirs_known = other.hashes(theirs, pages.clone())?;
        let mut bytes = [[0; PAGE_BYTES]; 2];
        for (page, known) in pages.zip(ours_known.into_iter().zip(theirs_known)) {
            let differ = match known {
                // A page of zeros has the hash 0 everywhere, and no other page has.
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

    /// The hashes of pages of one leaf; `None` where the journal has something else.
    fn hashes(
        &self,
        table: &mut Table,
        pages: Range<u64>,
    ) -> Result<Vec<Option<u64>>, SnapshotError> {
        let page_bytes = PAGE_BYTES as u64;
        let base_end = self.metadata().pages().min(self.len() / page_bytes);
        let leaf = match pages.start < base_end {
            true => *table.leaf(&self.hold.disk, pages.start)?,
            false => [0; FAN as usize],
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

/// Puts neighbours together.
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
