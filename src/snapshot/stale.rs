//! Which pages each heap lacks (hazard 1).

use super::error::SnapshotError;
use super::format::HeapName;
use super::inner::Inner;
use super::page_set::PageSet;

/// For each heap the pages in which it may differ from memory, and those that no checkpoint has yet.
///
/// Whatever a scan finds goes into all three at once, also when the scan fails later. A heap's pages are taken out only
/// when its own checkpoint is durable.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    heaps: [PageSet; 2],
    /// Nothing in the heap can be relied on.
    blank: [bool; 2],
    since_checkpoint: PageSet,
}

impl Stale {
    pub(crate) fn add(&mut self, changed: &PageSet) {
        for set in &mut self.heaps {
            *set |= changed;
        }
        self.since_checkpoint |= changed;
    }

    /// What memory changed since the last scan, after it was added; also when scanning fails in the middle.
    pub(crate) fn scan(&mut self, inner: &Inner) -> Result<PageSet, SnapshotError> {
        let mut changed = PageSet::default();
        let scanned = inner.scan(&mut changed);
        self.add(&changed);
        scanned?;
        Ok(changed)
    }

    /// A heap differs in these, while the other one and the journal have them.
    pub(crate) fn add_to(&mut self, heap: HeapName, pages: &PageSet) {
        self.heaps[heap as usize] |= pages;
    }

    pub(crate) fn set_blank(&mut self, heap: HeapName) {
        self.blank[heap as usize] = true;
    }

    pub(crate) fn is_blank(&self, heap: HeapName) -> bool {
        self.blank[heap as usize]
    }

    /// What must be written to a heap so that it holds so many pages of memory.
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

    /// What no checkpoint has yet.
    pub(crate) fn since_checkpoint(&self) -> &PageSet {
        &self.since_checkpoint
    }

    /// A base checkpoint into this heap is durable.
    pub(crate) fn committed(&mut self, heap: HeapName) {
        self.heaps[heap as usize].clear();
        self.blank[heap as usize] = false;
        self.since_checkpoint.clear();
    }

    /// A heap has become a copy of the other one, and lacks what that one lacks.
    pub(crate) fn copied(&mut self, from: HeapName, to: HeapName) {
        self.heaps[to as usize] = self.heaps[from as usize].clone();
        self.blank[to as usize] = self.blank[from as usize];
    }

    /// A delta checkpoint is durable: the heaps still lack its pages.
    pub(crate) fn journaled(&mut self) {
        self.since_checkpoint.clear();
    }
}
