//! The client's side of the protocol (docs/shared-memory-protocol.md, W1 to W6), on any words.

use super::error::QueueError;
use super::layout::{Shape, mark, newest_first, tail_of, to_words};
use super::shared_words::{Ordering, Words, store};
use crate::snapshot::PageSet;

/// So that twice a number is a word, with room for a few.
const GENERATION_MAX: u64 = u64::MAX >> 2;

/// What the one writer knows.
#[derive(Debug)]
pub(super) struct Committer {
    shape: Shape,
    /// The newest generation, and its entry.
    newest: Option<(u64, usize)>,
    next: u64,
    /// Of each buffer the pages that are not as in the newest one; or not zeros, as long as there is none.
    behind: Vec<PageSet>,
}

/// A change on its way: of one entry, which is invalid. Dropped, it is given up.
#[derive(Debug)]
pub(super) struct Change<'c, W: Words> {
    words: &'c W,
    committer: &'c mut Committer,
    generation: u64,
    entry: usize,
    touched: PageSet,
}

impl Committer {
    /// Goes on with what is there.
    pub(super) fn begin(words: &impl Words, shape: Shape) -> Result<Self, QueueError> {
        let read = |at: usize, to: &mut [u64]| words.load_own(at, to);
        let mut marks = vec![0; shape.depth];
        for (entry, mark) in marks.iter_mut().enumerate() {
            read(shape.mark_at(entry), std::slice::from_mut(mark));
        }
        let newest = newest_first(&marks)
            .into_iter()
            .find(|(generation, entry)| tail_of(read, &shape, *entry, *generation).is_some());
        let highest = marks.iter().max().map_or(0, |mark| mark / 2);
        let mut committer = Self {
            shape,
            newest,
            next: highest + 1,
            behind: vec![PageSet::new(); shape.depth],
        };
        if committer.next > GENERATION_MAX {
            return Err(QueueError::NumbersExhausted {
                generation: highest,
            });
        }
        let source = newest.map(|(_, entry)| entry);
        for entry in (0..shape.depth).filter(|entry| Some(*entry) != source) {
            let mut behind = committer.with_data(words, entry);
            if let Some(source) = source {
                behind |= &committer.with_data(words, source);
            }
            committer.behind[entry] = behind;
        }
        Ok(committer)
    }

    fn with_data(&self, words: &impl Words, entry: usize) -> PageSet {
        let buffer = self.shape.buffer(entry);
        let page_words = self.shape.page_words;
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
    pub(super) fn start<'c, W: Words>(
        &'c mut self,
        words: &'c W,
    ) -> Result<Change<'c, W>, QueueError> {
        let generation = self.next;
        if generation > GENERATION_MAX {
            return Err(QueueError::NumbersExhausted { generation });
        }
        self.next += 1;
        // Never the newest one: that is what counts until this is complete.
        let entry = match self.newest {
            Some((_, newest)) => (newest + 1) % self.shape.depth,
            None => 0,
        };
        let at = self.shape.mark_at(entry);
        words
            .word(at)
            .store(mark(generation, false), Ordering::Relaxed);
        words.fence_after_invalid_mark();
        self.catch_up(words, entry);
        Ok(Change {
            words,
            committer: self,
            generation,
            entry,
            touched: PageSet::new(),
        })
    }

    fn catch_up(&mut self, words: &impl Words, entry: usize) {
        let behind = self.behind[entry].take();
        for page in behind.runs().flatten() {
            // Lossless: a page of a buffer in memory.
            let page = page as usize;
            let target = self.shape.page(entry, page);
            match self.newest {
                Some((_, newest)) => words.copy_own(self.shape.page(newest, page), target),
                None => {
                    let target = words.words(target);
                    target.iter().for_each(|to| to.store(0, Ordering::Relaxed));
                }
            }
        }
    }
}

impl<W: Words> Change<'_, W> {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The state as it is with the change so far: words of the buffer.
    pub(super) fn buffer(&self) -> std::ops::Range<usize> {
        self.committer.shape.buffer(self.entry)
    }

    /// W4: to be called before the first store to a page.
    pub(super) fn touch(&mut self, page: usize) {
        if self.touched.contains(page as u64) {
            return;
        }
        let stamps = self.committer.shape.stamps();
        self.words
            .word(stamps.start + page)
            .store(self.generation, Ordering::Relaxed);
        self.touched.insert(page as u64);
    }

    /// W5 and W6. The tail fits.
    pub(super) fn complete(mut self, tail: &[u8]) -> u64 {
        let (words, entry, generation) = (self.words, self.entry, self.generation);
        let shape = self.committer.shape;
        let at = shape.mark_at(entry);
        let descriptor = shape.descriptor(entry, generation, tail.len() as u64);
        store(words.words(at + 1..at + 8), &descriptor);
        let tail = to_words(tail);
        let tail_at = shape.tail_at(entry);
        store(words.words(tail_at..tail_at + tail.len()), &tail);
        words
            .word(at)
            .store(mark(generation, true), Ordering::Release);
        let touched = self.touched.take();
        let others = self.committer.behind.iter_mut().enumerate();
        for (_, behind) in others.filter(|(other, _)| *other != entry) {
            *behind |= &touched;
        }
        self.committer.newest = Some((generation, entry));
        generation
    }
}

impl<W: Words> Drop for Change<'_, W> {
    /// Completed, nothing is touched any more.
    fn drop(&mut self) {
        self.committer.behind[self.entry] |= &self.touched;
    }
}
