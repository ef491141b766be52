//! Pinning and unpinning of a mapped window, on one thread and on two.

mod support;

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use flatspan::mapping_cache::{
    Access, CacheOptions, CachedFile, FileOptions, Location, MappingCache,
};
use support::{Files, median, name, random};

const WINDOW_BYTES: usize = 1 << 20;

fn file(cache: &MappingCache, files: &Files) -> CachedFile {
    let location = Location::beneath(files.path().into(), name(0).into()).expect("a plain name");
    let options = FileOptions::default();
    cache.file(location, files.file_bytes, options)
}

/// Pins random windows `times` times.
fn pin_many(file: &CachedFile, windows: u64, seed: u64, times: u64) {
    let mut state = seed;
    for _ in 0..times {
        let window = random(&mut state) % windows;
        let pin = file
            .pin(window, Access::ReadOnly)
            .expect("window is pinned");
        black_box(pin.as_ptr());
    }
}

/// Returns the duration of `times` pins on each of two threads.
fn on_two_threads(file: &CachedFile, windows: u64, times: u64) -> Duration {
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        let threads = [3, 5].map(|seed| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                pin_many(file, windows, seed, times);
            })
        });
        start.wait();
        let begun = Instant::now();
        for thread in threads {
            thread.join().expect("pinning does not panic");
        }
        begun.elapsed()
    })
}

fn pin(criterion: &mut Criterion) {
    const TIMES: u64 = 2_000_000;
    let files = Files::new(256 << 20);
    let cache = MappingCache::new(
        CacheOptions::default()
            .window_bytes(WINDOW_BYTES)
            .budget_bytes(1 << 30),
    )
    .expect("options are valid");
    let file = file(&cache, &files);
    let windows = files.file_bytes / WINDOW_BYTES as u64;
    pin_many(&file, windows, 1, windows * 20);

    let mut group = criterion.benchmark_group("pin");
    group.bench_function("random window, one thread", |bencher| {
        bencher.iter_custom(|times| {
            let begun = Instant::now();
            pin_many(&file, windows, 7, times);
            begun.elapsed()
        });
    });
    group.bench_function("random window, each of two threads", |bencher| {
        bencher.iter_custom(|times| on_two_threads(&file, windows, times));
    });
    group.bench_function("the same window, each of two threads", |bencher| {
        bencher.iter_custom(|times| on_two_threads(&file, 1, times));
    });
    group.bench_function("floor: the random numbers alone", |bencher| {
        let mut state = 7;
        bencher.iter(|| black_box(random(&mut state) % windows));
    });
    group.finish();

    // Alternates, so that both sides see the same clock frequency.
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..21 {
        let begun = Instant::now();
        pin_many(&file, windows, 7, TIMES);
        times[0].push(begun.elapsed());
        times[1].push(on_two_threads(&file, windows, TIMES));
    }
    let [one, two] = times.map(median);
    println!(
        "RATIO pin, two threads against one: {:.2} times the throughput ({:.1} ns a pin, then {:.1})",
        2.0 * one.as_secs_f64() / two.as_secs_f64(),
        one.as_nanos() as f64 / TIMES as f64,
        two.as_nanos() as f64 / TIMES as f64,
    );
}

criterion_group!(benches, pin);
criterion_main!(benches);
