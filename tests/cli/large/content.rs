//! Content of a page: its number, the round that wrote it last, and noise derived from both.

use std::io::{self, Write};

use sha1::{Digest as _, Sha1};

use crate::fixture::PAGE;

/// The round that writes all pages.
const FIRST: u64 = 1;
/// Later rounds write one page of this many.
const SHARE: u64 = 100;

/// Returns whether this round writes the page. Page 0 names the round, so every round writes it.
pub(crate) fn is_written(page: u64, round: u64) -> bool {
    round == FIRST || page == 0 || mix(page ^ round << 40).is_multiple_of(SHARE)
}

/// The round, up to this one, that wrote a page last.
fn last_round(page: u64, round: u64) -> u64 {
    let mut rounds = (FIRST..=round).rev();
    rounds
        .find(|round| is_written(page, *round))
        .unwrap_or(FIRST)
}

/// Fills `buf`, whole pages from page `first` on, with the content of a round.
pub(crate) fn fill(buf: &mut [u8], first: u64, round: u64) {
    for (page, bytes) in (first..).zip(buf.chunks_exact_mut(PAGE as usize)) {
        let (words, _) = bytes.as_chunks_mut::<8>();
        let noise = (2..).map(|word| mix(page << 24 ^ round << 10 ^ word));
        for (place, word) in words.iter_mut().zip([page, round].into_iter().chain(noise)) {
            *place = word.to_le_bytes();
        }
    }
}

/// The round that a page names.
pub(crate) fn round_of(page: &[u8]) -> u64 {
    let (words, _) = page.as_chunks::<8>();
    u64::from_le_bytes(words[1])
}

/// Compares whole pages, from page `first` on, with the expected content after a round. `scratch`
/// has the length of one page.
pub(crate) fn compare(buf: &[u8], first: u64, round: u64, scratch: &mut [u8]) {
    for (page, bytes) in (first..).zip(buf.chunks_exact(PAGE as usize)) {
        let expected = last_round(page, round);
        fill(scratch, page, expected);
        assert!(
            bytes == scratch,
            "page {page} is not as round {expected} wrote it; it names page {} and round {}",
            u64::from_le_bytes(bytes.as_chunks::<8>().0[0]),
            round_of(bytes)
        );
    }
}

/// Computes the SHA-1 of the bytes written to it.
#[derive(Default)]
pub(crate) struct Hashing(Sha1);

impl Hashing {
    pub(crate) fn finish(self) -> String {
        let digest = self.0.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The function splitmix64.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
