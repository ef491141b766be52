//! Buffer of copied pages.

use std::ops::Range;

use crate::snapshot::format::PAGE_BYTES;

/// Copies of pages, in order.
#[derive(Debug, Default)]
pub(crate) struct PageBuffer {
    runs: Vec<Range<u64>>,
    /// May be longer than the runs, since the buffer is reused.
    bytes: Vec<u8>,
}

impl PageBuffer {
    pub(crate) fn len(&self) -> usize {
        // Lossless: pages in memory.
        self.runs.iter().map(|run| run.end - run.start).sum::<u64>() as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Sets the pages of the buffer and returns the bytes for them. The runs are in order.
    pub(crate) fn hold(&mut self, runs: Vec<Range<u64>>) -> &mut [u8] {
        self.runs = runs;
        let bytes = self.len() * PAGE_BYTES;
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
        }
        &mut self.bytes[..bytes]
    }

    /// Returns all pages, in order.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let pages = self.runs.iter().cloned().flatten();
        pages.zip(self.bytes.chunks_exact(PAGE_BYTES))
    }

    /// Returns all runs of pages, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = &self.bytes[..];
        self.runs.iter().map(move |run| {
            let bytes = (run.end - run.start) as usize * PAGE_BYTES;
            let (run_bytes, others) = rest.split_at(bytes);
            rest = others;
            (run.start, run_bytes)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pages_keep_their_numbers() {
        let mut buffer = PageBuffer::default();
        buffer.hold(vec![0..60, 70..110]).fill(9);
        let bytes = buffer.hold(vec![3..7, 9..10]);
        assert_eq!(bytes.len(), 5 * PAGE_BYTES);
        for (byte, page) in (1..).zip(bytes.chunks_exact_mut(PAGE_BYTES)) {
            page.fill(byte);
        }
        let pages = |buffer: &PageBuffer| -> Vec<_> {
            let pages = buffer.pages();
            pages.map(|(page, bytes)| (page, bytes[7])).collect()
        };
        assert_eq!(pages(&buffer), [(3, 1), (4, 2), (5, 3), (6, 4), (9, 5)]);
        let runs: Vec<_> = buffer
            .runs()
            .map(|(page, bytes)| (page, bytes.len()))
            .collect();
        assert_eq!(runs, [(3, 4 * PAGE_BYTES), (9, PAGE_BYTES)]);
        assert_eq!(buffer.len(), 5);
        assert!(!buffer.is_empty());
    }
}
