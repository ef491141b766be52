//! The budget is exact, and a hard limit for windows that are not pinned.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use flatspan::mapping_cache::{Access, BudgetPolicy, CopyMethod, MappingCache, MappingError};

use crate::{
    fixture::{PAGE, WINDOW, assert_reads, cache, cache_of, options, pattern, put, reader, writer},
    support::temp_dir,
};

#[track_caller]
fn assert_no_mappings(cache: &MappingCache) {
    let stats = cache.stats();
    assert_eq!((stats.mapped_bytes, stats.mappings), (0, 0), "{stats:?}");
    assert_eq!(
        (stats.pinned_mappings, stats.open_files),
        (0, 0),
        "{stats:?}"
    );
    assert_eq!(stats.dirty_files, 0, "{stats:?}");
}

#[test]
fn each_mapping_is_charged_for_its_pages() {
    let directory = temp_dir();
    let cache = cache(64);
    put(directory.path(), "a", 1, WINDOW + 2 * PAGE + 1);
    let file = reader(&cache, directory.path(), "a", WINDOW + 2 * PAGE + 1);
    let whole = file.pin(0, Access::ReadOnly).expect("a pin");
    assert_eq!(whole.len(), WINDOW);
    assert_eq!(cache.stats().mapped_bytes, WINDOW as u64);
    let part = file.pin(1, Access::ReadOnly).expect("a pin");
    assert_eq!(part.len(), 3 * PAGE, "one page for each page of the file");
    let stats = cache.stats();
    assert_eq!(stats.mapped_bytes, (WINDOW + 3 * PAGE) as u64);
    assert_eq!((stats.mappings, stats.pinned_mappings), (2, 2));
    drop((whole, part));
    assert_eq!(cache.stats().pinned_mappings, 0);
    assert_eq!(cache.stats().mappings, 2, "unpinned windows stay mapped");
}

#[test]
fn dropping_the_last_handle_releases_all_budget() {
    let directory = temp_dir();
    let cache = cache(64);
    let file = writer(&cache, directory.path(), "a", 8 * WINDOW);
    for window in 0..8 {
        drop(file.pin(window, Access::ReadOnly));
        drop(file.pin(window, Access::ReadWrite).expect("a pin"));
    }
    let other = reader(&cache, directory.path(), "a", 8 * WINDOW);
    assert_reads_zeros(&other);
    assert!(cache.stats().mappings >= 8);
    drop(file);
    assert!(
        cache.stats().mappings >= 8,
        "the other handle reaches the file"
    );
    drop(other);
    assert_no_mappings(&cache);
}

fn assert_reads_zeros(file: &flatspan::mapping_cache::CachedFile) {
    let mut buf = [1; 100];
    assert_eq!(file.read_at(0, &mut buf).expect("a read"), 100);
    assert_eq!(buf, [0; 100]);
}

#[test]
fn dropping_releases_all_budget_during_evictions() {
    let directory = temp_dir();
    let cache = cache(4);
    for name in 0..8 {
        put(directory.path(), &name.to_string(), name, 6 * WINDOW);
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let (cache, directory, stop) = (&cache, directory.path(), &stop);
            scope.spawn(move || {
                let mut round = thread;
                while !stop.load(Ordering::Relaxed) {
                    let name = round % 8;
                    let file = reader(cache, directory, &name.to_string(), 6 * WINDOW);
                    for window in 0..6 {
                        drop(file.pin(window, Access::ReadOnly).expect("a pin"));
                    }
                    if thread == 0 {
                        cache.evict_idle(Duration::ZERO);
                    }
                    round += 3;
                }
            });
        }
        thread::sleep(Duration::from_millis(400));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(cache.stats().evictions > 100);
    assert_no_mappings(&cache);
}

#[test]
fn the_budget_is_a_hard_limit_without_pins() {
    let directory = temp_dir();
    let cache = cache(3);
    put(directory.path(), "a", 1, 50 * WINDOW);
    let file = reader(&cache, directory.path(), "a", 50 * WINDOW);
    for round in 0..3u64 {
        for window in 0..50 {
            let window = (window * 7 + round) % 50;
            drop(file.pin(window, Access::ReadOnly).expect("a pin"));
        }
    }
    let stats = cache.stats();
    assert_eq!(stats.mapped_bytes_max, 3 * WINDOW as u64);
    assert_eq!(stats.over_budget_mappings, 0);
    assert_eq!(stats.misses, stats.evictions + stats.mappings as u64);
}

