//! Image of a queue in the region of a store (docs/shared-memory-protocol.md, "Images and
//! lineages").

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::error::QueueError;
use super::layout::{Header, Layout, PAGE_BYTES, mark, newest_first, to_words};
use super::mapped_words::{check_len, len_of};
use crate::snapshot::{Store, WriteGuard};

const WORD_BYTES: usize = 8;

/// Summary of the image that a store has.
#[derive(Clone, Debug)]
pub(super) struct StoredImage {
    pub(super) header: Header,
    /// The newest generation, 0 for none.
    pub(super) generation: u64,
    /// Whether the image has the layout that a host writes, so that a later generation may replace
    /// it page by page.
    pub(super) is_host_layout: bool,
}

impl StoredImage {
    /// Reads the summary, `None` for an empty store.
    pub(super) fn read(store: &Store) -> Result<Option<Self>, QueueError> {
        if store.is_empty() {
            return Ok(None);
        }
        if store.len() < 2 * PAGE_BYTES as u64 {
            return Err(QueueError::NotAQueue);
        }
        let guard = store.write_guard()?;
        let mut words = [0; 10];
        read_words(&guard, 0, &mut words)?;
        let header = Header::decode(&words)?.ok_or(QueueError::NotAQueue)?;
        let layout = header.layout();
        check_len(store.len(), layout.image_bytes())?;
        let mut marks = vec![0; layout.depth];
        for (entry, mark) in marks.iter_mut().enumerate() {
            let at = layout.mark_at(entry);
            read_words(&guard, at, std::slice::from_mut(mark))?;
        }
        let newest = newest_first(&marks).first().copied();
        let is_in_first_entry = newest.is_none_or(|(_, entry)| entry == 0);
        Ok(Some(Self {
            header,
            generation: newest.map_or(0, |(generation, _)| generation),
            is_host_layout: is_in_first_entry && store.len() == layout.image_bytes() as u64,
        }))
    }
}

/// Writes a page of the state into the image.
pub(super) fn write_page(
    guard: &WriteGuard<'_>,
    layout: &Layout,
    page: usize,
    words: &[u64],
) -> Result<(), QueueError> {
    let mut bytes = [0; PAGE_BYTES];
    for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    write(guard, layout.page(0, page).start, &bytes)
}

/// Writes the header, the entry and the auxiliary data of a generation into the image.
pub(super) fn write_generation(
    guard: &WriteGuard<'_>,
    header: &Header,
    generation: u64,
    aux: &[u8],
) -> Result<(), QueueError> {
    let layout = header.layout();
    write_words(guard, 0, &header.encode())?;
    let at = layout.mark_at(0);
    write_words(guard, at, &[mark(generation, true)])?;
    let descriptor = layout.descriptor(0, generation, aux.len() as u64);
    write_words(guard, at + 1, &descriptor)?;
    write_words(guard, layout.aux_at(0), &to_words(aux))
}

/// Replaces the content of a memfd without the shrink seal by the image, with a lineage of its own.
/// The caller seals the memfd afterwards.
pub(super) fn restore(store: &Store, stored: &StoredImage, file: &File) -> Result<(), QueueError> {
    let failed = || QueueError::io("restore into the memfd");
    file.set_len(0).map_err(failed())?;
    file.set_len(store.len()).map_err(failed())?;
    let guard = store.write_guard()?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < guard.len() {
        let part = (guard.len() - at).min(buf.len() as u64) as usize;
        guard.read_at(at, &mut buf[..part])?;
        for (page, bytes) in buf[..part].chunks(PAGE_BYTES).enumerate() {
            // Pages of zeros stay holes of the memfd.
            if bytes.iter().any(|byte| *byte != 0) {
                let offset = at + (page * PAGE_BYTES) as u64;
                file.write_all_at(bytes, offset).map_err(failed())?;
            }
        }
        at += part as u64;
    }
    let words = stored.header.restored(stored.generation).encode();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.write_all_at(&bytes, 0).map_err(failed())?;
    debug_assert_eq!(len_of(file)?, store.len());
    Ok(())
}

fn read_words(guard: &WriteGuard<'_>, at: usize, words: &mut [u64]) -> Result<(), QueueError> {
    let mut bytes = vec![0; words.len() * WORD_BYTES];
    guard.read_at((at * WORD_BYTES) as u64, &mut bytes)?;
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Ok(())
}

fn write_words(guard: &WriteGuard<'_>, at: usize, words: &[u64]) -> Result<(), QueueError> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    write(guard, at, &bytes)
}

/// Writes bytes and marks them as dirty, since the store's tracker is the explicit one.
fn write(guard: &WriteGuard<'_>, at: usize, bytes: &[u8]) -> Result<(), QueueError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let start = (at * WORD_BYTES) as u64;
    guard.write_at(start, bytes)?;
    Ok(guard.mark_dirty(start..start + bytes.len() as u64)?)
}
