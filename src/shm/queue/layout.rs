//! Byte layout of a queue in its memfd (docs/shared-memory-protocol.md, "Layout"): arithmetic only.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::error::QueueError;
use super::lineage::Lineage;
use super::shared_words::{AtomicU64, Ordering, Words, load, store};
use crate::snapshot::random;

pub(crate) const PAGE_BYTES: usize = 4096;
const WORD_BYTES: usize = 8;
const PAGE_WORDS: usize = PAGE_BYTES / WORD_BYTES;

/// The last byte is the version.
const MAGIC: u64 = u64::from_le_bytes(*b"FSQUEUE1");
const MAGIC_NAME_MASK: u64 = u64::MAX >> 8;
const HEADER_WORDS: usize = 10;
/// Header words that the checksum covers. The checksum follows them.
const CHECKSUMMED_WORDS: Range<usize> = 1..9;
const CHECKSUM_AT: usize = 9;

const DEPTH_MAX: u64 = 64;
const AUX_BYTES_MAX: u64 = 65_536;
const STATE_BYTES_MAX: u64 = 1 << 46;

/// Words of an entry before its auxiliary data.
const ENTRY_FIELDS: usize = 8;

/// Words of the header for "no lineage".
const NO_LINEAGE: [u64; 2] = [0; 2];

/// A lineage as the two words of the header, the most significant first.
fn lineage_words(lineage: Option<Lineage>) -> [u64; 2] {
    let Some(lineage) = lineage else {
        return NO_LINEAGE;
    };
    let both = u128::from_be_bytes(lineage.get());
    [(both >> 64) as u64, both as u64]
}

/// The lineage that two words of the header state.
fn lineage_of_words(words: [u64; 2]) -> Option<Lineage> {
    let both = u128::from(words[0]) << 64 | u128::from(words[1]);
    (words != NO_LINEAGE).then(|| Lineage::new(both.to_be_bytes()))
}

fn random_lineage() -> Lineage {
    let both = u128::from(random::word().max(1)) << 64 | u128::from(random::word());
    Lineage::new(both.to_be_bytes())
}

/// Sizes that a queue is created with. They never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dimensions {
    pub(crate) state_bytes: u64,
    pub(crate) depth: u64,
    pub(crate) aux_bytes: u64,
}

impl Dimensions {
    fn fields(&self) -> [(&'static str, u64); 3] {
        [
            ("state_bytes", self.state_bytes),
            ("depth", self.depth),
            ("aux_bytes", self.aux_bytes),
        ]
    }

    pub(crate) fn check_equal(&self, asked: &Self) -> Result<(), QueueError> {
        for ((field, found), (_, asked)) in self.fields().into_iter().zip(asked.fields()) {
            if found != asked {
                return Err(QueueError::LayoutMismatch {
                    field,
                    found,
                    asked,
                });
            }
        }
        Ok(())
    }

    /// The layout of a queue with these dimensions, if they are within the limits of the protocol
    /// and of the address space.
    fn layout(&self) -> Result<Layout, QueueError> {
        let page = PAGE_BYTES as u64;
        let is_valid = [
            self.state_bytes.is_multiple_of(page)
                && (page..=STATE_BYTES_MAX).contains(&self.state_bytes),
            (2..=DEPTH_MAX).contains(&self.depth),
            self.aux_bytes.is_multiple_of(8) && self.aux_bytes <= AUX_BYTES_MAX,
        ];
        for ((field, found), is_valid) in self.fields().into_iter().zip(is_valid) {
            if !is_valid {
                return Err(QueueError::InvalidHeader { field, found });
            }
        }
        let words = |bytes: u64| Some(usize::try_from(bytes).ok()? / WORD_BYTES);
        let layout = || {
            let pages = words(self.state_bytes)? / PAGE_WORDS;
            let depth = usize::try_from(self.depth).ok()?;
            Layout::new(PAGE_WORDS, pages, depth, words(self.aux_bytes)?)
        };
        layout().ok_or(QueueError::InvalidHeader {
            field: "state_bytes",
            found: self.state_bytes,
        })
    }
}

/// Header of a queue, copied to private memory and validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    dimensions: Dimensions,
    lineage: Lineage,
    parent: Option<Lineage>,
    restored_at: u64,
    layout: Layout,
}

impl Header {
    /// Header of a new queue with a lineage of its own.
    pub(crate) fn new(dimensions: Dimensions) -> Result<Self, QueueError> {
        Ok(Self {
            dimensions,
            lineage: random_lineage(),
            parent: None,
            restored_at: 0,
            layout: dimensions.layout()?,
        })
    }