#[test]
fn the_number_of_mappings_is_a_hard_limit_too() {
    let directory = temp_dir();
    let cache = cache_of(options(1000).mappings_max(2));
    put(directory.path(), "a", 1, 20 * WINDOW);
    let file = reader(&cache, directory.path(), "a", 20 * WINDOW);
    for window in 0..20 {
        drop(file.pin(window, Access::ReadOnly).expect("a pin"));
        assert!(cache.stats().mappings <= 2);
    }
    assert_eq!(cache.stats().evictions, 18);
}

#[test]
fn pins_may_exceed_the_budget_and_are_counted() {
    let directory = temp_dir();
    let cache = cache(2);
    put(directory.path(), "a", 1, 8 * WINDOW);
    let file = reader(&cache, directory.path(), "a", 8 * WINDOW);
    let pins: Vec<_> = (0..5)
        .map(|window| file.pin(window, Access::ReadOnly).expect("a pin"))
        .collect();
    let stats = cache.stats();
    assert_eq!((stats.over_budget_mappings, stats.mappings), (3, 5));
    drop(pins);
    drop(file.pin(6, Access::ReadOnly).expect("a pin"));
    let stats = cache.stats();
    assert_eq!(
        stats.mapped_bytes,
        2 * WINDOW as u64,
        "the cache is within the budget again"
    );
    assert_eq!(stats.over_budget_mappings, 3);
}

#[test]
fn a_fully_pinned_budget_fails_under_the_fail_policy() {
    let directory = temp_dir();
    let cache = cache_of(options(2).budget_policy(BudgetPolicy::Fail));
    put(directory.path(), "a", 1, 8 * WINDOW);
    let file = reader(&cache, directory.path(), "a", 8 * WINDOW);
    let pins = [0, 1].map(|window| file.pin(window, Access::ReadOnly).expect("a pin"));
    let refused = file
        .pin(2, Access::ReadOnly)
        .expect_err("all windows are pinned");
    assert!(
        matches!(refused, MappingError::BudgetExhausted { budget_bytes, .. }
            if budget_bytes == 2 * WINDOW as u64),
        "{refused:?}"
    );
    assert_eq!(cache.stats().mapped_bytes_max, 2 * WINDOW as u64);
    assert_eq!(cache.stats().over_budget_mappings, 0);
    drop(pins);
    drop(file.pin(2, Access::ReadOnly).expect("space is free again"));
}

#[test]
fn copies_work_when_the_whole_budget_is_pinned() {
    let directory = temp_dir();
    let fail = options(1).budget_policy(BudgetPolicy::Fail);
    let cache = cache_of(fail.copy_method(CopyMethod::Mapped));
    let file = writer(&cache, directory.path(), "a", 4 * WINDOW);
    let _pin = file.pin(0, Access::ReadWrite).expect("a pin");
    let data = pattern(9, 0, 4 * WINDOW);
    file.write_at(0, &data)
        .expect("positioned I/O is the fallback");
    assert_reads(&file, 9, 0, 4 * WINDOW);
    assert_eq!(cache.stats().mappings, 1);
}

#[test]
fn excess_mappings_are_unmapped_with_their_pins() {
    let directory = temp_dir();
    let cache = cache(2);
    put(directory.path(), "a", 1, 6 * WINDOW);
    let file = reader(&cache, directory.path(), "a", 6 * WINDOW);
    let pins: Vec<_> = (0..6)
        .map(|window| file.pin(window, Access::ReadOnly).expect("a pin"))
        .collect();
    assert_eq!(cache.stats().mapped_bytes, 6 * WINDOW as u64);
    assert_eq!(cache.stats().over_budget_mappings, 4);
    for (dropped, pin) in pins.into_iter().enumerate() {
        drop(pin);
        let left = 6 - (dropped + 1).min(4);
        assert_eq!(cache.stats().mapped_bytes, (left * WINDOW) as u64);
    }
}
