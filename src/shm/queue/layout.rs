//! Where what lies in the memfd of a queue (docs/shared-memory-protocol.md, "Layout"): arithmetic only.

use xxhash_rust::xxh3::xxh3_64;

use super::error::QueueError;
use super::shared_words::{AtomicU64, Ordering, Words};

pub(crate) const PAGE_BYTES: usize = 4096;
const WORD_BYTES: usize = 8;
const PAGE_WORDS: usize = PAGE_BYTES / WORD_BYTES;

/// The last byte is the version.
const MAGIC: u64 = u64::from_le_bytes(*b"FSQUEUE1");
const NAME_MASK: u64 = u64::MAX >> 8;
/// Words of the header that the checksum is of; it follows them.
pub(crate) const SUMMED: std::ops::Range<usize> = 1..9;
const SUM_AT: usize = 9;

pub(crate) const DEPTH_MAX: u64 = 64;
pub(crate) const TAIL_BYTES_MAX: u64 = 65_536;
pub(crate) const STATE_BYTES_MAX: u64 = 1 << 46;

/// Words of an entry before its tail.
pub(crate) const ENTRY_FIELDS: usize = 8;

/// Which memfd it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lineage(pub(crate) [u64; 2]);

impl Lineage {
    pub(crate) const NONE: Self = Self([0; 2]);
}

impl std::fmt::Display for Lineage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

/// The header, as it was copied and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) state_bytes: u64,
    pub(crate) depth: u64,
    pub(crate) tail_bytes: u64,
    pub(crate) lineage: Lineage,
    /// The memfd that this one was restored from, and the generation it had.
    pub(crate) parent: Lineage,
    pub(crate) restored_at: u64,
}

impl Header {
    fn summed(&self) -> [u64; 8] {
        [
            self.state_bytes,
            self.depth,
            self.tail_bytes,
            self.lineage.0[0],
            self.lineage.0[1],
            self.parent.0[0],
            self.parent.0[1],
            self.restored_at,
        ]
    }

    /// Words 0 to 9.
    pub(crate) fn encode(&self) -> [u64; 10] {
        let summed = self.summed();
        let mut words = [0; 10];
        words[0] = MAGIC;
        words[SUMMED].copy_from_slice(&summed);
        words[SUM_AT] = sum(&summed);
        words
    }

    /// `None` where no queue is.
    pub(crate) fn decode(words: &[u64; 10]) -> Result<Option<Self>, QueueError> {
        if words[0] & NAME_MASK != MAGIC & NAME_MASK {
            return Ok(None);
        }
        if words[0] != MAGIC {
            let found = words[0].to_le_bytes()[7];
            return Err(QueueError::Version { found });
        }
        let summed: [u64; 8] = std::array::from_fn(|index| words[SUMMED.start + index]);
        if words[SUM_AT] != sum(&summed) {
            return Err(QueueError::Header {
                field: "checksum",
                found: words[SUM_AT],
            });
        }
        let [
            state_bytes,
            depth,
            tail_bytes,
            a,
            b,
            parent_a,
            parent_b,
            restored_at,
        ] = summed;
        let header = Self {
            state_bytes,
            depth,
            tail_bytes,
            lineage: Lineage([a, b]),
            parent: Lineage([parent_a, parent_b]),
            restored_at,
        };
        header.check()?;
        Ok(Some(header))
    }

    /// Copies the header of a memfd that is at least a page long.
    pub(crate) fn read(words: &impl Words) -> Result<Option<Self>, QueueError> {
        let mut copy = [0; 10];
        copy[0] = words.word(0).load(Ordering::Acquire);
        super::shared_words::load(words.words(1..10), &mut copy[1..]);
        Self::decode(&copy)
    }

    /// The magic last.
    pub(crate) fn write(&self, words: &impl Words) {
        let encoded = self.encode();
        super::shared_words::store(words.words(1..10), &encoded[1..]);
        words.word(0).store(encoded[0], Ordering::Release);
    }

    pub(crate) fn check(&self) -> Result<(), QueueError> {
        let page = PAGE_BYTES as u64;
        for (field, found, fine) in [
            (
                "state_bytes",
                self.state_bytes,
                self.state_bytes.is_multiple_of(page)
                    && (page..=STATE_BYTES_MAX).contains(&self.state_bytes),
            ),
            ("depth", self.depth, (2..=DEPTH_MAX).contains(&self.depth)),
            (
                "tail_bytes",
                self.tail_bytes,
                self.tail_bytes.is_multiple_of(8) && self.tail_bytes <= TAIL_BYTES_MAX,
            ),
            ("lineage", self.lineage.0[0], self.lineage != Lineage::NONE),
        ] {
            if !fine {
                return Err(QueueError::Header { field, found });
            }
        }
        match self.shape() {
            Some(_) => Ok(()),
            None => Err(QueueError::Header {
                field: "state_bytes",
                found: self.state_bytes,
            }),
        }
    }

    /// `None` where addresses end before.
    pub(crate) fn shape(&self) -> Option<Shape> {
        let state_words = usize::try_from(self.state_bytes).ok()? / WORD_BYTES;
        let depth = usize::try_from(self.depth).ok()?;
        let tail_words = usize::try_from(self.tail_bytes).ok()? / WORD_BYTES;
        Shape::new(PAGE_WORDS, state_words / PAGE_WORDS, depth, tail_words)
    }
}

