//! Checkpoints compared with the raw writes that they require, the pause of writers, and journal
//! commits.

mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use flatspan::snapshot::{
    CheckpointKind, CheckpointReport, Store, StoreError, StoreOptions, WriteMode,
};
use support::{median, random};
use tempfile::TempDir;

const PAGE_BYTES: u64 = 4096;
const SHARES: [(&str, u64); 4] = [("0.1", 1000), ("1", 100), ("10", 10), ("100", 1)];

fn region_bytes() -> u64 {
    match std::env::var("FLATSPAN_BENCH_BYTES") {
        Ok(text) => text.parse().expect("FLATSPAN_BENCH_BYTES is a number"),
        Err(_) => 1 << 30,
    }
}

fn options() -> StoreOptions {
    StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .reserve_bytes(2 * region_bytes())
        .initial_bytes(region_bytes())
        .journal_bytes_max(u64::MAX)
}

/// Returns a store in which all pages differ and none is zero.
fn filled(path: &Path, options: StoreOptions) -> Store {
    let store = Store::open(path, options).expect("a store");
    dirty(
        &store,
        &(0..region_bytes() / PAGE_BYTES).collect::<Vec<_>>(),
        1,
    );
    for _ in 0..2 {
        dirty(&store, &[0], 2);
        store.checkpoint_base().expect("a checkpoint");
    }
    store
}

#[expect(unsafe_code, reason = "stores to memory as in a program")]
fn dirty(store: &Store, pages: &[u64], value: u64) {
    let inside = store.write_guard().expect("access lock is free");
    let start = inside.as_ptr();
    for page in pages {
        let offset = (page * PAGE_BYTES) as usize;
        // SAFETY: the page is within the region.
        let at = unsafe { start.add(offset) }.cast::<[u64; 2]>();
        // SAFETY: the words are within the page, and this thread is the only writer.
        unsafe { at.write([*page + 1, value]) };
    }
}

fn pick(state: &mut u64, count: u64) -> Vec<u64> {
    let all = region_bytes() / PAGE_BYTES;
    if count == all {
        return (0..all).collect();
    }
    let mut pages: Vec<_> = (0..count).map(|_| random(state) % all).collect();
    pages.sort_unstable();
    pages.dedup();
    pages
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / times.len() as u32
}

/// Two files that are written alternately, as the two heaps are.
struct Raw {
    files: [File; 2],
    last: Vec<u64>,
    turn: usize,
    log: File,
    log_end: u64,
}

impl Raw {
    fn new(dir: &Path) -> Self {
        let open = |name: &str| {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            options.open(dir.join(name)).expect("a file")
        };
        let files = ["raw-a", "raw-b"].map(open);
        let block = vec![7; 1 << 20];
        for file in &files {
            for at in (0..region_bytes()).step_by(block.len()) {
                file.write_all_at(&block, at).expect("write succeeds");
            }
            file.sync_all().expect("synced");
        }
        Self {
            files,
            last: Vec::new(),
            turn: 0,
            log: open("raw-log"),
            log_end: 0,
        }
    }

    /// Writes the pages of this interval and of the last one, adjacent pages together.
    fn union(&mut self, pages: &[u64], memory: &[u8]) -> Duration {
        let mut both: Vec<_> = self.last.iter().chain(pages).copied().collect();
        both.sort_unstable();
        both.dedup();
        self.last = pages.to_vec();
        self.turn ^= 1;
        let file = &self.files[self.turn];
        let begun = Instant::now();
        let mut index = 0;
        while index < both.len() {
            let mut end = index + 1;
            while end < both.len() && both[end] == both[end - 1] + 1 && end - index < 256 {
                end += 1;
            }
            let (from, to) = (both[index] * PAGE_BYTES, (both[end - 1] + 1) * PAGE_BYTES);
            file.write_all_at(&memory[from as usize..to as usize], from)
                .expect("write succeeds");
            index = end;
        }
        file.sync_data().expect("synced");
        begun.elapsed()
    }

    fn whole(&mut self, memory: &[u8]) -> Duration {
        self.turn ^= 1;
        let file = &self.files[self.turn];
        let begun = Instant::now();
        for (index, block) in memory.chunks(1 << 20).enumerate() {
            file.write_all_at(block, (index as u64) << 20)
                .expect("write succeeds");
        }
        file.sync_data().expect("synced");
        begun.elapsed()
    }

    /// Appends `bytes` bytes sequentially to the end of a log.
    fn append(&mut self, bytes: u64, memory: &[u8]) -> Duration {
        let begun = Instant::now();
        let mut left = bytes;
        while left > 0 {
            let part = left.min(1 << 20);
            self.log
                .write_all_at(&memory[..part as usize], self.log_end)
                .expect("write succeeds");
            self.log_end += part;
            left -= part;
        }
        self.log.sync_data().expect("synced");
        begun.elapsed()
    }
}

