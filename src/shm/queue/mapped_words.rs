//! The words of a memfd.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use super::error::QueueError;
use super::layout::{Header, PAGE_BYTES, Shape};
use super::shared_words::Words;
use crate::shm::memfd_map::{SharedMap, SharedMapMut};
use crate::sys::{memfd, seek_data, statx};

const WORD_BYTES: u64 = 8;

/// A queue that is mapped.
#[derive(Debug)]
pub(super) struct Mapped {
    memory: Memory,
    /// A description of its own: its position moves when holes are looked for.
    file: File,
}

#[derive(Debug)]
enum Memory {
    /// Of a client.
    Own(SharedMapMut),
    /// Of a host, which loads only.
    Other(SharedMap),
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
        must_be_sealed(&file)?;
        let memory = match writable {
            true => SharedMapMut::new(&file, 0, needed).map(Memory::Own),
            false => SharedMap::new(&file, 0, needed).map(Memory::Other),
        };
        let memory = memory.map_err(QueueError::io("map the memfd"))?;
        Ok(Self { memory, file })
    }

    fn holes_left_out(&self, range: Range<usize>) -> std::io::Result<Vec<Range<usize>>> {
        let (mut at, end) = (
            range.start as u64 * WORD_BYTES,
            range.end as u64 * WORD_BYTES,
        );
        let mut runs = Vec::new();
        while at < end {
            match seek_data::next_data(&self.file, at)? {
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
        let words = match &self.memory {
            Memory::Own(memory) => memory.words(),
            Memory::Other(memory) => memory.words_to_load(),
        };
        &words[range]
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
    must_be_sealed(file)?;
    let page = SharedMap::new(file, 0, PAGE_BYTES);
    let page = page.map_err(QueueError::io("map the memfd"))?;
    Header::read(&Page(page))
}

struct Page(SharedMap);

impl Words for Page {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        &self.0.words_to_load()[range]
    }
}

/// The page that a host writes.
pub(super) fn host_page(file: &File) -> Result<SharedMapMut, QueueError> {
    must_be_sealed(file)?;
    let page = SharedMapMut::new(file, PAGE_BYTES as u64, PAGE_BYTES);
    page.map_err(QueueError::io("map the memfd"))
}

/// Otherwise its pages may go while they are mapped.
fn must_be_sealed(file: &File) -> Result<(), QueueError> {
    let seals = memfd::seals(file).map_err(QueueError::io("ask for the seals of the memfd"))?;
    match seals.shrink {
        true => Ok(()),
        false => Err(QueueError::io("map the memfd, which may shrink")(
            std::io::ErrorKind::PermissionDenied.into(),
        )),
    }
}

pub(super) fn len_of(file: &File) -> Result<u64, QueueError> {
    statx::len(file).map_err(QueueError::io("ask for the length of the memfd"))
}
