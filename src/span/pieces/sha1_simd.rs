//! SHA-1 (FIPS 180-4, section 6.1) of several streams of equal length, side by side.
//!
//! One SHA-1 stream is a chain of dependent steps that leaves most of a core idle. Independent
//! streams, such as the pieces of a torrent, use it fully. A vector register holds word `t` of
//! every stream, one per lane, and every step of the standard becomes one instruction for all
//! streams.
//!
//! The words arrive stream by stream, so each row of blocks is transposed first. The transposition
//! is distributed over the rounds of the row before it, where it overlaps their arithmetic.
//!
//! This module does no I/O and starts no threads. Streams of different length, or too few to fill
//! the lanes, are faster when they are hashed one by one.
//!
//! # Safety
//!
//! Three operations need `unsafe`:
//!
//! 1. Calling `Engine::compress`, which may be compiled for instructions that this CPU lacks. The
//!    only call follows a check by `Engine::detect`.
//! 2. Vector loads and stores through pointers. Each pointer comes from a reference to an array of
//!    exactly the vector's size. No alignment is required.
//! 3. Prefetching, which is a hint and accepts any address.
//!
//! Input may be mapped file memory. The code that created the slice guarantees that its bytes do
//! not change. If they do, the digest of that stream is wrong and the others are not affected.

#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls that need a CPU feature checked at run time"
)]

type Block = [u8; 64];

/// Word `r` of the hash value of lane `l` is at `[r][l]`: a row is one vector register.
type State = [[u32; LANES_MAX]; 5];

const LANES_MAX: usize = 16;

/// FIPS 180-4, section 5.3.1.
const INITIAL: [u32; 5] = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// Number of streams that the best engine of this CPU hashes side by side: 16 with AVX-512, 8 with
/// AVX2, otherwise 1.
#[cfg(feature = "rayon")]
pub(super) fn lanes() -> usize {
    Engine::best().lanes
}

/// Streams of equal length that are hashed side by side, in lock step.
#[derive(Debug)]
pub(super) struct Sha1Lanes {
    engine: &'static Engine,
    streams: usize,
    state: State,
    /// Bytes of each stream that were hashed.
    length_bytes: u64,
    /// Bytes after the last whole block of each stream, followed by zeros for the padding.
    tails: [[u8; 128]; LANES_MAX],
}

impl Sha1Lanes {
    /// Creates `streams` empty streams.
    ///
    /// # Panics
    ///
    /// Panics if `streams` is 0 or more than [`lanes()`].
    pub(super) fn new(streams: usize) -> Self {
        let best = Engine::best();
        assert!(
            (1..=best.lanes).contains(&streams),
            "{streams} streams in {} lanes",
            best.lanes
        );
        let engine = if streams < best.streams_min {
            &SERIAL
        } else {
            best
        };
        Self::with_engine(engine, streams).expect("detected above, or needs nothing")
    }

    /// `None` if this CPU lacks what `engine` needs.
    fn with_engine(engine: &'static Engine, streams: usize) -> Option<Self> {
        (engine.detect)().then(|| Self {
            engine,
            streams,
            state: INITIAL.map(|word| [word; LANES_MAX]),
            length_bytes: 0,
            tails: [[0; 128]; LANES_MAX],
        })
    }

    /// Hashes the next block of each stream. All blocks have the same length.
    ///
    /// # Panics
    ///
    /// - If the number of blocks differs from the number of streams, or their lengths differ.
    /// - If an earlier call had a length that is not a multiple of 64.
    pub(super) fn update(&mut self, blocks: &[&[u8]]) {
        assert_eq!(blocks.len(), self.streams, "one block for each stream");
        assert!(
            self.length_bytes.is_multiple_of(64),
            "update after a length that ends the streams"
        );
        let length_bytes = blocks[0].len();
        let mut whole: [&[Block]; LANES_MAX] = [&[]; LANES_MAX];
        for ((whole, tail), bytes) in whole.iter_mut().zip(&mut self.tails).zip(blocks) {
            assert_eq!(bytes.len(), length_bytes, "blocks of different length");
            let (chunks, rest) = bytes.as_chunks();
            *whole = chunks;
            tail[..rest.len()].copy_from_slice(rest);
        }
        self.length_bytes += length_bytes as u64;
        self.engine.run(&mut self.state, &whole[..self.streams]);
    }

