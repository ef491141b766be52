//! Pages of one instant, on their way to the disk.

use std::collections::BTreeMap;

use super::format::PAGE_BYTES;

/// Copies of pages, by their numbers; a later copy takes the place of an earlier one.
#[derive(Debug, Default)]
pub(crate) struct PageBuffer {
    slots: BTreeMap<u64, usize>,
    bytes: Vec<u8>,
}

impl PageBuffer {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Room for pages that follow each other: all those from `first` on that are new, or one that is there.
    /// Returns how many pages the room is for.
    pub(crate) fn room(&mut self, first: u64, wanted: u64) -> (u64, &mut [u8]) {
        if let Some(slot) = self.slots.get(&first) {
            let at = slot * PAGE_BYTES;
            return (1, &mut self.bytes[at..at + PAGE_BYTES]);
        }
        let next = self.slots.range(first..).next();
        let new = next.map_or(wanted, |(page, _)| wanted.min(page - first));
        let start = self.bytes.len();
        let slots = start / PAGE_BYTES..;
        self.slots.extend((first..first + new).zip(slots));
        // Lossless: bytes of memory.
        self.bytes.resize(start + new as usize * PAGE_BYTES, 0);
        (new, &mut self.bytes[start..])
    }

    /// Drops pages from this one on.
    pub(crate) fn truncate(&mut self, pages: u64) {
        self.slots.split_off(&pages);
    }

    /// Forgets all, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.bytes.clear();
    }

    /// All pages in order.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.slots.iter().map(|(page, slot)| {
            let at = slot * PAGE_BYTES;
            (*page, &self.bytes[at..at + PAGE_BYTES])
        })
    }

    /// All pages in order, those together that follow each other here too.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut slots = self.slots.iter().peekable();
        std::iter::from_fn(move || {
            let (first, slot) = slots.next()?;
            let mut len = 1;
            while slots
                .next_if(|(page, next)| **page == first + len && **next == slot + len as usize)
                .is_some()
            {
                len += 1;
            }
            let bytes = slot * PAGE_BYTES..(slot + len as usize) * PAGE_BYTES;
            Some((*first, &self.bytes[bytes]))
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn later_copies_take_the_place_of_earlier_ones() {
        let mut buffer = PageBuffer::default();
        let mut put = |first: u64, count: u64, byte: u8| {
            let mut page = first;
            while page < first + count {
                let (pages, room) = buffer.room(page, first + count - page);
                room.fill(byte);
                page += pages;
            }
        };
        put(5, 2, 1);
        put(3, 4, 2);
        put(9, 1, 3);
        let found: Vec<_> = buffer
            .pages()
            .map(|(page, bytes)| (page, bytes[7]))
            .collect();
        assert_eq!(found, [(3, 2), (4, 2), (5, 2), (6, 2), (9, 3)]);
        let runs: Vec<_> = buffer
            .runs()
            .map(|(page, bytes)| (page, bytes.len()))
            .collect();
        assert_eq!(runs, [(3, 2 * 4096), (5, 2 * 4096), (9, 4096)]);
        buffer.truncate(5);
        assert_eq!(buffer.len(), 2);
    }
}
