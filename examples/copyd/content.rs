//! What load puts where: noise that is a function of a seed and the place.

/// The length of a block; the last one may be shorter.
pub(crate) const BLOCK_BYTES: u32 = 16 << 10;

const WORD_BYTES: u64 = 8;

/// Fills `buf` with the content from `offset` on.
pub(crate) fn fill(seed: u64, offset: u64, buf: &mut [u8]) {
    let mut at = offset;
    let mut rest = buf;
    while !rest.is_empty() {
        let word = mix(mix(seed).wrapping_add(at / WORD_BYTES)).to_le_bytes();
        // Only the first word may begin in its middle.
        let from = &word[(at % WORD_BYTES) as usize..];
        let (now, later) = rest.split_at_mut(from.len().min(rest.len()));
        now.copy_from_slice(&from[..now.len()]);
        at += now.len() as u64;
        rest = later;
    }
}

/// Where a block lies in content of so many bytes.
pub(crate) fn block(number: u64, bytes: u64) -> (u64, u32) {
    let offset = number * u64::from(BLOCK_BYTES);
    let left = bytes.saturating_sub(offset);
    let len = u32::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
    (offset, len)
}

/// Random numbers, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        // Lossless: less than `end`.
        (mix(self.0) % end as u64) as usize
    }

    /// Takes any one out of a list.
    pub(crate) fn take<T>(&mut self, list: &mut Vec<T>) -> Option<T> {
        (!list.is_empty()).then(|| list.swap_remove(self.below(list.len())))
    }
}

/// `SplitMix64`'s finish: all bits of the outcome depend on all bits of `x`.
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
