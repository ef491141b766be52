//! The image that a store keeps of a queue (docs/shared-memory-protocol.md, "Images and lineages").

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::QueueError;
use super::layout::{Header, Lineage, PAGE_BYTES, Shape, mark, newest_first, to_words};
use super::mapped_words::len_of;
use crate::snapshot::{Store, Writing, random};
use crate::sys::memfd;

const WORD_BYTES: usize = 8;

/// What the memory of a store has.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) header: Header,
    /// The newest generation; 0 for none.
    pub(super) generation: u64,
    /// It is laid out as we do, so that a later generation may be put on top of it.
    pub(super) is_ours: bool,
}

impl Stored {
    /// `None` for a store without content.
    pub(super) fn look(store: &Store) -> Result<Option<Self>, QueueError> {
        if store.is_empty() {
            return Ok(None);
        }
        if store.len() < 2 * PAGE_BYTES as u64 {
            return Err(QueueError::NotAQueue);
        }
        let inside = store.enter()?;
        let mut words = [0; 10];
        read_words(&inside, 0, &mut words)?;
        let header = Header::decode(&words)?.ok_or(QueueError::NotAQueue)?;
        let shape = header.shape().expect("checked");
        if store.len() < shape.image_bytes() as u64 {
            return Err(QueueError::TooShort {
                len: store.len(),
                needed: shape.image_bytes() as u64,
            });
        }
        let mut marks = vec![0; shape.depth];
        for (entry, mark) in marks.iter_mut().enumerate() {
            let at = shape.mark_at(entry);
            read_words(&inside, at, std::slice::from_mut(mark))?;
        }
        let newest = newest_first(&marks).first().copied();
        let is_ours =
            newest.is_none_or(|(_, entry)| entry == 0) && store.len() == shape.image_bytes() as u64;
        Ok(Some(Self {
            header,
            generation: newest.map_or(0, |(generation, _)| generation),
            is_ours,
        }))
    }
}

/// Puts a page of the state into the image.
pub(super) fn put_page(
    inside: &Writing<'_>,
    shape: &Shape,
    page: usize,
    words: &[u64],
) -> Result<(), QueueError> {
    let mut bytes = [0; PAGE_BYTES];
    for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    write(inside, shape.page(0, page).start, &bytes)
}

/// Says which generation the image is.
pub(super) fn put_generation(
    inside: &Writing<'_>,
    header: &Header,
    generation: u64,
    tail: &[u8],
) -> Result<(), QueueError> {
    let shape = header.shape().expect("checked");
    write_words(inside, 0, &header.encode())?;
    let at = shape.mark_at(0);
    write_words(inside, at, &[mark(generation, true)])?;
    let descriptor = shape.descriptor(0, generation, tail.len() as u64);
    write_words(inside, at + 1, &descriptor)?;
    write_words(inside, shape.tail_at(0), &to_words(tail))
}

/// Restores the memory of a store into a memfd that is not sealed: whatever is there goes. It gets a lineage of its own.
/// It is the caller who seals it.
pub(super) fn restore(store: &Store, stored: &Stored, file: &File) -> Result<(), QueueError> {
    let failed = || QueueError::io("restore into the memfd");
    file.set_len(0).map_err(failed())?;
    file.set_len(store.len()).map_err(failed())?;
    let inside = store.enter()?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < inside.len() {
        let part = (inside.len() - at).min(buf.len() as u64) as usize;
        inside.read(at, &mut buf[..part])?;
        for (page, bytes) in buf[..part].chunks(PAGE_BYTES).enumerate() {
            // Holes stay holes.
            if bytes.iter().any(|byte| *byte != 0) {
                let offset = at + (page * PAGE_BYTES) as u64;
                file.write_all_at(bytes, offset).map_err(failed())?;
            }
        }
        at += part as u64;
    }
    let header = Header {
        lineage: Lineage([random::word().max(1), random::word()]),
        parent: stored.header.lineage,
        restored_at: stored.generation,
        ..stored.header
    };
    let words = header.encode();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.write_all_at(&bytes, 0).map_err(failed())?;
    debug_assert_eq!(len_of(file)?, store.len());
    Ok(())
}

pub(super) fn is_restored(file: &File) -> Result<bool, QueueError> {
    let seals = memfd::seals(file).map_err(QueueError::io("ask for the seals of the memfd"))?;
    Ok(seals.shrink)
}

fn read_words(inside: &Writing<'_>, at: usize, words: &mut [u64]) -> Result<(), QueueError> {
    let mut bytes = vec![0; words.len() * WORD_BYTES];
    inside.read((at * WORD_BYTES) as u64, &mut bytes)?;
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    Ok(())
}

fn write_words(inside: &Writing<'_>, at: usize, words: &[u64]) -> Result<(), QueueError> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    write(inside, at, &bytes)
}

/// The tracker believes what is declared.
fn write(inside: &Writing<'_>, at: usize, bytes: &[u8]) -> Result<(), QueueError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let start = (at * WORD_BYTES) as u64;
    inside.write(start, bytes)?;
    Ok(inside.declare(start..start + bytes.len() as u64)?)
}