/// Returns whether `FLATSPAN_BENCH_ONLY` selects this part.
fn wanted(part: &str) -> bool {
    std::env::var("FLATSPAN_BENCH_ONLY").map_or(true, |only| only == part)
}

fn rounds() -> u32 {
    std::env::var("FLATSPAN_BENCH_ROUNDS").map_or(9, |text| text.parse().expect("a number"))
}

fn checkpoints(_: &mut Criterion) {
    if !wanted("checkpoints") {
        return;
    }
    let dir = TempDir::with_prefix("flatspan-bench-").expect("a directory");
    let memory = vec![9; region_bytes() as usize];
    let mut raw = Raw::new(dir.path());
    let store = filled(&dir.path().join("store"), options());
    let mut state = 5;
    for (share, one_in) in SHARES {
        let count = region_bytes() / PAGE_BYTES / one_in;
        for kind in [CheckpointKind::Delta, CheckpointKind::Base] {
            if kind == CheckpointKind::Delta && one_in == 1 {
                continue;
            }
            let mut times = [Vec::new(), Vec::new(), Vec::new()];
            let mut pauses = Vec::new();
            let mut last: Option<CheckpointReport> = None;
            // The first two intervals are warm-up.
            for round in 0..rounds() + 2 {
                let pages = pick(&mut state, count);
                dirty(&store, &pages, u64::from(round) + 10);
                let begun = Instant::now();
                let report = match kind {
                    CheckpointKind::Delta => store.checkpoint_delta(),
                    _ => store.checkpoint_base(),
                };
                let report = report.expect("a checkpoint");
                let took = begun.elapsed();
                let theirs = match kind {
                    CheckpointKind::Delta => {
                        [raw.append(report.written_bytes, &memory), Duration::ZERO]
                    }
                    _ => [raw.union(&pages, &memory), raw.whole(&memory)],
                };
                if round >= 2 {
                    times[0].push(took);
                    times[1].push(theirs[0]);
                    times[2].push(theirs[1]);
                    pauses.push(report.pause_duration);
                }
                last = Some(report);
            }
            let report = last.expect("at least one");
            let [ours, first, second] = times.map(median);
            let against = match kind {
                CheckpointKind::Delta => format!("append and fdatasync {first:.1?}"),
                _ => format!("union {first:.1?}, whole {second:.1?}"),
            };
            let best = match kind {
                CheckpointKind::Delta => first,
                _ => first.min(second),
            };
            println!(
                "RATIO {kind:?} checkpoint, {share} %: {:.2} times the raw writes (ours {ours:.1?}; {against}; {} pages, {} MB, pause {:.2?}, {} barriers)",
                ours.as_secs_f64() / best.as_secs_f64(),
                report.written_pages,
                report.written_bytes >> 20,
                median(pauses),
                report.syncs,
            );
            if kind == CheckpointKind::Delta {
                store.checkpoint_base().expect("a checkpoint");
            }
        }
    }
    drop(store);
}

/// Measures consecutive checkpoints whose kind the store selects, as a program sees them.
fn in_a_row(_: &mut Criterion) {
    if !wanted("in_a_row") {
        return;
    }
    let dir = TempDir::with_prefix("flatspan-bench-").expect("a directory");
    let path = dir.path().join("store");
    let limited = || {
        StoreOptions::default()
            .write_mode(WriteMode::Tracked)
            .reserve_bytes(2 * region_bytes())
            .initial_bytes(region_bytes())
    };
    let mut store = filled(&path, limited());
    let mut state = 5;
    for (share, one_in) in SHARES {
        let count = region_bytes() / PAGE_BYTES / one_in;
        let (mut times, mut bases, mut bytes) = (Vec::new(), 0, 0);
        let rounds = 32;
        for round in 0..rounds {
            let pages = pick(&mut state, count);
            dirty(&store, &pages, round + 10);
            let begun = Instant::now();
            let report = store.checkpoint().expect("a checkpoint");
            times.push(begun.elapsed());
            bases += u64::from(report.kind == CheckpointKind::Base);
            bytes += report.written_bytes;
        }
        let journal: u64 = std::fs::read_dir(&path)
            .expect("the store")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("journal"))
            .filter_map(|entry| entry.metadata().ok())
            .map(|metadata| metadata.len())
            .sum();
        drop(store);
        store = Store::open(&path, limited()).expect("restored");
        println!(
            "MEAN of {rounds} checkpoints in a row, {share} %: {:.1?} (median {:.1?}, {bases} bases, {} MB each; journal {} MB, recovery {:.1?})",
            mean(&times),
            median(times),
            (bytes / rounds) >> 20,
            journal >> 20,
            store.open_report().duration,
        );
    }
}

