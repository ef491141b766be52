//! Words of a mapped memfd.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use super::error::QueueError;
use super::layout::{Header, Layout, PAGE_BYTES};
use super::shared_words::Words;
use crate::shm::memfd_map::{MemfdMap, MemfdMapMut};
use crate::sys::{memfd, seek_data, statx};

const WORD_BYTES: u64 = 8;

/// A mapped queue.
#[derive(Debug)]
pub(super) struct MappedWords {
    mapping: Mapping,
    /// Open file description of its own, since lseek(2) for holes moves the position.
    file: File,
}

#[derive(Debug)]
enum Mapping {
    /// Mapping of a client.
    ReadWrite(MemfdMapMut),
    /// Mapping of a host, which only loads.
    ReadOnly(MemfdMap),
}

impl MappedWords {
    /// Maps a whole queue of this layout.
    pub(super) fn new(file: File, layout: &Layout, writable: bool) -> Result<Self, QueueError> {
        let needed = layout.len_bytes();
        check_len(len_of(&file)?, needed)?;
        check_shrink_seal(&file)?;
        let mapping = if writable {
            MemfdMapMut::new(&file, 0, needed).map(Mapping::ReadWrite)
        } else {
            MemfdMap::new(&file, 0, needed).map(Mapping::ReadOnly)
        };
        let mapping = mapping.map_err(QueueError::io("map the memfd"))?;
        Ok(Self { mapping, file })
    }

    /// The parts of a range that are not holes of the file.
    fn without_holes(&self, range: Range<usize>) -> io::Result<Vec<Range<usize>>> {
        let (mut at, end) = (
            range.start as u64 * WORD_BYTES,
            range.end as u64 * WORD_BYTES,
        );
        let mut runs = Vec::new();
        while at < end {
            match seek_data::next_data(&self.file, at)? {
                Some(data) if data.start < end => {
                    let run = data.start..data.end.min(end);
                    // Lossless: within the mapping. A run may start before `range`, since a page
                    // that was written counts as data from its first byte.
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

impl Words for MappedWords {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        let words = match &self.mapping {
            Mapping::ReadWrite(mapping) => mapping.words(),
            Mapping::ReadOnly(mapping) => mapping.words_to_load(),
        };
        &words[range]
    }

    fn with_data(&self, range: Range<usize>) -> Vec<Range<usize>> {
        // Without SEEK_DATA the whole range counts as data.
        self.without_holes(range.clone())
            .unwrap_or_else(|_| vec![range])
    }
}

/// The header of a memfd, `None` if it holds no queue. The memfd must have the shrink seal.
pub(super) fn header_of(file: &File) -> Result<Option<Header>, QueueError> {
    if len_of(file)? < 2 * PAGE_BYTES as u64 {
        return Ok(None);
    }
    check_shrink_seal(file)?;
    let page = MemfdMap::new(file, 0, PAGE_BYTES);
    let page = page.map_err(QueueError::io("map the memfd"))?;
    Header::read(&HeaderPage(page))
}

struct HeaderPage(MemfdMap);

impl Words for HeaderPage {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        &self.0.words_to_load()[range]
    }
}

/// Maps the page that the host writes.
pub(super) fn host_page(file: &File) -> Result<MemfdMapMut, QueueError> {
    check_shrink_seal(file)?;
    let page = MemfdMapMut::new(file, PAGE_BYTES as u64, PAGE_BYTES);
    page.map_err(QueueError::io("map the memfd"))
}

/// Fails without the shrink seal: mapped pages could then lose their storage at any time.
fn check_shrink_seal(file: &File) -> Result<(), QueueError> {
    if has_shrink_seal(file)? {
        return Ok(());
    }
    let refuse = QueueError::io("map the memfd, which lacks the shrink seal");
    Err(refuse(io::ErrorKind::PermissionDenied.into()))
}

pub(super) fn has_shrink_seal(file: &File) -> Result<bool, QueueError> {
    let seals = memfd::seals(file).map_err(QueueError::io("read the seals of the memfd"))?;
    Ok(seals.shrink)
}

/// A new open file description, with its own position and locks.
pub(super) fn reopen(file: &File, writable: bool) -> Result<File, QueueError> {
    let failed = QueueError::io("reopen the memfd through /proc/self/fd");
    memfd::reopen(file, writable).map_err(failed)
}

pub(super) fn check_len(len: u64, needed: usize) -> Result<(), QueueError> {
    let needed = needed as u64;
    if len < needed {
        return Err(QueueError::TooShort { len, needed });
    }
    Ok(())
}

pub(super) fn len_of(file: &File) -> Result<u64, QueueError> {
    statx::len(file).map_err(QueueError::io("read the length of the memfd"))
}
