//! Many threads use one window, or more windows than the budget holds.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use flatspan::mapping_cache::{Access, CopyMethod};

use crate::{
    fixture::{WINDOW, cache, cache_of, options, pattern, put, reader, writer},
    support::temp_dir,
};

/// A small random generator: each thread has its own sequence, the same in every run.
struct Steps(u64);

impl Steps {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn one_thread_maps_a_window_for_all_waiters() {
    const THREADS: usize = 16;
    let directory = temp_dir();
    put(directory.path(), "a", 1, WINDOW);
    for _ in 0..50 {
        let cache = cache(4);
        let file = reader(&cache, directory.path(), "a", WINDOW);
        let start = Barrier::new(THREADS);
        let addresses: Vec<usize> = thread::scope(|scope| {
            let pinning = (0..THREADS).map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let pin = file.pin(0, Access::ReadOnly).expect("a pin");
                    start.wait();
                    pin.as_ptr().addr()
                })
            });
            let pinning: Vec<_> = pinning.collect();
            let joined = pinning.into_iter().map(|one| one.join().expect("a thread"));
            joined.collect()
        });
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.mappings), (1, 1), "{stats:?}");
        assert_eq!(stats.hits, THREADS as u64 - 1, "{stats:?}");
        assert!(addresses.iter().all(|address| *address == addresses[0]));
    }
}

#[test]
fn random_windows_under_a_small_budget_have_correct_content() {
    const WINDOWS: u64 = 24;
    let directory = temp_dir();
    put(directory.path(), "a", 7, WINDOWS as usize * WINDOW);
    let expected = pattern(7, 0, WINDOWS as usize * WINDOW);
    let cache = cache(3);
    let file = reader(&cache, directory.path(), "a", WINDOWS as usize * WINDOW);
    thread::scope(|scope| {
        for thread in 0..6 {
            let (file, expected) = (&file, &expected);
            scope.spawn(move || {
                let mut steps = Steps(0x1234_5678 + thread);
                let mut buf = [0; 64];
                for _ in 0..5000 {
                    let window = steps.below(WINDOWS);
                    let within = steps.below((WINDOW - 64) as u64) as usize;
                    let pin = file.pin(window, Access::ReadOnly).expect("a pin");
                    assert_eq!(pin.read_at(within, &mut buf).expect("a copy"), 64);
                    let at = window as usize * WINDOW + within;
                    assert_eq!(buf, expected[at..at + 64], "window {window}");
                }
            });
        }
    });
    let stats = cache.stats();
    assert_eq!(stats.misses, stats.evictions + stats.mappings as u64);
    assert_eq!(stats.pinned_mappings, 0);
    // Six threads pin one window each, so three may exceed the budget.
    assert!(stats.mapped_bytes_max <= 6 * WINDOW as u64, "{stats:?}");
    cache.evict_idle(Duration::ZERO);
    assert_eq!(cache.stats().mapped_bytes, 0);
}

#[test]
fn eviction_never_unmaps_a_pinned_window() {
    let directory = temp_dir();
    put(directory.path(), "a", 7, WINDOW);
    let cache = cache(3);
    let file = reader(&cache, directory.path(), "a", WINDOW);
    let readers = AtomicUsize::new(3);
    thread::scope(|scope| {
        for _ in 0..3 {
            let (file, readers) = (&file, &readers);
            scope.spawn(move || {
                let _on_drop = OnDrop(|| {
                    readers.fetch_sub(1, Ordering::Relaxed);
                });
                let expected = pattern(7, 0, 8);
                let mut buf = [0; 8];
                let mut steps = Steps(5);
                for _ in 0..20_000 {
                    let pin = file.pin(0, Access::ReadOnly).expect("a pin");
                    assert_eq!(pin.read_at(0, &mut buf).expect("a copy"), 8);
                    assert_eq!(&buf[..], expected);
                    drop(pin);
                    // Now and then unpinned long enough to be evicted.
                    for _ in 0..steps.below(2000) {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        while readers.load(Ordering::Relaxed) > 0 {
            file.evict(0..1).expect("evict");
        }
    });
    let stats = cache.stats();
    assert!(
        stats.evictions > 10,
        "the threads never competed: {stats:?}"
    );
    assert_eq!(stats.misses, stats.evictions + stats.mappings as u64);
}

/// Runs the closure also when the test panics.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn threads_see_their_own_writes() {
    const SHARE: usize = 3 * WINDOW + 100;
    for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
        let directory = temp_dir();
        let cache = cache_of(options(2).copy_method(path));
        let file = writer(&cache, directory.path(), "a", 4 * SHARE);
        thread::scope(|scope| {
            for thread in 0..4u64 {
                let file = &file;
                scope.spawn(move || {
                    let mut steps = Steps(99 + thread);
                    for round in 0..100 {
                        let len = 1 + steps.below(WINDOW as u64) as usize;
                        let within = steps.below((SHARE - len) as u64);
                        let at = thread * SHARE as u64 + within;
                        let data = pattern(round, at, len);
                        file.write_at(at, &data).expect("a write");
                        let mut buf = vec![0; len];
                        assert_eq!(file.read_at(at, &mut buf).expect("a read"), len);
                        assert!(buf == data, "{path:?} at {at}");
                        if round % 25 == 0 {
                            file.sync().expect("a sync");
                        }
                    }
                });
            }
        });
        file.sync().expect("a sync");
        assert_eq!(cache.stats().dirty_files, 0);
    }
}

#[test]
fn i38_upgrades_and_evictions_never_wait_for_pins() {
    let directory = temp_dir();
    let cache = cache(2);
    let file = writer(&cache, directory.path(), "a", 8 * WINDOW);
    file.write_at(0, &pattern(3, 0, 8 * WINDOW))
        .expect("a write");
    let start = Instant::now();
    thread::scope(|scope| {
        for thread in 0..6u64 {
            let file = &file;
            scope.spawn(move || {
                let mut steps = Steps(7 + thread);
                for _ in 0..1000 {
                    // Each thread holds up to two pins, in any order and with any access.
                    let first = steps.below(8);
                    let _held = file.pin(first, access_of(first + thread)).expect("a pin");
                    let second = steps.below(8);
                    let pin = file.pin(second, access_of(thread)).expect("a pin");
                    let mut buf = [0; 16];
                    assert_eq!(pin.read_at(0, &mut buf).expect("a copy"), 16);
                    assert_eq!(&buf[..], pattern(3, second * WINDOW as u64, 16));
                }
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(cache.stats().pinned_mappings, 0);
    drop(file);
    assert_eq!(cache.stats().mapped_bytes, 0);
}

fn access_of(number: u64) -> Access {
    if number.is_multiple_of(2) {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    }
}
