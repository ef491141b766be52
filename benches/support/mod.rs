//! Shared parts of the benchmarks: test files, and a comparison that prints a ratio.
//!
//! Machines are noisy. So both sides run alternately within one process, and the ratio of the
//! medians is printed next to criterion's own figures.

#![allow(dead_code, reason = "each benchmark uses a part of the module")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Files of pseudo-random bytes.
#[derive(Debug)]
pub(crate) struct Files {
    dir: TempDir,
    pub(crate) count: usize,
    pub(crate) file_bytes: u64,
}

impl Files {
    /// Creates files of `file_bytes` bytes, with a total of `FLATSPAN_BENCH_BYTES` (defaults to 1
    /// GiB).
    pub(crate) fn new(file_bytes: u64) -> Self {
        let total: u64 = match std::env::var("FLATSPAN_BENCH_BYTES") {
            Ok(text) => text.parse().expect("FLATSPAN_BENCH_BYTES is a number"),
            Err(_) => 1 << 30,
        };
        let files = Self {
            dir: TempDir::with_prefix("flatspan-bench-").expect("a temporary directory"),
            count: usize::try_from((total / file_bytes).max(1)).expect("that many files"),
            file_bytes,
        };
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut block = vec![0u8; 1 << 20];
        for index in 0..files.count {
            let mut file = File::create(files.path().join(name(index))).expect("a file");
            let mut left = file_bytes;
            while left > 0 {
                for word in block.chunks_exact_mut(8) {
                    word.copy_from_slice(&random(&mut state).to_le_bytes());
                }
                let part = block
                    .len()
                    .min(usize::try_from(left).unwrap_or(block.len()));
                file.write_all(&block[..part]).expect("disk has space");
                left -= part as u64;
            }
        }
        files
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn len(&self) -> u64 {
        self.file_bytes * self.count as u64
    }

    pub(crate) fn open_all(&self) -> Vec<File> {
        let paths = (0..self.count).map(|index| self.path().join(name(index)));
        paths
            .map(|path| File::open(path).expect("file was written before"))
            .collect()
    }
}

pub(crate) fn name(index: usize) -> String {
    format!("file-{index:05}")
}

/// Returns the next number of a xorshift generator: fast and reproducible.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Runs `ours` and `theirs` alternately and prints how much faster `ours` is (1.00: equally fast).
pub(crate) fn compare(
    what: &str,
    rounds: usize,
    mut ours: impl FnMut(),
    mut theirs: impl FnMut(),
) -> f64 {
    let timed = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    ours();
    theirs();
    let mut times: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        times[0].push(timed(&mut ours));
        times[1].push(timed(&mut theirs));
    }
    let [ours, theirs] = times.map(median);
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("RATIO {what}: {ratio:.2} (ours {ours:.1?}, theirs {theirs:.1?}, {rounds} rounds)");
    ratio
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
