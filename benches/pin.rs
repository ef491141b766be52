//! Pinning and unpinning of a mapped window, on one thread and on two. Mapping a window beside kept
//! pins, and evicting one byte, with few windows and with many.

mod support;

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use flatspan::mapping_cache::{
    Access, CacheOptions, CachedFile, FileOptions, Location, MappingCache,
};
use support::{Files, compare, median, name, random};

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

/// Smallest window, so that files of few bytes have many.
const SMALL_WINDOW_BYTES: u64 = 4096;

/// A sparse file in a cache of small windows with a budget of `budget_windows`.
struct SmallWindows {
    _directory: tempfile::TempDir,
    file: CachedFile,
}

impl SmallWindows {
    fn new(windows: u64, budget_windows: u64) -> Self {
        let directory = tempfile::TempDir::with_prefix("flatspan-bench-").expect("a directory");
        let file = std::fs::File::create(directory.path().join(name(0))).expect("a file");
        let bytes = windows * SMALL_WINDOW_BYTES;
        file.set_len(bytes).expect("a sparse file");
        let options = CacheOptions::default()
            .window_bytes(SMALL_WINDOW_BYTES as usize)
            .budget_bytes(budget_windows * SMALL_WINDOW_BYTES);
        let cache = MappingCache::new(options).expect("options are valid");
        let location = Location::beneath(directory.path().into(), name(0).into());
        let location = location.expect("a plain name");
        Self {
            file: cache.file(location, bytes, FileOptions::default()),
            _directory: directory,
        }
    }

    fn pin(&self, window: u64) -> flatspan::mapping_cache::Pin<'_> {
        let pin = self.file.pin(window, Access::ReadOnly);
        pin.expect("window is pinned")
    }
}

/// Maps, pins and unmaps windows while pins in `kept` windows exceed the budget. To reach: 1.00 for
/// any number of kept pins.
fn kept_windows(_: &mut Criterion) {
    const NEW: u64 = 1000;
    let map_new = |cache: &SmallWindows, kept: u64| {
        for window in kept..kept + NEW {
            black_box(cache.pin(window).as_ptr());
        }
    };
    for kept in [500, 4000, 20_000] {
        let [few, many] = [20, kept].map(|kept| (SmallWindows::new(kept + NEW, 10), kept));
        let _pins = [&few, &many].map(|(cache, kept)| {
            (0..*kept)
                .map(|window| cache.pin(window))
                .collect::<Vec<_>>()
        });
        compare(
            &format!("kept_windows: map a window beside {kept} kept pins, against 20 kept pins"),
            9,
            || map_new(&many.0, many.1),
            || map_new(&few.0, few.1),
        );
    }
}

/// Evicts single bytes of files in which few and many windows were touched. To reach: 0.50.
fn evict_one_byte(_: &mut Criterion) {
    const TIMES: u64 = 10_000;
    const MANY: u64 = 100_000;
    let evict = |cache: &SmallWindows| {
        for _ in 0..TIMES {
            black_box(cache.file.evict(0..1).expect("evict"));
        }
    };
    let [few, many] = [10, MANY].map(|windows| {
        let cache = SmallWindows::new(windows, 5);
        for window in 0..windows {
            drop(cache.pin(window));
        }
        cache
    });
    compare(
        &format!("evict_one_byte: of {MANY} touched windows, against 10"),
        9,
        || evict(&many),
        || evict(&few),
    );
}

criterion_group!(benches, pin, kept_windows, evict_one_byte);
criterion_main!(benches);
