//! Options that cannot work are refused by name; values at the limit are accepted.

use flatspan::mapping_cache::{CacheOptions, MappingCache, MappingError};

use crate::fixture::PAGE;

#[track_caller]
fn assert_refused(options: CacheOptions, name: &str) {
    let refused = MappingCache::new(options).expect_err("the option is invalid");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    assert!(refused.to_string().contains(&format!("`{name}`")));
    assert!(
        matches!(refused, MappingError::InvalidOption { field, .. } if field == name),
        "{refused:?} does not name {name}"
    );
}

#[test]
fn a_window_must_be_a_power_of_two_of_at_least_a_page() {
    for bytes in [0, 1, PAGE / 2, PAGE + 1, 3 * PAGE, usize::MAX] {
        assert_refused(CacheOptions::default().window_bytes(bytes), "window_bytes");
    }
    let larger_than_memory = 1usize << (usize::BITS - 1);
    let options = CacheOptions::default().window_bytes(larger_than_memory);
    assert_refused(options.budget_bytes(u64::MAX), "window_bytes");
}

#[test]
fn the_budget_must_hold_one_window() {
    let options = CacheOptions::default().window_bytes(PAGE);
    assert_refused(options.clone().budget_bytes(0), "budget_bytes");
    assert_refused(options.budget_bytes(PAGE as u64 - 1), "budget_bytes");
}

#[test]
fn the_mapping_limit_must_be_at_least_one() {
    assert_refused(CacheOptions::default().mappings_max(0), "mappings_max");
}

#[test]
fn the_descriptor_limit_must_be_at_least_four() {
    for descriptors in [0, 3] {
        let options = CacheOptions::default().descriptors_max(descriptors);
        assert_refused(options, "descriptors_max");
    }
}

#[test]
fn the_smallest_options_are_accepted() {
    let options = CacheOptions::default()
        .window_bytes(PAGE)
        .budget_bytes(PAGE as u64)
        .mappings_max(1)
        .descriptors_max(4);
    let cache = MappingCache::new(options).expect("the smallest options are valid");
    assert_eq!(cache.window_bytes(), PAGE);
}

#[test]
fn the_default_options_are_accepted() {
    let cache = MappingCache::new(CacheOptions::default()).expect("the defaults");
    let stats = cache.stats();
    assert_eq!((stats.mappings, stats.mapped_bytes), (0, 0));
    assert_eq!((stats.open_files, stats.dirty_files), (0, 0));
}