    /// Returns the digest of each stream, in order.
    pub(super) fn finish(mut self) -> Vec<[u8; 20]> {
        // FIPS 180-4, section 5.1.1: a one bit, zeros, and the length in bits.
        let used = (self.length_bytes % 64) as usize;
        let padded = if used + 1 + 8 <= 64 { 64 } else { 128 };
        for tail in &mut self.tails {
            tail[used] = 0x80;
            tail[padded - 8..padded].copy_from_slice(&(self.length_bytes * 8).to_be_bytes());
        }
        let whole = self
            .tails
            .each_ref()
            .map(|tail| tail[..padded].as_chunks().0);
        self.engine.run(&mut self.state, &whole[..self.streams]);
        let digest = |lane: usize| {
            let mut digest = [0; 20];
            for (bytes, row) in digest.as_chunks_mut().0.iter_mut().zip(&self.state) {
                *bytes = row[lane].to_be_bytes();
            }
            digest
        };
        (0..self.streams).map(digest).collect()
    }
}

/// Implementation of the compression function, and its requirements.
#[derive(Debug)]
struct Engine {
    lanes: usize,
    /// Fewer streams than this are faster one by one (measured against SHA-NI).
    streams_min: usize,
    detect: fn() -> bool,
    /// Hashes as many blocks of each stream as the first stream has. Requires the features that
    /// `detect` checks.
    compress: unsafe fn(&mut State, &[&[Block]]),
}

/// Engines in descending order of preference. The last one runs on every CPU.
static ENGINES: &[Engine] = &[
    #[cfg(target_arch = "x86_64")]
    Engine {
        lanes: 16,
        streams_min: 4,
        detect: || is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
        compress: avx512::compress,
    },
    #[cfg(target_arch = "x86_64")]
    Engine {
        lanes: 8,
        streams_min: 5,
        detect: || is_x86_feature_detected!("avx2"),
        compress: avx2::compress,
    },
    SERIAL,
];

/// Hashes one stream after the other by the crate `sha1`.
const SERIAL: Engine = Engine {
    lanes: 1,
    streams_min: 1,
    detect: || true,
    compress: serial,
};

impl Engine {
    fn best() -> &'static Self {
        ENGINES
            .iter()
            .find(|engine| (engine.detect)())
            .expect("the last engine runs on every CPU")
    }

    fn run(&self, state: &mut State, streams: &[&[Block]]) {
        assert!((self.detect)());
        // SAFETY: `detect`, which names the features that `compress` of the same engine is compiled
        // for, has just returned `true`.
        unsafe { (self.compress)(state, streams) }
    }
}

fn serial(state: &mut State, streams: &[&[Block]]) {
    for (lane, blocks) in streams.iter().enumerate() {
        let mut chain = state.map(|row| row[lane]);
        sha1::block_api::compress(&mut chain, blocks);
        for (row, word) in state.iter_mut().zip(chain) {
            row[lane] = word;
        }
    }
}

