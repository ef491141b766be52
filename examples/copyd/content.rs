//! The content that load writes: noise that is a function of the seed and the offset.

/// The length of a block; the last one may be shorter.
pub(crate) const BLOCK_BYTES: u32 = 16 << 10;

const WORD_BYTES: u64 = 8;

/// Fills `buf` with the content that starts at `offset`.
pub(crate) fn fill(seed: u64, offset: u64, buf: &mut [u8]) {
    let mut position = offset;
    let mut rest = buf;
    while !rest.is_empty() {
        let word = mix(mix(seed).wrapping_add(position / WORD_BYTES)).to_le_bytes();
        // Only the first word may start in its middle.
        let from = &word[(position % WORD_BYTES) as usize..];
        let (now, later) = rest.split_at_mut(from.len().min(rest.len()));
        now.copy_from_slice(&from[..now.len()]);
        position += now.len() as u64;
        rest = later;
    }
}

/// Offset and length of a block in content of `bytes` bytes.
pub(crate) fn block(number: u64, bytes: u64) -> (u64, u32) {
    let offset = number * u64::from(BLOCK_BYTES);
    let remaining = bytes.saturating_sub(offset);
    let len = u32::try_from(remaining).map_or(BLOCK_BYTES, |bytes| bytes.min(BLOCK_BYTES));
    (offset, len)
}

/// Pseudo-random numbers, reproducible from a seed.
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

    /// Removes a random element of a list.
    pub(crate) fn take<T>(&mut self, list: &mut Vec<T>) -> Option<T> {
        (!list.is_empty()).then(|| list.swap_remove(self.below(list.len())))
    }
}

/// The finalizer of `SplitMix64`: every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