/// Measures the pause of writers that change 2,600 pages per 100 ms while checkpoints run.
fn pause(_: &mut Criterion) {
    if !wanted("pause") {
        return;
    }
    let dir = TempDir::with_prefix("flatspan-bench-").expect("a directory");
    let store = filled(&dir.path().join("store"), options());
    let end = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 11;
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                // 26 pages per millisecond.
                let pages: Vec<_> = (0..26)
                    .map(|_| random(&mut state) % (region_bytes() / PAGE_BYTES))
                    .collect();
                dirty(&store, &pages, state);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let mut state = 3;
        for kind in [CheckpointKind::Delta, CheckpointKind::Base] {
            let mut pauses = Vec::new();
            for round in 0..31 {
                let pages = pick(&mut state, region_bytes() / PAGE_BYTES / 100);
                dirty(&store, &pages, round);
                let report = match kind {
                    CheckpointKind::Delta => store.checkpoint_delta(),
                    _ => store.checkpoint_base(),
                };
                pauses.push(report.expect("a checkpoint").pause_duration);
            }
            pauses.sort_unstable();
            println!(
                "PAUSE of writers, {kind:?}, 1 % and a writer running: median {:.2?}, 90 % {:.2?}, most {:.2?}",
                pauses[15], pauses[27], pauses[30]
            );
        }
        end.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

fn journal(_: &mut Criterion) {
    const BYTES: usize = 200;
    if !wanted("journal") {
        return;
    }
    let dir = TempDir::with_prefix("flatspan-bench-").expect("a directory");
    let options = StoreOptions::default().initial_bytes(1 << 20);
    let store = Store::open(dir.path().join("store"), options).expect("a store");
    let log = File::create(dir.path().join("log")).expect("a file");
    let mut end = 0;
    let commit = |at: u64| -> Result<(), StoreError> {
        store.transaction(|tx| tx.write_at(at % (1 << 19), &[at as u8; BYTES]))
    };
    let record = vec![7; BYTES + 96];
    support::compare(
        "100 journal commits, one thread, against write and fdatasync of as many bytes",
        15,
        || {
            for at in 0..100 {
                commit(at).expect("durable");
            }
        },
        || {
            for _ in 0..100 {
                log.write_all_at(&record, end).expect("write succeeds");
                end += record.len() as u64;
                log.sync_data().expect("synced");
            }
        },
    );
    for threads in [1, 2, 4, 8, 16] {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for at in 0..200 {
                        commit(thread * 1000 + at).expect("durable");
                    }
                });
            }
        });
        println!(
            "RATE of commits, {threads} threads: {:.0} a second",
            (threads * 200) as f64 / begun.elapsed().as_secs_f64()
        );
    }
}

/// Shows that opening by map does not depend on the size.
#[expect(unsafe_code, reason = "no other process uses the files")]
fn restore(_: &mut Criterion) {
    if !wanted("restore") {
        return;
    }
    let large: u64 = match std::env::var("FLATSPAN_BENCH_RESTORE_BYTES") {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => 10 << 30,
    };
    let mut times = Vec::new();
    for bytes in [10 << 20, large] {
        let dir = TempDir::with_prefix("flatspan-bench-").expect("a directory");
        let path = dir.path().join("store");
        let options = || {
            StoreOptions::default()
                .write_mode(WriteMode::Tracked)
                .initial_bytes(bytes)
        };
        let store = Store::open(&path, options()).expect("a store");
        dirty(&store, &(0..bytes / PAGE_BYTES).collect::<Vec<_>>(), 3);
        store.close().expect("closed");
        let mut took = Vec::new();
        for _ in 0..9 {
            // A transactional store arms no tracker, which would cost 4 ms per GiB.
            let options = options().write_mode(WriteMode::Transactions);
            // SAFETY: the directory belongs to this process.
            let options = unsafe { options.restore_by_map() };
            let begun = Instant::now();
            let store = Store::open(&path, options).expect("restored");
            took.push(begun.elapsed());
            assert!(store.open_report().clean_shutdown);
            store.close().expect("closed");
        }
        times.push(median(took));
    }
    println!(
        "RATIO restore by map, {} GiB against 10 MiB: {:.2} times as long ({:.2?} against {:.2?})",
        large >> 30,
        times[1].as_secs_f64() / times[0].as_secs_f64(),
        times[1],
        times[0]
    );
}

criterion_group!(benches, checkpoints, in_a_row, pause, journal, restore);
criterion_main!(benches);
