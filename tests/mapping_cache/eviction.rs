//! The order of eviction, and eviction by age.

use std::{thread, time::Duration};

use flatspan::mapping_cache::{Access, CachedFile, MappingCache};
use tempfile::TempDir;

use crate::{
    fixture::{PAGE, WINDOW, cache, cache_of, options, put, reader},
    support::temp_dir,
};

fn file_of(cache: &MappingCache, windows: usize) -> (TempDir, CachedFile) {
    let directory = temp_dir();
    put(directory.path(), "a", 1, windows * WINDOW);
    let file = reader(cache, directory.path(), "a", windows * WINDOW);
    (directory, file)
}

fn touch(file: &CachedFile, windows: impl IntoIterator<Item = u64>) {
    for window in windows {
        drop(file.pin(window, Access::ReadOnly).expect("a pin"));
    }
}

/// Returns whether a window is mapped: pinning it is a hit then. This must be the last use of a
/// cache.
fn is_mapped(cache: &MappingCache, file: &CachedFile, window: u64) -> bool {
    let before = cache.stats().hits;
    touch(file, [window]);
    cache.stats().hits > before
}

#[test]
fn the_least_recently_used_window_is_evicted_first() {
    for (gone, kept) in [(0, 1), (0, 2), (0, 3)] {
        let cache = cache(3);
        let (_directory, file) = file_of(&cache, 8);
        touch(&file, 0..4);
        assert!(is_mapped(&cache, &file, kept), "{kept} went before {gone}");
        assert!(!is_mapped(&cache, &file, gone));
    }
}

#[test]
fn a_recently_used_window_is_kept() {
    let cache = cache(3);
    let (_directory, file) = file_of(&cache, 8);
    // Window 0 is evicted for window 3. From then on the LRU order is tracked.
    touch(&file, 0..4);
    touch(&file, [1]);
    touch(&file, [4]);
    assert!(
        is_mapped(&cache, &file, 1),
        "window 2 is evicted for window 4, because window 1 was used"
    );
    assert!(!is_mapped(&cache, &file, 2));
}

#[test]
fn a_pinned_window_is_never_evicted() {
    let cache = cache(3);
    let (_directory, file) = file_of(&cache, 40);
    let oldest = file.pin(0, Access::ReadOnly).expect("a pin");
    let mut first = [0; 8];
    oldest.read_at(0, &mut first).expect("a copy");
    touch(&file, 1..40);
    let mut again = [0; 8];
    assert_eq!(oldest.read_at(0, &mut again).expect("a copy"), 8);
    assert_eq!(first, again);
    assert!(is_mapped(&cache, &file, 0));
    assert_eq!(cache.stats().over_budget_mappings, 0);
}

#[test]
fn idle_windows_are_evicted_by_age() {
    let cache = cache(16);
    let (_directory, file) = file_of(&cache, 8);
    touch(&file, 0..4);
    let age = Duration::from_millis(30);
    // The first call marks all windows as used, the later ones measure how long they were idle.
    assert_eq!(cache.evict_idle(age), 0);
    thread::sleep(2 * age);
    touch(&file, [2]);
    assert_eq!(cache.evict_idle(age), 3 * WINDOW as u64);
    assert_eq!(cache.stats().mappings, 1);
    assert!(is_mapped(&cache, &file, 2));
}

#[test]
fn idle_timeout_zero_unmaps_all_unpinned_windows() {
    let cache = cache(16);
    let (_directory, file) = file_of(&cache, 8);
    touch(&file, 0..8);
    let pin = file.pin(5, Access::ReadOnly).expect("a pin");
    assert_eq!(cache.evict_idle(Duration::ZERO), 7 * WINDOW as u64);
    assert_eq!(cache.stats().mapped_bytes, WINDOW as u64);
    drop(pin);
    assert_eq!(cache.evict_idle(Duration::ZERO), WINDOW as u64);
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn the_idle_timeout_is_enforced_when_a_window_is_mapped() {
    let age = Duration::from_millis(40);
    let cache = cache_of(options(16).idle_timeout(Some(age)));
    let (_directory, file) = file_of(&cache, 16);
    touch(&file, 0..4);
    thread::sleep(age);
    touch(&file, [8]);
    thread::sleep(2 * age);
    touch(&file, [9]);
    let stats = cache.stats();
    assert!(stats.evictions >= 4, "windows 0 to 3 are old: {stats:?}");
    assert!(is_mapped(&cache, &file, 9));
}

#[test]
fn evicting_a_range_unmaps_the_windows_it_touches() {
    let cache = cache(16);
    let (_directory, mut file) = file_of(&cache, 8);
    touch(&file, 0..8);
    let range = (2 * WINDOW - 1) as u64..(3 * WINDOW + 1) as u64;
    assert_eq!(file.evict(range).expect("evict"), 3 * WINDOW as u64);
    assert_eq!(file.evict(5..5).expect("evict"), 0);
    assert_eq!(cache.stats().mappings, 5);
    file.close_without_sync().expect("no window is pinned");
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn a_mapping_grows_with_its_file() {
    let directory = temp_dir();
    let cache = cache(16);
    put(directory.path(), "a", 1, PAGE);
    let file = reader(&cache, directory.path(), "a", WINDOW);
    assert_eq!(file.pin(0, Access::ReadOnly).expect("a pin").len(), PAGE);
    put(directory.path(), "a", 1, WINDOW);
    file.evict(0..1).expect("evict");
    assert_eq!(file.pin(0, Access::ReadOnly).expect("a pin").len(), WINDOW);
    assert_eq!(cache.stats().mapped_bytes, WINDOW as u64);
}
