//! Client side of the protocol on any [`Words`]: steps W1 to W6 of docs/shared-memory-protocol.md.

use super::error::QueueError;
use super::layout::{Layout, mark, newest_first, read_aux, to_words};
use super::shared_words::{Ordering, Words, store};
use crate::numbers::Generation;
use crate::snapshot::PageSet;

/// A mark is twice its generation. Two bits stay free.
const GENERATION_MAX: u64 = u64::MAX >> 2;

/// Private knowledge of the only client of a queue.
#[derive(Debug)]
pub(super) struct ClientProtocol {
    layout: Layout,
    /// The newest generation, and its entry.
    newest: Option<(u64, usize)>,
    next: u64,
    /// Per buffer, the pages in which it may differ from the buffer of the newest generation, or
    /// from zeros before the first one.
    stale: Vec<PageSet>,
}

/// A commit in progress. Its entry is invalid until [`complete`](Self::complete).
///
/// Touched pages are recorded as stale at once, so a commit that is dropped or forgotten needs no
/// cleanup: the next one copies these pages again.
#[derive(Debug)]
pub(super) struct PendingCommit<'c, W: Words> {
    words: &'c W,
    protocol: &'c mut ClientProtocol,
    generation: u64,
    entry: usize,
}

impl ClientProtocol {
    /// Continues with the generations that the ring holds.
    pub(super) fn resume(words: &impl Words, layout: Layout) -> Result<Self, QueueError> {
        let read = |at: usize, to: &mut [u64]| words.load_own(at, to);
        let mut marks = vec![0; layout.depth];
        for (entry, mark) in marks.iter_mut().enumerate() {
            read(layout.mark_at(entry), std::slice::from_mut(mark));
        }
        let newest = newest_first(&marks)
            .into_iter()
            .find(|(generation, entry)| read_aux(read, &layout, *entry, *generation).is_some());
        let highest = marks.iter().max().map_or(0, |mark| mark / 2);
        let mut protocol = Self {
            layout,
            newest,
            next: highest + 1,
            stale: vec![PageSet::new(); layout.depth],
        };
        if protocol.next > GENERATION_MAX {
            return Err(generation_overflow(highest));
        }
        let source = newest.map(|(_, entry)| entry);
        for entry in (0..layout.depth).filter(|entry| Some(*entry) != source) {
            let mut stale = protocol.pages_with_data(words, entry);
            if let Some(source) = source {
                stale |= &protocol.pages_with_data(words, source);
            }
            protocol.stale[entry] = stale;
        }
        Ok(protocol)
    }

    fn pages_with_data(&self, words: &impl Words, entry: usize) -> PageSet {
        let buffer = self.layout.buffer(entry);
        let page_words = self.layout.page_words;
        let mut pages = PageSet::new();
        for run in words.with_data(buffer.clone()) {
            let first = (run.start - buffer.start) / page_words;
            let end = (run.end - buffer.start).div_ceil(page_words);
            pages.insert_range(first as u64..end as u64);
        }
        pages
    }

    pub(super) fn newest(&self) -> Option<(u64, usize)> {
        self.newest
    }

    /// W1 to W3.
    pub(super) fn begin<'c, W: Words>(
        &'c mut self,
        words: &'c W,
    ) -> Result<PendingCommit<'c, W>, QueueError> {
        let generation = self.next;
        if generation > GENERATION_MAX {
            return Err(generation_overflow(generation));
        }
        self.next += 1;
        // The newest entry must stay valid until this commit is complete.
        let entry = match self.newest {
            Some((_, newest)) => (newest + 1) % self.layout.depth,
            None => 0,
        };
        let at = self.layout.mark_at(entry);
        words
            .word(at)
            .store(mark(generation, false), Ordering::Relaxed);
        words.fence_after_invalid_mark();
        self.refresh_buffer(words, entry);
        Ok(PendingCommit {
            words,
            protocol: self,
            generation,
            entry,
        })
    }

    /// Copies the stale pages of a buffer from the buffer of the newest generation.
    fn refresh_buffer(&mut self, words: &impl Words, entry: usize) {
        let stale = self.stale[entry].take();
        for page in stale.runs().flatten() {
            // Lossless: a page of a buffer in memory.
            let page = page as usize;
            let target = self.layout.page(entry, page);
            if let Some((_, newest)) = self.newest {
                words.copy_own(self.layout.page(newest, page), target);
            } else {
                for word in words.words(target) {
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

impl<W: Words> PendingCommit<'_, W> {
    pub(super) fn generation(&self) -> Generation {
        Generation::new(self.generation).expect("the first generation is 1")
    }

    /// Words of the buffer that holds the state, including the changes made so far.
    pub(super) fn buffer(&self) -> std::ops::Range<usize> {
        self.protocol.layout.buffer(self.entry)
    }

    /// W4. Must precede the first store to the page.
    pub(super) fn touch(&mut self, page: usize) {
        let touched = &mut self.protocol.stale[self.entry];
        if touched.contains(page as u64) {
            return;
        }
        touched.insert(page as u64);
        let stamps = self.protocol.layout.stamps();
        self.words
            .word(stamps.start + page)
            .store(self.generation, Ordering::Relaxed);
    }

    /// W5 and W6. The caller has checked that `aux` fits into an entry.
    pub(super) fn complete(self, aux: &[u8]) {
        let (words, entry, generation) = (self.words, self.entry, self.generation);
        let layout = self.protocol.layout;
        let at = layout.mark_at(entry);
        let descriptor = layout.descriptor(entry, generation, aux.len() as u64);
        store(words.words(at + 1..at + 8), &descriptor);
        let aux = to_words(aux);
        let aux_at = layout.aux_at(entry);
        store(words.words(aux_at..aux_at + aux.len()), &aux);
        words
            .word(at)
            .store(mark(generation, true), Ordering::Release);
        let touched = self.protocol.stale[entry].take();
        let others = self.protocol.stale.iter_mut().enumerate();
        for (_, stale) in others.filter(|(other, _)| *other != entry) {
            *stale |= &touched;
        }
        self.protocol.newest = Some((generation, entry));
    }
}

fn generation_overflow(highest: u64) -> QueueError {
    let generation = Generation::new(highest).expect("the highest generation is above 0");
    QueueError::GenerationOverflow { generation }
}
