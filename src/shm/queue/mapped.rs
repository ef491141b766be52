//! The words of a memfd.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use super::error::QueueError;
use super::geometry::{Header, PAGE_BYTES, Shape};
use super::words::Words;
use crate::sys::shared_words::SharedWords;
use crate::sys::{identity, sparse};

const WORD_BYTES: u64 = 8;

/// A queue that is mapped; of a host for loads only.
#[derive(Debug)]
pub(super) struct Mapped {
    words: SharedWords,
    /// A description of its own: its position moves when holes are looked for.
    file: File,
}

impl Mapped {
    /// Maps all of a queue of this shape.
    pub(super) fn new(file: File, shape: &Shape, writable: bool) -> Result<Self, QueueError> {
        let needed = shape.len_bytes();
        let len = len_of(&file)?;
        if len < needed as u64 {
            return Err(QueueError::TooShort {
                len,
                needed: needed as u64,
            });
        }
        let words = SharedWords::map(&file, 0..needed, writable);
        let words = words.map_err(QueueError::io("map the memfd"))?;
        Ok(Self { words, file })
    }

    fn holes_left_out(&self, range: Range<usize>) -> std::io::Result<Vec<Range<usize>>> {
        let (mut at, end) = (
            range.start as u64 * WORD_BYTES,
            range.end as u64 * WORD_BYTES,
        );
        let mut runs = Vec::new();
        while at < end {
            match sparse::next_data(&self.file, at)? {
                Some(data) if data.start < end => {
                    let run = data.start..data.end.min(end);
                    // Lossless: within the mapping. What a page is written to holds data from its begin on.
                    let first = (run.start / WORD_BYTES) as usize;
                    runs.push(first.max(range.start)..run.end.div_ceil(WORD_BYTES) as usize);
                    at = data.end.max(at + 1);
                }
                _ => break,
            }
        }
        Ok(runs)
    }
}

impl Words for Mapped {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        &self.words.words()[range]
    }

    fn with_data(&self, range: Range<usize>) -> Vec<Range<usize>> {
        // Where it cannot be asked, all of it is looked at.
        self.holes_left_out(range.clone())
            .unwrap_or_else(|_| vec![range])
    }
}

/// The header of a memfd, if a queue is in it. It is sealed, or was made by us and is being restored into.
pub(super) fn header_of(file: &File) -> Result<Option<Header>, QueueError> {
    if len_of(file)? < 2 * PAGE_BYTES as u64 {
        return Ok(None);
    }
    let words = SharedWords::map(file, 0..PAGE_BYTES, false);
    let words = words.map_err(QueueError::io("map the memfd"))?;
    Header::read(&Page(words))
}

/// A page of them.
#[derive(Debug)]
pub(super) struct Page(pub(super) SharedWords);

impl Words for Page {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        &self.0.words()[range]
    }
}

pub(super) fn len_of(file: &File) -> Result<u64, QueueError> {
    identity::len(file).map_err(QueueError::io("ask for the length of the memfd"))
}
