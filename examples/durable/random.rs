//! Random words as a pure function of a seed (SplitMix64): a child can compute what an earlier
//! child did.

use std::ops::Range;

#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator; each list of words selects a different sequence.
    pub(crate) fn of(words: &[u64]) -> Self {
        let mut random = Self(0);
        for word in words {
            random.0 = random.word() ^ word;
        }
        random
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Returns a number of a range. The bias of small ranges does not matter here.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.word() % (range.end - range.start)
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.word().is_multiple_of(times)
    }
}
