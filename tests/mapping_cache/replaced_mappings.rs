//! A pinned mapping that is too short is replaced, and goes with its last pin.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use flatspan::mapping_cache::{
    Access, Advice, BudgetPolicy, CachedFile, MappingCache, MappingError,
};
use tempfile::TempDir;

use crate::{
    fixture::{PAGE, WINDOW, cache, cache_of, options, writer},
    support::temp_dir,
};

/// Two handles of one file: the declared length of the first is a page, that of the second a
/// window.
fn short_and_long(cache: &MappingCache) -> (TempDir, CachedFile, CachedFile) {
    let directory = temp_dir();
    let short = writer(cache, directory.path(), "a", PAGE);
    let long = writer(cache, directory.path(), "a", WINDOW);
    (directory, short, long)
}

#[test]
fn a_pinned_window_is_mapped_again_when_its_file_has_grown() {
    let cache = cache(8);
    let (_directory, short, long) = short_and_long(&cache);
    let old = short.pin(0, Access::ReadWrite).expect("a pin");
    assert_eq!(old.len(), PAGE);
    let new = long.pin(0, Access::ReadWrite).expect("a second mapping");
    assert_eq!(new.len(), WINDOW);
    assert_ne!(old.as_ptr(), new.as_ptr());

    let mut buf = [0; 3];
    old.write_at(0, b"old").expect("a store");
    new.write_at(PAGE, b"new").expect("a store");
    new.read_at(0, &mut buf).expect("a copy");
    assert_eq!(&buf, b"old", "both mappings show the file");
    short.read_at(PAGE as u64, &mut buf).expect("a copy");
    assert_eq!(&buf, b"new");

    let stats = cache.stats();
    assert_eq!(stats.mapped_bytes, (PAGE + WINDOW) as u64);
    assert_eq!((stats.mappings, stats.pinned_mappings), (2, 2));
    let third = short.pin(0, Access::ReadOnly).expect("a pin");
    assert_eq!(third.as_ptr(), new.as_ptr(), "later pins use the new one");
    drop((new, third));
    assert_eq!(cache.stats().pinned_mappings, 1);
    let again = old.read_at(0, &mut buf);
    assert_eq!((again.expect("a copy"), &buf), (3, b"old"));
    drop(old);
    let stats = cache.stats();
    assert_eq!(stats.mapped_bytes, WINDOW as u64, "the old one is unmapped");
    assert_eq!((stats.mappings, stats.evictions), (1, 1));
    long.evict(0..WINDOW as u64).expect("evict");
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn i38_a_replaced_mapping_counts_until_its_last_unpin() {
    let cache = cache_of(options(1).budget_policy(BudgetPolicy::Fail));
    let (_directory, short, long) = short_and_long(&cache);
    let old = [0, 1].map(|_| short.pin(0, Access::ReadWrite).expect("a pin"));
    for _ in 0..2 {
        let refused = long.pin(0, Access::ReadWrite).expect_err("too much");
        let is = matches!(refused, MappingError::BudgetExhausted { .. });
        assert!(is, "{refused:?}");
        // The window has its mapping as before.
        drop(short.pin(0, Access::ReadWrite).expect("a pin"));
    }
    let [first, second] = old;
    drop(first);
    assert!(long.pin(0, Access::ReadWrite).is_err());
    drop(second);
    drop(long.pin(0, Access::ReadWrite).expect("the budget is free"));
    assert_eq!(cache.stats().mapped_bytes_max, WINDOW as u64);
}

#[test]
fn a_replaced_mapping_that_is_pinned_prevents_truncating_and_closing() {
    let cache = cache(8);
    let (_directory, short, mut long) = short_and_long(&cache);
    let old = short.pin(0, Access::ReadWrite).expect("a pin");
    drop(long.pin(0, Access::ReadWrite).expect("a second mapping"));
    let is_pinned = |result| matches!(result, Err(MappingError::WindowPinned { offset: 0, .. }));
    assert!(is_pinned(long.set_len(0)));
    assert!(is_pinned(long.drop_page_cache()));
    assert!(is_pinned(long.close_without_sync()));
    drop(old);
    long.set_len(0).expect("no pin is left");
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn dropping_the_last_handle_unmaps_everything_and_frees_the_budget() {
    let cache = cache(4);
    let (directory, short, long) = short_and_long(&cache);
    let other = writer(&cache, directory.path(), "b", 16 * WINDOW);
    // Retired, set aside, locked in memory, and idle.
    let old = short.pin(0, Access::ReadWrite).expect("a pin");
    drop(long.pin(0, Access::ReadWrite).expect("a second mapping"));
    let kept: Vec<_> = (0..8)
        .map(|window| other.pin(window, Access::ReadWrite).expect("a pin"))
        .collect();
    drop(other.pin(8, Access::ReadWrite).expect("evicts"));
    other.advise(0..PAGE as u64, Advice::Lock).expect("locked");
    assert!(mappings_below(directory.path()) >= 9);
    drop((old, kept));
    assert_ne!(cache.stats().mapped_bytes, 0);
    drop((short, long, other));
    let stats = cache.stats();
    assert_eq!((stats.mapped_bytes, stats.mappings), (0, 0), "{stats:?}");
    assert_eq!(mappings_below(directory.path()), 0);
}

/// How many mappings of files below a directory this process has.
fn mappings_below(directory: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let directory = directory.to_str().expect("a name in UTF-8");
    maps.lines().filter(|line| line.contains(directory)).count()
}

#[test]
fn locked_pages_of_a_replaced_mapping_are_unlocked() {
    let cache = cache(8);
    let (_directory, short, long) = short_and_long(&cache);
    drop(short.pin(0, Access::ReadWrite).expect("a pin"));
    short.advise(0..PAGE as u64, Advice::Lock).expect("locked");
    assert_eq!(cache.stats().pinned_mappings, 1);
    drop(long.pin(0, Access::ReadWrite).expect("a second mapping"));
    long.advise(0..WINDOW as u64, Advice::Lock).expect("locked");
    assert_eq!(cache.stats().pinned_mappings, 2);
    long.advise(0..1, Advice::Unlock).expect("unlocked");
    let stats = cache.stats();
    assert_eq!((stats.pinned_mappings, stats.mappings), (0, 1));

    long.advise(0..1, Advice::Lock).expect("locked");
    drop((short, long));
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn windows_of_a_file_that_grows_are_pinned_by_many_threads() {
    const STEPS: usize = 64;
    let directory = temp_dir();
    // Fewer windows than threads, so that they are also evicted.
    let cache = cache(2);
    let grown = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (cache, directory, grown) = (&cache, directory.path(), &grown);
            scope.spawn(move || {
                for step in 1..=STEPS {
                    let bytes = step * WINDOW / STEPS + thread;
                    let file = writer(cache, directory, "a", bytes);
                    let pin = file.pin(0, Access::ReadWrite).expect("a pin");
                    assert!(pin.len() >= bytes.min(WINDOW));
                    let at = (bytes - 1).min(WINDOW - 1);
                    pin.write_at(at, &[7]).expect("a store");
                    let reader = file.pin(0, Access::ReadOnly).expect("a pin");
                    assert_eq!(reader.read_at(0, &mut [0]).expect("a copy"), 1);
                    let mut buf = [0];
                    pin.read_at(at, &mut buf).expect("a copy");
                    assert_eq!(buf, [7]);
                }
                grown.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let other = writer(&cache, directory.path(), "b", 8 * WINDOW);
            let mut window = 0;
            while !grown.load(Ordering::Relaxed) {
                drop(other.pin(window % 8, Access::ReadWrite).expect("a pin"));
                window += 1;
            }
        });
    });
    let stats = cache.stats();
    assert_eq!((stats.mappings, stats.pinned_mappings), (0, 0), "{stats:?}");
}
