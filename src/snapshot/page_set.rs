//! Set of pages as a bitmap. One bit per page needs 32 KiB for a region of 1 GiB.

use std::fmt;
use std::ops::{BitOrAssign, Range};

const WORD_PAGES: u64 = 64;

/// Set of page numbers, such as the dirty pages of a region or the stale pages of a heap.
///
/// The bitmap grows on demand, up to the highest page that was ever inserted.
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::PageSet;
///
/// let mut pages = PageSet::from_iter([1, 2, 7]);
/// pages.insert_range(4..6);
/// pages.remove(7);
/// assert!(pages.runs().eq([1..3, 4..6]));
/// assert_eq!(pages.len(), 4);
/// ```
#[derive(Clone, Default)]
pub struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    /// Creates an empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// Inserts a page.
    ///
    /// # Panics
    ///
    /// Panics if the bitmap up to this page does not fit in memory.
    #[track_caller]
    pub fn insert(&mut self, page: u64) {
        let (word, bit) = place(page);
        self.make_room(word + 1);
        self.words[word] |= 1 << bit;
    }

    /// Inserts all pages of a range.
    ///
    /// # Panics
    ///
    /// Panics if the bitmap up to the last page does not fit in memory.
    #[track_caller]
    pub fn insert_range(&mut self, pages: Range<u64>) {
        let Some(last) = last(&pages) else { return };
        self.make_room(place(last).0 + 1);
        masks(&pages, self.words.len(), |word, mask| {
            self.words[word] |= mask;
        });
    }

    /// Removes a page.
    pub fn remove(&mut self, page: u64) {
        self.remove_range(page..page.saturating_add(1));
    }

    /// Removes all pages of a range.
    pub fn remove_range(&mut self, pages: Range<u64>) {
        masks(&pages, self.words.len(), |word, mask| {
            self.words[word] &= !mask;
        });
    }

    /// Removes all pages of another set.
    pub fn remove_all(&mut self, other: &Self) {
        for (word, out) in self.words.iter_mut().zip(&other.words) {
            *word &= !out;
        }
    }

    /// Returns whether the set contains a page.
    #[must_use]
    pub fn contains(&self, page: u64) -> bool {
        usize::try_from(page / WORD_PAGES)
            .ok()
            .and_then(|word| self.words.get(word))
            .is_some_and(|word| word >> (page % WORD_PAGES) & 1 == 1)
    }

    /// Returns the number of pages. Each call counts the whole bitmap.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Removes all pages and returns them as a new set.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Removes all pages and keeps the memory of the bitmap.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Returns the maximal ranges of consecutive pages, in ascending order.
    #[must_use]
    pub fn runs(&self) -> Runs<'_> {
        Runs {
            words: &self.words,
            at: 0,
        }
    }

    fn make_room(&mut self, words: usize) {
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }
}

/// Inserts all pages of the other set.
impl BitOrAssign<&Self> for PageSet {
    fn bitor_assign(&mut self, rhs: &Self) {
        self.make_room(rhs.words.len());
        for (word, more) in self.words.iter_mut().zip(&rhs.words) {
            *word |= more;
        }
    }
}

impl PartialEq for PageSet {
    fn eq(&self, other: &Self) -> bool {
        let shared = self.words.len().min(other.words.len());
        let (ours, more) = self.words.split_at(shared);
        let (theirs, rest) = other.words.split_at(shared);
        ours == theirs && more.iter().chain(rest).all(|word| *word == 0)
    }
}

impl Eq for PageSet {}

impl FromIterator<u64> for PageSet {
    fn from_iter<I: IntoIterator<Item = u64>>(iter: I) -> Self {
        let mut set = Self::new();
        for page in iter {
            set.insert(page);
        }
        set
    }
}

impl fmt::Debug for PageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.runs()).finish()
    }
}

/// Iterator over the page ranges of a set, created by [`PageSet::runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    words: &'a [u64],
    /// All pages before this one were visited.
    at: u64,
}

impl Runs<'_> {
    /// First page from `at` on that is in the set, or with `inside` false the first that is not.
    fn first_from(&self, at: u64, inside: bool) -> Option<u64> {
        let (first, bit) = place(at);
        let flip = if inside { 0 } else { u64::MAX };
        let here = (self.words.get(first)? ^ flip) >> bit << bit;
        if here != 0 {
            return Some(page(first, here));
        }
        let behind = self.words.get(first + 1..)?;
        let skipped = behind.iter().position(|word| word ^ flip != 0)?;
        Some(page(first + 1 + skipped, behind[skipped] ^ flip))
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let start = self.first_from(self.at, true)?;
        let all = self.words.len() as u64 * WORD_PAGES;
        self.at = self.first_from(start, false).unwrap_or(all);
        Some(start..self.at)
    }
}

/// Page of the lowest set bit.
fn page(word: usize, bits: u64) -> u64 {
    word as u64 * WORD_PAGES + u64::from(bits.trailing_zeros())
}

fn place(page: u64) -> (usize, u64) {
    let word = usize::try_from(page / WORD_PAGES).unwrap_or(usize::MAX - 1);
    (word, page % WORD_PAGES)
}

fn last(pages: &Range<u64>) -> Option<u64> {
    (!pages.is_empty()).then(|| pages.end - 1)
}

/// Calls `each` with the words below `words` that a range touches, and the mask of its pages in
/// them.
fn masks(pages: &Range<u64>, words: usize, mut each: impl FnMut(usize, u64)) {
    let Some(last) = last(pages) else { return };
    let (first_word, first_bit) = place(pages.start);
    let (last_word, last_bit) = place(last);
    for word in first_word..words.min(last_word + 1) {
        let mut mask = u64::MAX;
        if word == first_word {
            mask &= u64::MAX << first_bit;
        }
        if word == last_word {
            mask &= u64::MAX >> (WORD_PAGES - 1 - last_bit);
        }
        each(word, mask);
    }
}