/// The 80 rounds of FIPS 180-4, section 6.1.2, for a row of blocks, unrolled so that all words stay
/// in registers. `$next!($v, n)`, for `n` in `0..8`, follows every tenth round.
#[cfg(target_arch = "x86_64")]
macro_rules! rounds {
    ($v:ident, $w:ident, $next:ident) => {
        rounds!($v, $w, choose, 0x5a82_7999, 0 1 2 3 4 5 6 7 8 9);
        $next!($v, 0);
        rounds!($v, $w, choose, 0x5a82_7999, 10 11 12 13 14 15 16 17 18 19);
        $next!($v, 1);
        rounds!($v, $w, parity, 0x6ed9_eba1, 20 21 22 23 24 25 26 27 28 29);
        $next!($v, 2);
        rounds!($v, $w, parity, 0x6ed9_eba1, 30 31 32 33 34 35 36 37 38 39);
        $next!($v, 3);
        rounds!($v, $w, majority, 0x8f1b_bcdc, 40 41 42 43 44 45 46 47 48 49);
        $next!($v, 4);
        rounds!($v, $w, majority, 0x8f1b_bcdc, 50 51 52 53 54 55 56 57 58 59);
        $next!($v, 5);
        rounds!($v, $w, parity, 0xca62_c1d6, 60 61 62 63 64 65 66 67 68 69);
        $next!($v, 6);
        rounds!($v, $w, parity, 0xca62_c1d6, 70 71 72 73 74 75 76 77 78 79);
        $next!($v, 7);
    };
    ($v:ident, $w:ident, $f:ident, $k:literal, $($t:literal)*) => {$(
        if $t >= 16 {
            // The first operand is not used again: its register receives the result.
            let [w16, w14, w8, w3] = [0, 2, 8, 13].map(|i| $w[($t + i) % 16]);
            $w[$t % 16] = rol1(xor(parity(w16, w14, w8), w3));
        }
        let [a, b, c, d, e] = $v;
        let sum = add(add(e, add($w[$t % 16], splat($k))), $f(b, c, d));
        $v = [add(sum, rol5(a)), a, rol30(b), c, d];
    )*};
}