    /// Header of a memfd into which this queue was restored at `generation`.
    pub(crate) fn restored(&self, generation: u64) -> Self {
        Self {
            lineage: random_lineage(),
            parent: Some(self.lineage),
            restored_at: generation,
            ..*self
        }
    }

    pub(crate) fn dimensions(&self) -> &Dimensions {
        &self.dimensions
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// The memfd that this one was restored from, `None` for a new queue.
    pub(crate) fn parent(&self) -> Option<Lineage> {
        self.parent
    }

    /// The generation of the parent at which it was restored, 0 for a new queue.
    pub(crate) fn restored_at(&self) -> u64 {
        self.restored_at
    }

    fn checksummed(&self) -> [u64; 8] {
        let lineage = lineage_words(Some(self.lineage));
        let parent = lineage_words(self.parent);
        [
            self.dimensions.state_bytes,
            self.dimensions.depth,
            self.dimensions.aux_bytes,
            lineage[0],
            lineage[1],
            parent[0],
            parent[1],
            self.restored_at,
        ]
    }

    pub(crate) fn encode(&self) -> [u64; HEADER_WORDS] {
        let fields = self.checksummed();
        let mut words = [0; HEADER_WORDS];
        words[0] = MAGIC;
        words[CHECKSUMMED_WORDS].copy_from_slice(&fields);
        words[CHECKSUM_AT] = checksum(&fields);
        words
    }

    /// The header in `words`, `None` if they do not start with the magic.
    pub(crate) fn decode(words: &[u64; HEADER_WORDS]) -> Result<Option<Self>, QueueError> {
        if words[0] & MAGIC_NAME_MASK != MAGIC & MAGIC_NAME_MASK {
            return Ok(None);
        }
        if words[0] != MAGIC {
            let found = words[0].to_le_bytes()[7];
            return Err(QueueError::UnsupportedVersion { found });
        }
        let fields: [u64; 8] = std::array::from_fn(|index| words[CHECKSUMMED_WORDS.start + index]);
        if words[CHECKSUM_AT] != checksum(&fields) {
            return Err(QueueError::InvalidHeader {
                field: "checksum",
                found: words[CHECKSUM_AT],
            });
        }
        let dimensions = Dimensions {
            state_bytes: fields[0],
            depth: fields[1],
            aux_bytes: fields[2],
        };
        let layout = dimensions.layout()?;
        let Some(lineage) = lineage_of_words([fields[3], fields[4]]) else {
            return Err(QueueError::InvalidHeader {
                field: "lineage",
                found: 0,
            });
        };
        Ok(Some(Self {
            dimensions,
            lineage,
            parent: lineage_of_words([fields[5], fields[6]]),
            restored_at: fields[7],
            layout,
        }))
    }

    /// Copies the header of a memfd that is at least a page long.
    pub(crate) fn read(words: &impl Words) -> Result<Option<Self>, QueueError> {
        let mut copy = [0; HEADER_WORDS];
        copy[0] = words.word(0).load(Ordering::Acquire);
        load(words.words(1..HEADER_WORDS), &mut copy[1..]);
        Self::decode(&copy)
    }

    /// Stores the header. The magic comes last, so that a reader never finds a partial header.
    pub(crate) fn write(&self, words: &impl Words) {
        let encoded = self.encode();
        store(words.words(1..HEADER_WORDS), &encoded[1..]);
        words.word(0).store(encoded[0], Ordering::Release);
    }
}

fn checksum(words: &[u64; 8]) -> u64 {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

/// Offsets of the parts of a queue, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Words per page. Models use fewer.
    pub(crate) page_words: usize,
    /// Pages of the state.
    pub(crate) pages: usize,
    pub(crate) depth: usize,
    aux_words: usize,
    entry_words: usize,
    stamps_at: usize,
    buffers_at: usize,
    len: usize,
}

impl Layout {
    /// The layout, `None` if it exceeds the address space.
    pub(crate) fn new(
        page_words: usize,
        pages: usize,
        depth: usize,
        aux_words: usize,
    ) -> Option<Self> {
        let whole_pages = |words: usize| words.checked_next_multiple_of(page_words);
        let entry_words = (ENTRY_FIELDS + aux_words).next_multiple_of(8);
        let ring_at = whole_pages(2 * page_words.max(HEADER_WORDS))?;
        let ring_end = ring_at.checked_add(entry_words.checked_mul(depth)?)?;
        let stamps_at = whole_pages(ring_end)?;
        let buffers_at = whole_pages(stamps_at.checked_add(pages)?)?;
        let buffers = pages.checked_mul(page_words)?.checked_mul(depth)?;
        let len = buffers_at.checked_add(buffers)?;
        // The length must fit in bytes, and as a file offset.
        i64::try_from(len.checked_mul(WORD_BYTES)?).ok()?;
        Some(Self {
            page_words,
            pages,
            depth,
            aux_words,
            entry_words,
            stamps_at,
            buffers_at,
            len,
        })
    }

