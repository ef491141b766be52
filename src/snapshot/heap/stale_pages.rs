//! Stale pages: pages in which a heap may differ from memory [I1].

use crate::snapshot::format::HeapName;
use crate::snapshot::page_set::PageSet;

/// Stale pages of each heap, and the pages that changed since the last checkpoint.
///
/// Each scan adds its pages to all three sets, even if the scan fails later. The stale pages of a
/// heap are cleared only when a checkpoint into that heap is durable.
#[derive(Debug, Default)]
pub(crate) struct StalePages {
    heaps: [PageSet; 2],
    /// Heaps whose content is unknown, so that every page is stale.
    blank: [bool; 2],
    since_checkpoint: PageSet,
}

impl StalePages {
    /// Adds pages that changed in memory.
    pub(crate) fn add(&mut self, changed: &PageSet) {
        for set in &mut self.heaps {
            *set |= changed;
        }
        self.since_checkpoint |= changed;
    }

    /// Adds pages in which one heap differs from the other heap and the journal.
    pub(crate) fn add_to(&mut self, heap: HeapName, pages: &PageSet) {
        self.heaps[heap as usize] |= pages;
    }

    /// Marks every page of a heap as stale.
    pub(crate) fn set_blank(&mut self, heap: HeapName) {
        self.blank[heap as usize] = true;
    }

    pub(crate) fn is_blank(&self, heap: HeapName) -> bool {
        self.blank[heap as usize]
    }

    /// Returns the pages to write to a heap so that it matches memory of `pages` pages.
    pub(crate) fn of(&self, heap: HeapName, pages: u64) -> PageSet {
        if !self.is_blank(heap) {
            return self.heaps[heap as usize].clone();
        }
        let mut all = PageSet::default();
        all.insert_range(0..pages);
        all |= &self.heaps[heap as usize];
        all
    }

    pub(crate) fn contains(&self, heap: HeapName, page: u64) -> bool {
        self.is_blank(heap) || self.heaps[heap as usize].contains(page)
    }

    /// Returns the pages that are in no checkpoint yet.
    pub(crate) fn since_checkpoint(&self) -> &PageSet {
        &self.since_checkpoint
    }

    /// Records that a base checkpoint into a heap is durable.
    pub(crate) fn committed(&mut self, heap: HeapName) {
        self.heaps[heap as usize].clear();
        self.blank[heap as usize] = false;
        self.since_checkpoint.clear();
    }

    /// Records that one heap became a copy of the other heap.
    pub(crate) fn copied(&mut self, from: HeapName, to: HeapName) {
        self.heaps[to as usize] = self.heaps[from as usize].clone();
        self.blank[to as usize] = self.blank[from as usize];
    }

    /// Records that a delta checkpoint is durable. Its pages stay stale in both heaps.
    pub(crate) fn journaled(&mut self) {
        self.since_checkpoint.clear();
    }
}