fn sum(words: &[u64; 8]) -> u64 {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

/// Where what lies, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Words of a page: fewer in models.
    pub(crate) page_words: usize,
    /// Pages of the state.
    pub(crate) pages: usize,
    pub(crate) depth: usize,
    pub(crate) tail_words: usize,
    entry_words: usize,
    stamps_at: usize,
    buffers_at: usize,
    len: usize,
}

impl Shape {
    pub(crate) fn new(
        page_words: usize,
        pages: usize,
        depth: usize,
        tail_words: usize,
    ) -> Option<Self> {
        let whole = |words: usize| words.checked_next_multiple_of(page_words);
        let entry_words = (ENTRY_FIELDS + tail_words).next_multiple_of(8);
        let ring_at = 2 * page_words.max(10);
        let ring_at = whole(ring_at)?;
        let ring_end = ring_at.checked_add(entry_words.checked_mul(depth)?)?;
        let stamps_at = whole(ring_end)?;
        let buffers_at = whole(stamps_at.checked_add(pages)?)?;
        let buffers = pages.checked_mul(page_words)?.checked_mul(depth)?;
        let len = buffers_at.checked_add(buffers)?;
        // Also in bytes, and as an offset in a file.
        i64::try_from(len.checked_mul(WORD_BYTES)?).ok()?;
        Some(Self {
            page_words,
            pages,
            depth,
            tail_words,
            entry_words,
            stamps_at,
            buffers_at,
            len,
        })
    }

    /// Words of everything: models allocate so many.
    #[cfg(all(loom, test))]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.len * WORD_BYTES
    }

    /// Up to the end of buffer 0: the image that a store keeps.
    pub(crate) fn image_bytes(&self) -> usize {
        (self.buffers_at + self.pages * self.page_words) * WORD_BYTES
    }

    /// The highest durable generation.
    pub(crate) fn persisted_at(&self) -> usize {
        self.ring_at() / 2
    }

    fn ring_at(&self) -> usize {
        2 * self.page_words.max(10).next_multiple_of(self.page_words)
    }

    /// The mark of an entry, and its begin.
    pub(crate) fn mark_at(&self, entry: usize) -> usize {
        self.ring_at() + entry * self.entry_words
    }

    pub(crate) fn tail_at(&self, entry: usize) -> usize {
        self.mark_at(entry) + ENTRY_FIELDS
    }

    pub(crate) fn stamps(&self) -> std::ops::Range<usize> {
        self.stamps_at..self.stamps_at + self.pages
    }

    pub(crate) fn buffer(&self, entry: usize) -> std::ops::Range<usize> {
        let words = self.pages * self.page_words;
        let start = self.buffers_at + entry * words;
        start..start + words
    }

    pub(crate) fn page(&self, entry: usize, page: usize) -> std::ops::Range<usize> {
        let start = self.buffer(entry).start + page * self.page_words;
        start..start + self.page_words
    }

    /// What the words of an entry say but the mark, for a generation.
    pub(crate) fn descriptor(&self, entry: usize, generation: u64, tail_bytes: u64) -> [u64; 7] {
        let buffer = self.buffer(entry);
        let bytes = |words: usize| (words * WORD_BYTES) as u64;
        [
            generation,
            bytes(buffer.start),
            bytes(buffer.len()),
            tail_bytes,
            0,
            0,
            0,
        ]
    }
}

/// The mark of a generation.
pub(crate) fn mark(generation: u64, valid: bool) -> u64 {
    generation * 2 + u64::from(valid)
}

/// The generation of a mark, if the entry is valid.
pub(crate) fn valid(mark: u64) -> Option<u64> {
    (mark % 2 == 1 && mark > 1).then_some(mark / 2)
}

/// All marks, behind which everything is visible that they say.
pub(crate) fn marks(words: &impl Words, shape: &Shape) -> Vec<u64> {
    let mark = |entry| words.word(shape.mark_at(entry)).load(Ordering::Acquire);
    (0..shape.depth).map(mark).collect()
}

/// The valid entries, the newest first.
pub(crate) fn newest_first(marks: &[u64]) -> Vec<(u64, usize)> {
    let entries = marks.iter().enumerate();
    let mut entries: Vec<_> = entries
        .filter_map(|(entry, mark)| Some((valid(*mark)?, entry)))
        .collect();
    entries.sort_unstable_by(|a, b| b.cmp(a));
    entries
}

/// A descriptor that was copied, and is as it must be; its tail may be torn.
pub(crate) fn tail_of(
    read: impl Fn(usize, &mut [u64]),
    shape: &Shape,
    entry: usize,
    generation: u64,
) -> Option<Vec<u8>> {
    let mut copy = [0; 7];
    read(shape.mark_at(entry) + 1, &mut copy);
    let tail_bytes = usize::try_from(copy[3]).ok()?;
    let is_good = tail_bytes <= shape.tail_words * WORD_BYTES
        && copy == shape.descriptor(entry, generation, copy[3]);
    if !is_good {
        return None;
    }
    let mut tail = vec![0; tail_bytes.div_ceil(WORD_BYTES)];
    read(shape.tail_at(entry), &mut tail);
    let mut bytes: Vec<u8> = tail.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.truncate(tail_bytes);
    Some(bytes)
}

/// Bytes as words, the last one filled with zeros.
pub(crate) fn to_words(bytes: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| {
        let mut word = [0; WORD_BYTES];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    bytes.chunks(WORD_BYTES).map(word).collect()
}

const _: () = assert!(size_of::<AtomicU64>() >= WORD_BYTES);