    /// Words of the whole queue. Models allocate them.
    #[cfg(all(loom, test))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.len * WORD_BYTES
    }

    /// Length of the image that a store keeps: everything up to the end of buffer 0.
    pub(crate) fn image_bytes(&self) -> usize {
        (self.buffers_at + self.pages * self.page_words) * WORD_BYTES
    }

    /// Word of the host page that holds the highest durable generation.
    pub(crate) fn persisted_at(&self) -> usize {
        self.ring_at() / 2
    }

    fn ring_at(&self) -> usize {
        2 * self
            .page_words
            .max(HEADER_WORDS)
            .next_multiple_of(self.page_words)
    }

    /// The mark of an entry, which is its first word.
    pub(crate) fn mark_at(&self, entry: usize) -> usize {
        self.ring_at() + entry * self.entry_words
    }

    pub(crate) fn aux_at(&self, entry: usize) -> usize {
        self.mark_at(entry) + ENTRY_FIELDS
    }

    pub(crate) fn stamps(&self) -> Range<usize> {
        self.stamps_at..self.stamps_at + self.pages
    }

    pub(crate) fn buffer(&self, entry: usize) -> Range<usize> {
        let words = self.pages * self.page_words;
        let start = self.buffers_at + entry * words;
        start..start + words
    }

    pub(crate) fn page(&self, entry: usize, page: usize) -> Range<usize> {
        let start = self.buffer(entry).start + page * self.page_words;
        start..start + self.page_words
    }

    /// The words of an entry after its mark, for a generation.
    pub(crate) fn descriptor(&self, entry: usize, generation: u64, aux_bytes: u64) -> [u64; 7] {
        let buffer = self.buffer(entry);
        let bytes = |words: usize| (words * WORD_BYTES) as u64;
        [
            generation,
            bytes(buffer.start),
            bytes(buffer.len()),
            aux_bytes,
            0,
            0,
            0,
        ]
    }
}

/// The mark of an entry that holds `generation`.
pub(crate) fn mark(generation: u64, valid: bool) -> u64 {
    generation * 2 + u64::from(valid)
}

/// The generation of a mark, `None` if the entry is invalid.
fn valid_generation(mark: u64) -> Option<u64> {
    (mark % 2 == 1 && mark > 1).then_some(mark / 2)
}

/// All marks, loaded with Acquire: the entries that they make valid are visible afterwards.
pub(crate) fn marks(words: &impl Words, layout: &Layout) -> Vec<u64> {
    let mark = |entry| words.word(layout.mark_at(entry)).load(Ordering::Acquire);
    (0..layout.depth).map(mark).collect()
}

/// Generation and index of the valid entries, newest first.
pub(crate) fn newest_first(marks: &[u64]) -> Vec<(u64, usize)> {
    let entries = marks.iter().enumerate();
    let mut entries: Vec<_> = entries
        .filter_map(|(entry, mark)| Some((valid_generation(*mark)?, entry)))
        .collect();
    entries.sort_unstable_by(|a, b| b.cmp(a));
    entries
}

/// The auxiliary data of an entry, `None` if its descriptor is not valid for `generation`.
///
/// The data may be torn. The caller checks the mark again after the copy.
pub(crate) fn read_aux(
    read: impl Fn(usize, &mut [u64]),
    layout: &Layout,
    entry: usize,
    generation: u64,
) -> Option<Vec<u8>> {
    let mut copy = [0; 7];
    read(layout.mark_at(entry) + 1, &mut copy);
    let aux_bytes = usize::try_from(copy[3]).ok()?;
    let is_valid = aux_bytes <= layout.aux_words * WORD_BYTES
        && copy == layout.descriptor(entry, generation, copy[3]);
    if !is_valid {
        return None;
    }
    let mut words = vec![0; aux_bytes.div_ceil(WORD_BYTES)];
    read(layout.aux_at(entry), &mut words);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.truncate(aux_bytes);
    Some(bytes)
}

/// The bytes as words. The last word is padded with zeros.
pub(crate) fn to_words(bytes: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| {
        let mut word = [0; WORD_BYTES];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    bytes.chunks(WORD_BYTES).map(word).collect()
}

const _: () = assert!(size_of::<AtomicU64>() >= WORD_BYTES);