/// Engine of `$lanes` lanes in a vector type: its operations, compiled for `$features`, and
/// `compress`.
#[cfg(target_arch = "x86_64")]
macro_rules! engine {
    ($features:literal, $lanes:literal, $vector:ty;
     $(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        use super::{Block, State};
        use std::{arch::x86_64::*, array, hint::black_box};

        type V = $vector;
        const LANES: usize = $lanes;

        $(#[target_feature(enable = $features)]
        #[inline]
        fn $name($($arg: $type),*) $(-> $result)? $body)*

        /// Prefetches the data four blocks ahead. The hardware prefetcher alone costs a tenth of
        /// the throughput.
        #[inline]
        fn prefetch(bytes: &[u8]) {
            let later = bytes.as_ptr().wrapping_add(4 * size_of::<Block>());
            // SAFETY: a prefetch is a hint and never faults. The pointer, which may be past the end
            // of the stream, is not dereferenced.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(later.cast()) }
        }

        #[target_feature(enable = $features)]
        pub(super) fn compress(state: &mut State, streams: &[&[Block]]) {
            assert!((1..=LANES).contains(&streams.len()));
            let Some(last) = streams[0].len().checked_sub(1) else { return };
            // Lanes without a stream repeat the first stream.
            let lanes: [&[Block]; LANES] =
                array::from_fn(|lane| *streams.get(lane).unwrap_or(&streams[0]));

            let mut hash = [splat(0); 5];
            for (v, row) in hash.iter_mut().zip(state.iter()) {
                *v = load(row.first_chunk().expect("LANES <= LANES_MAX"));
            }
            let mut next = [splat(0); 16];
            for n in 0..4 {
                read_rows(&mut next, &lanes, 0, n);
            }
            for n in 0..4 {
                spread_columns(&mut next, n);
            }
            for i in 0..=last {
                let mut w = next;
                let ahead = last.min(i + 1);
                macro_rules! transpose_next {
                    ($v:ident, 4) => { spread_columns(&mut next, 0) };
                    ($v:ident, 5) => { spread_columns(&mut next, 1) };
                    ($v:ident, 6) => { spread_columns(&mut next, 2) };
                    ($v:ident, 7) => { spread_columns(&mut next, 3) };
                    ($v:ident, $n:literal) => {
                        read_rows(&mut next, &lanes, ahead, $n);
                        // Keeps the compiler from moving all of this after the last round.
                        black_box(&mut next);
                        $v[4] = black_box($v[4]);
                    };
                }
                let mut v = hash;
                rounds!(v, w, transpose_next);
                for (h, v) in hash.iter_mut().zip(v) {
                    *h = add(*h, v);
                }
            }
            for (row, v) in state.iter_mut().zip(hash) {
                store(row.first_chunk_mut().expect("LANES <= LANES_MAX"), v);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    engine! { "avx512f,avx512bw", 16, __m512i;
        fn splat(word: u32) -> V { _mm512_set1_epi32(word.cast_signed()) }
        fn add(x: V, y: V) -> V { _mm512_add_epi32(x, y) }
        fn xor(x: V, y: V) -> V { _mm512_xor_si512(x, y) }
        fn rol1(x: V) -> V { _mm512_rol_epi32::<1>(x) }
        fn rol5(x: V) -> V { _mm512_rol_epi32::<5>(x) }
        fn rol30(x: V) -> V { _mm512_rol_epi32::<30>(x) }
        // The constants are the truth tables of `x ? y : z`, `x ^ y ^ z` and the majority.
        fn choose(x: V, y: V, z: V) -> V { _mm512_ternarylogic_epi32::<0xca>(x, y, z) }
        fn parity(x: V, y: V, z: V) -> V { _mm512_ternarylogic_epi32::<0x96>(x, y, z) }
        fn majority(x: V, y: V, z: V) -> V { _mm512_ternarylogic_epi32::<0xe8>(x, y, z) }

        fn load(row: &[u32; LANES]) -> V {
            // SAFETY: the pointer is to 64 readable bytes; the load requires no alignment.
            unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
        }
        fn store(row: &mut [u32; LANES], x: V) {
            // SAFETY: the pointer is to 64 writable bytes; the store requires no alignment.
            unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), x) }
        }
        fn load_words(block: &Block) -> V {
            prefetch(block);
            // SAFETY: the pointer is to 64 readable bytes; the load requires no alignment.
            let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
            _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(swap))
        }

        // Transposition, first half: of lanes 4n to 4n + 3, quarter q of `w[4n + k]` gets word
        // 4q + k.
        fn read_rows(w: &mut [V; 16], lanes: &[&[Block]; LANES], at: usize, n: usize) {
            let r: [V; 4] = array::from_fn(|i| load_words(&lanes[4 * n + i][at]));
            let low01 = _mm512_unpacklo_epi32(r[0], r[1]);
            let high01 = _mm512_unpackhi_epi32(r[0], r[1]);
            let low23 = _mm512_unpacklo_epi32(r[2], r[3]);
            let high23 = _mm512_unpackhi_epi32(r[2], r[3]);
            w[4 * n] = _mm512_unpacklo_epi64(low01, low23);
            w[4 * n + 1] = _mm512_unpackhi_epi64(low01, low23);
            w[4 * n + 2] = _mm512_unpacklo_epi64(high01, high23);
            w[4 * n + 3] = _mm512_unpackhi_epi64(high01, high23);
        }
        // Second half: transposes the 4 x 4 quarters of every fourth vector.
        fn spread_columns(w: &mut [V; 16], n: usize) {
            let low01 = _mm512_shuffle_i32x4::<0x44>(w[n], w[n + 4]);
            let low23 = _mm512_shuffle_i32x4::<0x44>(w[n + 8], w[n + 12]);
            let high01 = _mm512_shuffle_i32x4::<0xee>(w[n], w[n + 4]);
            let high23 = _mm512_shuffle_i32x4::<0xee>(w[n + 8], w[n + 12]);
            w[n] = _mm512_shuffle_i32x4::<0x88>(low01, low23);
            w[n + 4] = _mm512_shuffle_i32x4::<0xdd>(low01, low23);
            w[n + 8] = _mm512_shuffle_i32x4::<0x88>(high01, high23);
            w[n + 12] = _mm512_shuffle_i32x4::<0xdd>(high01, high23);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    engine! { "avx2", 8, __m256i;
        fn splat(word: u32) -> V { _mm256_set1_epi32(word.cast_signed()) }
        fn add(x: V, y: V) -> V { _mm256_add_epi32(x, y) }
        fn xor(x: V, y: V) -> V { _mm256_xor_si256(x, y) }
        fn and(x: V, y: V) -> V { _mm256_and_si256(x, y) }
        fn or(x: V, y: V) -> V { _mm256_or_si256(x, y) }
        fn rol1(x: V) -> V { or(_mm256_slli_epi32::<1>(x), _mm256_srli_epi32::<31>(x)) }
        fn rol5(x: V) -> V { or(_mm256_slli_epi32::<5>(x), _mm256_srli_epi32::<27>(x)) }
        fn rol30(x: V) -> V { or(_mm256_slli_epi32::<30>(x), _mm256_srli_epi32::<2>(x)) }
        fn choose(x: V, y: V, z: V) -> V { xor(and(x, xor(y, z)), z) }
        fn parity(x: V, y: V, z: V) -> V { xor(xor(x, y), z) }
        fn majority(x: V, y: V, z: V) -> V { or(and(x, y), and(or(x, y), z)) }

        fn load(row: &[u32; LANES]) -> V {
            // SAFETY: the pointer is to 32 readable bytes; the load requires no alignment.
            unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
        }
        fn store(row: &mut [u32; LANES], x: V) {
            // SAFETY: the pointer is to 32 writable bytes; the store requires no alignment.
            unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), x) }
        }
        fn load_words(half: &[u8; 32]) -> V {
            prefetch(half);
            // SAFETY: the pointer is to 32 readable bytes; the load requires no alignment.
            let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
            let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
            _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(swap))
        }

        // Transposition, first half: quarter n is half h of the blocks of lanes 4g to 4g + 3; half
        // q of `w[4n + k]` gets word 8h + 4q + k.
        fn read_rows(w: &mut [V; 16], lanes: &[&[Block]; LANES], at: usize, n: usize) {
            let (h, g) = (n / 2, n % 2);
            let r: [V; 4] = array::from_fn(|i| load_words(&lanes[4 * g + i][at].as_chunks().0[h]));
            let low01 = _mm256_unpacklo_epi32(r[0], r[1]);
            let high01 = _mm256_unpackhi_epi32(r[0], r[1]);
            let low23 = _mm256_unpacklo_epi32(r[2], r[3]);
            let high23 = _mm256_unpackhi_epi32(r[2], r[3]);
            w[4 * n] = _mm256_unpacklo_epi64(low01, low23);
            w[4 * n + 1] = _mm256_unpackhi_epi64(low01, low23);
            w[4 * n + 2] = _mm256_unpacklo_epi64(high01, high23);
            w[4 * n + 3] = _mm256_unpackhi_epi64(high01, high23);
        }
        // Second half: transposes the 2 x 2 halves of every fourth vector.
        fn spread_columns(w: &mut [V; 16], n: usize) {
            for (x, y) in [(n, n + 4), (n + 8, n + 12)] {
                let (low, high) = (w[x], w[y]);
                w[x] = _mm256_permute2x128_si256::<0x20>(low, high);
                w[y] = _mm256_permute2x128_si256::<0x31>(low, high);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1::{Digest as _, Sha1};

    /// Every engine that this CPU supports, with every number of streams that it accepts.
    fn cases() -> impl Iterator<Item = (&'static Engine, usize)> {
        let supported = ENGINES.iter().filter(|engine| (engine.detect)());
        supported.flat_map(|engine| {
            let most = if engine.lanes == 1 {
                LANES_MAX
            } else {
                engine.lanes
            };
            (1..=most).map(move |streams| (engine, streams))
        })
    }

    fn digests(engine: &'static Engine, parts: &[&[&[u8]]]) -> Vec<[u8; 20]> {
        let mut lanes = Sha1Lanes::with_engine(engine, parts[0].len()).expect("detected");
        for part in parts {
            lanes.update(part);
        }
        lanes.finish()
    }

    fn expected(messages: &[&[u8]]) -> Vec<[u8; 20]> {
        messages
            .iter()
            .map(|message| Sha1::digest(message).into())
            .collect()
    }

    /// Bytes whose period is no multiple of lanes, words or blocks.
    fn noise(length_bytes: usize) -> Vec<u8> {
        let mut x = 1_u32;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        (0..length_bytes).map(|_| next()).collect()
    }

    #[test]
    fn digests_equal_the_published_vectors() {
        let million = vec![b'a'; 1_000_000];
        let vectors: [(&[u8], &str); 4] = [
            (b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            (b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            ),
            (&million, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
        ];
        for (engine, streams) in cases() {
            for (message, hex) in vectors {
                for digest in digests(engine, &[&vec![message; streams]]) {
                    let got: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(got, hex, "{engine:?}, {streams} streams");
                }
            }
        }
    }

    #[test]
    fn every_length_is_padded_correctly() {
        let data = noise(16 * 70_001);
        for (engine, streams) in cases() {
            for length in (0..=300).chain([4096, 16_384, 65_535, 70_000]) {
                let messages: Vec<_> = data
                    .chunks(length + 1)
                    .map(|chunk| &chunk[1..])
                    .take(streams)
                    .collect();
                let got = digests(engine, &[&messages]);
                assert_eq!(
                    got,
                    expected(&messages),
                    "{engine:?}, {streams} of {length} bytes"
                );
            }
        }
    }

    #[test]
    fn new_accepts_every_number_of_streams() {
        let data = noise(16 * 100);
        for streams in 1..=lanes() {
            let messages: Vec<_> = data.chunks(100).take(streams).collect();
            let mut hashed = Sha1Lanes::new(streams);
            hashed.update(&messages);
            assert_eq!(hashed.finish(), expected(&messages));
        }
    }

    #[test]
    #[should_panic(expected = "blocks of different length")]
    fn update_refuses_uneven_blocks() {
        Sha1Lanes::with_engine(&SERIAL, 2)
            .unwrap()
            .update(&[&[0; 64], &[0; 128]]);
    }

    #[test]
    #[should_panic(expected = "update after a length that ends the streams")]
    fn update_refuses_more_after_a_partial_block() {
        let mut lanes = Sha1Lanes::new(1);
        lanes.update(&[&[0; 65]]);
        lanes.update(&[&[0; 64]]);
    }

    proptest! {
        #[test]
        fn any_split_and_alignment_gives_the_same_digest(
            offsets in prop::collection::vec(0..4096_usize, LANES_MAX),
            steps in prop::collection::vec(0..20_usize, 0..6),
            rest in 0..200_usize,
        ) {
            let data = noise(16_384);
            let streams: Vec<_> = offsets.iter().map(|&offset| &data[offset..]).collect();
            for (engine, count) in cases() {
                let mut lanes = Sha1Lanes::with_engine(engine, count).expect("detected");
                let mut at = 0;
                for length in steps.iter().map(|blocks| blocks * 64).chain([rest]) {
                    let parts: Vec<_> = streams[..count].iter().map(|s| &s[at..at + length]).collect();
                    lanes.update(&parts);
                    at += length;
                }
                let whole: Vec<_> = streams[..count].iter().map(|s| &s[..at]).collect();
                prop_assert_eq!(lanes.finish(), expected(&whole), "{:?}, {} streams", engine, count);
            }
        }
    }
}
