//! Pages and their hashes, names of heaps, ids of stores.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Length of a page of the format in bytes, independent of the processor.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Upper bound of generations, revisions, sequence numbers and journal numbers. The number after
/// any valid one is representable.
pub(crate) const NUMBERS_END: u64 = 1 << 63;

/// One of the two heaps of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "a store has two heaps")]
pub enum HeapName {
    /// `heap-a`.
    A,
    /// `heap-b`.
    B,
}

impl HeapName {
    /// Returns the other heap of the store.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "a" => Some(Self::A),
            "b" => Some(Self::B),
            _ => None,
        }
    }
}

impl fmt::Display for HeapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// Random id of a store. Its first half seeds the hashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub(crate) [u8; 16]);

impl StoreId {
    /// Returns the bytes as they are stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    pub(crate) fn seed(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// Hash of a page or of a block of the checksum tree. It is 0 only for zeros, which are not stored.
pub(crate) fn hash_page(seed: u64, page: &[u8]) -> u64 {
    debug_assert_eq!(page.len(), PAGE_BYTES);
    if is_zero(page) {
        return 0;
    }
    xxh3_64_with_seed(page, seed).max(1)
}

/// Returns whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    // Test 64 bytes at a time: most pages with data differ in the first ones.
    words
        .iter()
        .all(|words| words.iter().fold(0, |any, byte| any | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}
