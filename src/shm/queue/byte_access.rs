//! Bytes of any offset and length in an array of atomic words.

use std::sync::atomic::{AtomicU64, Ordering};

const WORD_BYTES: usize = 8;

/// Copies bytes of the words, from byte `at` on, to `buf`.
pub(super) fn read_bytes(words: &[AtomicU64], at: usize, buf: &mut [u8]) {
    let word = |index: usize| words[index].load(Ordering::Relaxed).to_le_bytes();
    let (mut index, skip) = (at / WORD_BYTES, at % WORD_BYTES);
    let first = buf.len().min((WORD_BYTES - skip) % WORD_BYTES);
    let (head, rest) = buf.split_at_mut(first);
    if !head.is_empty() {
        head.copy_from_slice(&word(index)[skip..skip + head.len()]);
        index += 1;
    }
    let (whole, last) = rest.as_chunks_mut::<WORD_BYTES>();
    for (to, from) in whole.iter_mut().zip(&words[index..]) {
        *to = from.load(Ordering::Relaxed).to_le_bytes();
    }
    if !last.is_empty() {
        let bytes = word(index + whole.len());
        last.copy_from_slice(&bytes[..last.len()]);
    }
}

/// Copies bytes into the words, from byte `at` on.
///
/// The other bytes of the first and last word keep their value. No other thread may write these
/// words at the same time.
pub(super) fn write_bytes(words: &[AtomicU64], at: usize, bytes: &[u8]) {
    let change = |index: usize, skip: usize, part: &[u8]| {
        let mut word = words[index].load(Ordering::Relaxed).to_le_bytes();
        word[skip..skip + part.len()].copy_from_slice(part);
        words[index].store(u64::from_le_bytes(word), Ordering::Relaxed);
    };
    let (mut index, skip) = (at / WORD_BYTES, at % WORD_BYTES);
    let first = bytes.len().min((WORD_BYTES - skip) % WORD_BYTES);
    let (head, rest) = bytes.split_at(first);
    if !head.is_empty() {
        change(index, skip, head);
        index += 1;
    }
    let (whole, last) = rest.as_chunks::<WORD_BYTES>();
    for (to, from) in words[index..].iter().zip(whole) {
        to.store(u64::from_le_bytes(*from), Ordering::Relaxed);
    }
    if !last.is_empty() {
        change(index + whole.len(), 0, last);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_offset_and_length_reads_back() {
        for at in 0..20 {
            for len in 0..40 {
                let words: Vec<_> = (0..8).map(|_| AtomicU64::new(u64::MAX)).collect();
                let mut model = [0xff; 64];
                let bytes: Vec<u8> = (1..=len as u8).collect();
                write_bytes(&words, at, &bytes);
                model[at..at + len].copy_from_slice(&bytes);
                let mut all = [0; 64];
                read_bytes(&words, 0, &mut all);
                assert_eq!(all, model, "{at} {len}");
                let mut back = vec![0; len];
                read_bytes(&words, at, &mut back);
                assert_eq!(back, bytes, "{at} {len}");
            }
        }
    }
}
