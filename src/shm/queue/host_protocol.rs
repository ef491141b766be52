//! The host's side of the protocol (docs/shared-memory-protocol.md, H1 to H5), on any words.

use super::layout::{Shape, marks, newest_first, tail_of};
use super::shared_words::{Ordering, Words, load};

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is none newer.
    Nothing,
    /// The entry was used again meanwhile; what was put is worth nothing.
    Torn,
    /// All that was put is of this generation.
    Accepted {
        generation: u64,
        tail: Vec<u8>,
        pages: u64,
    },
}

/// Tries to bring an image of generation `known` to the newest one. `begin` comes first, if there is any; `put` gets the pages that
/// may differ.
pub(super) fn take<E>(
    words: &impl Words,
    shape: &Shape,
    known: u64,
    begin: impl FnOnce() -> Result<(), E>,
    mut put: impl FnMut(usize, &[u64]) -> Result<(), E>,
) -> Result<Taken, E> {
    let marks = marks(words, shape);
    let newer = newest_first(&marks).into_iter();
    let newer: Vec<_> = newer
        .filter(|(generation, _)| *generation > known)
        .collect();
    let read = |at: usize, to: &mut [u64]| load(words.words(at..at + to.len()), to);
    // One whose descriptor is not good does not count.
    let good = newer.iter().find_map(|(generation, entry)| {
        let tail = tail_of(read, shape, *entry, *generation)?;
        Some((*generation, *entry, tail))
    });
    let Some((generation, entry, tail)) = good else {
        // It may be that it was used again since its mark was read.
        return Ok(match newer.is_empty() {
            true => Taken::Nothing,
            false => Taken::Torn,
        });
    };
    begin()?;
    let mut pages = 0;
    let mut copy = vec![0; shape.page_words];
    let mut copy_page = |page: usize| {
        load(words.words(shape.page(entry, page)), &mut copy);
        pages += 1;
        put(page, &copy)
    };
    if known == 0 {
        let buffer = shape.buffer(entry);
        for run in words.with_data(buffer.clone()) {
            let first = (run.start - buffer.start) / shape.page_words;
            let end = (run.end - buffer.start).div_ceil(shape.page_words);
            (first..end).try_for_each(&mut copy_page)?;
        }
    } else {
        let stamps = words.words(shape.stamps()).iter().enumerate();
        let newer = stamps.filter(|(_, stamp)| stamp.load(Ordering::Relaxed) > known);
        newer.map(|(page, _)| page).try_for_each(&mut copy_page)?;
    }
    // Of live memory, not of what was copied.
    let again = words.look_again(shape.mark_at(entry));
    if again != marks[entry] {
        return Ok(Taken::Torn);
    }
    Ok(Taken::Accepted {
        generation,
        tail,
        pages,
    })
}
