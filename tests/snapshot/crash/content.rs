//! Bytes of a file; images share the pages that are equal.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

const PAGE: u64 = 4096;
type Page = [u8; PAGE as usize];

/// Written pages, and a length. Bytes after the length are kept until the file is truncated: they
/// are on a disk whose filesystem does not refer to them yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

/// Splits a range by page: page number, range in the page, range in the buffer.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>, usize)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let within = at % PAGE;
        let len = (PAGE - within).min(range.end.saturating_sub(at));
        let piece = (
            at / PAGE,
            within as usize..(within + len) as usize,
            (at - range.start) as usize,
        );
        at += len;
        (len > 0).then_some(piece)
    })
}

impl Content {
    /// Writes without changing the length.
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        for (page, within, from) in pieces(offset..offset + bytes.len() as u64) {
            let len = within.len();
            let page = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[within].copy_from_slice(&bytes[from..from + len]);
        }
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.put(offset, bytes);
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    /// Zeros a range, without storing pages where possible.
    pub(crate) fn zero(&mut self, range: Range<u64>) {
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        let touched: Vec<u64> = self
            .pages
            .range(range.start / PAGE..=range.end / PAGE)
            .map(|(page, _)| *page)
            .collect();
        for page in touched {
            if whole.contains(&page) {
                self.pages.remove(&page);
                continue;
            }
            let start = range.start.max(page * PAGE);
            let end = range.end.min((page + 1) * PAGE);
            if start < end {
                let bytes = self.pages.get_mut(&page).expect("just seen");
                Arc::make_mut(bytes)[(start - page * PAGE) as usize..(end - page * PAGE) as usize]
                    .fill(0);
            }
        }
    }

    /// Sets the length; bytes after a shorter end are removed.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.zero(len..u64::MAX - PAGE);
        }
        self.len = len;
    }

    /// Returns the visible content: without the bytes after the end.
    pub(crate) fn seen(&self) -> Self {
        let mut seen = self.clone();
        seen.zero(seen.len..u64::MAX - PAGE);
        seen
    }

    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) {
        for (page, within, from) in pieces(offset..offset + buf.len() as u64) {
            let target = &mut buf[from..from + within.len()];
            match self.pages.get(&page) {
                Some(page) => target.copy_from_slice(&page[within]),
                None => target.fill(0),
            }
        }
    }

    /// Returns the next written page at or after `offset`, up to the end.
    pub(crate) fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        let (first, _) = self.pages.range(offset / PAGE..).next()?;
        let last = (*first..).find(|page| !self.pages.contains_key(page));
        let range = (first * PAGE).max(offset)..(last? * PAGE).min(self.len);
        (range.start < range.end).then_some(range)
    }

    /// Hashes the visible content. Zeros are equal to holes.
    pub(crate) fn hash(&self, hash: &mut xxhash_rust::xxh3::Xxh3) {
        hash.update(&self.len.to_le_bytes());
        for (number, page) in &self.pages {
            let len = self.len.saturating_sub(number * PAGE).min(PAGE) as usize;
            if page[..len].iter().any(|byte| *byte != 0) {
                hash.update(&number.to_le_bytes());
                hash.update(&page[..len]);
            }
        }
    }
}
