//! Cost of a commit for the client, throughput of the host, and pause of a frozen program during a
//! snapshot.
//!
//! `FLATSPAN_BENCH_BYTES` is the length of the state. Defaults to 1 GiB.

mod support;

use std::hint::black_box;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use flatspan::shm::queue::{Client, QueueHost, QueueHostOptions, QueueOptions, SnapshotOutcome};
use flatspan::shm::{Freezer, Memfd, TransparentHost, TransparentHostOptions};
use flatspan::snapshot::StoreOptions;
use support::{median, random};
use tempfile::TempDir;

const PAGE_BYTES: u64 = 4096;

fn state_bytes() -> u64 {
    match std::env::var("FLATSPAN_BENCH_BYTES") {
        Ok(text) => text.parse().expect("FLATSPAN_BENCH_BYTES is a number"),
        Err(_) => 1 << 30,
    }
}

fn fd(file: &Memfd) -> OwnedFd {
    file.as_fd().try_clone_to_owned().expect("a descriptor")
}

/// Changes 64 bytes of each of `pages` random pages.
fn commit(writer: &mut Client, pages: u64, state: &mut u64) {
    let all = state_bytes() / PAGE_BYTES;
    let committed = writer.commit(|commit| {
        for _ in 0..pages {
            let value = random(state);
            let offset = value % all * PAGE_BYTES + value % 63 * 64;
            commit.write(offset, &[value as u8; 64])?;
        }
        Ok(())
    });
    committed.expect("a commit");
}

fn filled(file: &Memfd) -> Client {
    let mut writer = Client::open(fd(file), QueueOptions::new(state_bytes())).expect("a writer");
    let block = vec![7; 1 << 20];
    for _ in 0..4 {
        let committed = writer.commit(|commit| {
            for at in (0..state_bytes()).step_by(block.len()) {
                commit.write(at, &block)?;
            }
            Ok(())
        });
        committed.expect("a commit");
    }
    // Repeats until every buffer has caught up.
    for _ in 0..4 {
        commit(&mut writer, 1, &mut 9);
    }
    writer
}

/// Compares commits with plain stores to private memory.
fn commits(_: &mut Criterion) {
    let file = Memfd::create("flatspan-bench", 0).expect("a memfd");
    let mut writer = filled(&file);
    let mut plain = vec![7_u8; state_bytes() as usize];
    let mut state = 5;
    for (share, one_in) in [("0.1", 1000), ("1", 100), ("10", 10)] {
        let pages = state_bytes() / PAGE_BYTES / one_in;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            let begun = Instant::now();
            commit(&mut writer, pages, &mut state);
            ours.push(begun.elapsed());
            let begun = Instant::now();
            for _ in 0..pages {
                let value = random(&mut state);
                let all = state_bytes() / PAGE_BYTES;
                let offset = (value % all * PAGE_BYTES + value % 63 * 64) as usize;
                plain[offset..offset + 64].fill(value as u8);
            }
            black_box(&mut plain);
            theirs.push(begun.elapsed());
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "COST of a commit, {share} % of {} MiB ({pages} pages): {ours:.2?}, {:.0} ns a page; the stores alone {theirs:.2?}",
            state_bytes() >> 20,
            ours.as_nanos() as f64 / pages as f64,
        );
    }
}

/// Measures a host beside a client that changes 1 % of its pages per second, in steps.
fn keeping_up(_: &mut Criterion) {
    const SECONDS: u64 = 10;
    let dir = TempDir::with_prefix("flatspan-bench-").expect("a directory");
    let file = Memfd::create("flatspan-bench", 0).expect("a memfd");
    let options = QueueHostOptions::default()
        .store_options(StoreOptions::default().reserve_bytes(2 * state_bytes() + (1 << 30)));
    let mut host = QueueHost::open(dir.path().join("store"), fd(&file), options).expect("a host");
    let mut writer = filled(&file);
    host.snapshot().expect("the first");
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut state = 11;
            let (mut commits, mut longest) = (0_u64, Duration::ZERO);
            while !end.load(Ordering::Relaxed) {
                let begun = Instant::now();
                commit(&mut writer, state_bytes() / PAGE_BYTES / 10_000, &mut state);
                longest = longest.max(begun.elapsed());
                commits += 1;
                std::thread::sleep(Duration::from_millis(10).saturating_sub(begun.elapsed()));
            }
            (commits, longest)
        });
        let (mut taken, mut bytes, mut pages, mut torn, mut starved) = (0_u64, 0, 0, 0, 0);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(SECONDS) {
            match host.snapshot().expect("a snapshot") {
                SnapshotOutcome::Persisted {
                    checkpoint,
                    pages: copied,
                    torn_copies: before,
                    ..
                } => {
                    taken += 1;
                    bytes += checkpoint.written_bytes;
                    pages += copied;
                    torn += before;
                }
                SnapshotOutcome::Starved { .. } => starved += 1,
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        end.store(true, Ordering::Relaxed);
        let (commits, longest) = client.join().expect("a client");
        println!(
            "RATE of snapshots, {} MiB with 1 % changing a second in {} commits a second: {:.1} a second, {:.1} MB a second written, {} pages each, {torn} attempts torn, starved {starved} times; the longest commit took {longest:.2?}",
            state_bytes() >> 20,
            commits / SECONDS,
            taken as f64 / SECONDS as f64,
            bytes as f64 / 1e6 / SECONDS as f64,
            pages / taken.max(1),
        );
    });
}

/// Measures how long an unmodified program is frozen for a snapshot, compared with one scan of the
/// same amount of memory.
fn pauses(_: &mut Criterion) {
    let dir = TempDir::with_prefix("flatspan-bench-").expect("a directory");
    let file = Memfd::create("flatspan-bench", state_bytes()).expect("a memfd");
    let map = file.map_mut(0..state_bytes()).expect("mapped");
    let words = map.words();
    for (number, word) in (1..).zip(words) {
        word.store(number, Ordering::Relaxed);
    }
    let mut program = Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("program starts");
    let options = TransparentHostOptions::default()
        .quiesce_with(Arc::new(Freezer::for_process(program.id())));
    let unaware = TransparentHost::open(dir.path().join("store"), &file, options).expect("a store");
    for _ in 0..2 {
        unaware.snapshot().expect("a snapshot");
    }
    let all = state_bytes() / PAGE_BYTES;
    let mut state = 3;
    for (share, one_in) in [("0.1", 1000), ("1", 100), ("10", 10)] {
        let (mut pauses, mut whole, mut looks) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..9 {
            for _ in 0..all / one_in {
                let page = random(&mut state) % all;
                words[(page * PAGE_BYTES / 8) as usize].store(state, Ordering::Relaxed);
            }
            let report = unaware.snapshot().expect("a snapshot");
            pauses.push(report.pause_duration);
            whole.push(report.duration);
            let begun = Instant::now();
            let sum = |words: &[AtomicU64]| {
                words.iter().fold(0_u64, |sum, word| {
                    sum.wrapping_add(word.load(Ordering::Relaxed))
                })
            };
            black_box(sum(words));
            looks.push(begun.elapsed());
        }
        let (pause, whole, look) = (median(pauses), median(whole), median(looks));
        println!(
            "PAUSE of stop, {share} % of {} MiB: {pause:.2?} of {whole:.2?}; one scan of all of it {look:.2?}, ratio {:.2}",
            state_bytes() >> 20,
            pause.as_secs_f64() / look.as_secs_f64(),
        );
    }
    program
        .kill()
        .and_then(|()| program.wait())
        .expect("its end");
}

criterion_group!(benches, commits, keeping_up, pauses);
criterion_main!(benches);
