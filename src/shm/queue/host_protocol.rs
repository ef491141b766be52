//! Host side of the protocol on any [`Words`]: steps H1 to H5 of docs/shared-memory-protocol.md.

use super::layout::{Layout, marks, newest_first, read_aux};
use super::shared_words::{Ordering, Words, load};

/// Result of one attempt to copy the newest generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CopyOutcome {
    /// The ring holds no newer generation.
    Unchanged,
    /// The client reused the entry during the copy. The copied pages must not be used.
    Torn,
    /// All copied pages are of this generation.
    Accepted {
        generation: u64,
        aux: Vec<u8>,
        pages: u64,
    },
}

/// Tries to bring an image of generation `known` (0: none) to the newest generation.
///
/// Calls `begin` once if a newer generation exists, then `put` for each page that may differ.
pub(super) fn copy_newest<E>(
    words: &impl Words,
    layout: &Layout,
    known: u64,
    begin: impl FnOnce() -> Result<(), E>,
    mut put: impl FnMut(usize, &[u64]) -> Result<(), E>,
) -> Result<CopyOutcome, E> {
    let marks = marks(words, layout);
    let newer: Vec<_> = newest_first(&marks)
        .into_iter()
        .filter(|(generation, _)| *generation > known)
        .collect();
    let read = |at: usize, to: &mut [u64]| load(words.words(at..at + to.len()), to);
    // Entries with an invalid descriptor do not count.
    let found = newer.iter().find_map(|(generation, entry)| {
        let aux = read_aux(read, layout, *entry, *generation)?;
        Some((*generation, *entry, aux))
    });
    let Some((generation, entry, aux)) = found else {
        // The client may have reused the entry after its mark was read.
        return Ok(if newer.is_empty() {
            CopyOutcome::Unchanged
        } else {
            CopyOutcome::Torn
        });
    };
    begin()?;
    let mut pages = 0;
    let mut copy = vec![0; layout.page_words];
    let mut copy_page = |page: usize| {
        load(words.words(layout.page(entry, page)), &mut copy);
        pages += 1;
        put(page, &copy)
    };
    if known == 0 {
        let buffer = layout.buffer(entry);
        for run in words.with_data(buffer.clone()) {
            let first = (run.start - buffer.start) / layout.page_words;
            let end = (run.end - buffer.start).div_ceil(layout.page_words);
            (first..end).try_for_each(&mut copy_page)?;
        }
    } else {
        let stamps = words.words(layout.stamps()).iter().enumerate();
        let newer = stamps.filter(|(_, stamp)| stamp.load(Ordering::Relaxed) > known);
        newer.map(|(page, _)| page).try_for_each(&mut copy_page)?;
    }
    // The check must read live memory: a copy of the mark would miss a reuse during the copy.
    let again = words.load_mark_again(layout.mark_at(entry));
    if again != marks[entry] {
        return Ok(CopyOutcome::Torn);
    }
    Ok(CopyOutcome::Accepted {
        generation,
        aux,
        pages,
    })
}
