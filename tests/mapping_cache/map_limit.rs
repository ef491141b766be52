//! The kernel refuses further mappings: windows are evicted first, then an error names the limit.

use std::fs::File;

use flatspan::mapping_cache::{Access, CopyMethod, MappingCache, MappingError};
use tempfile::TempDir;

use crate::{
    fixture::{PAGE, cache_of, options, reader},
    support::{
        child::{self, Child, Limits},
        need::{Need, skip},
        temp_dir,
    },
};

const MIB: usize = 1 << 20;
const WINDOWS: u64 = 64;
const WINDOW_BYTES: usize = 64 * MIB;

/// Runs the calling test again as a child process with address space for some windows of 64 MiB.
#[track_caller]
fn in_little_address_space(test: &str) {
    let limits = Limits {
        address_space_bytes: Some(1536 << 20),
        ..Limits::default()
    };
    if let Some(done) = child::in_child(test, &[], limits) {
        done.assert_passed();
    }
}

fn unlimited_cache(window: usize, path: CopyMethod) -> MappingCache {
    let options = options(1).window_bytes(window).budget_bytes(u64::MAX);
    cache_of(options.mappings_max(usize::MAX).copy_method(path))
}

fn sparse(bytes: u64) -> TempDir {
    let directory = temp_dir();
    let file = File::create(directory.path().join("a")).expect("a file");
    file.set_len(bytes).expect("a sparse file");
    directory
}

#[test]
fn windows_are_evicted_when_mmap_fails() {
    let name = "map_limit::windows_are_evicted_when_mmap_fails";
    if !child::is_me(name) {
        return in_little_address_space(name);
    }
    let directory = sparse(WINDOWS * WINDOW_BYTES as u64);
    let cache = unlimited_cache(WINDOW_BYTES, CopyMethod::Auto);
    let bytes = WINDOWS as usize * WINDOW_BYTES;
    let file = reader(&cache, directory.path(), "a", bytes);
    for window in 0..2 * WINDOWS {
        let pin = file.pin(window % WINDOWS, Access::ReadOnly);
        drop(pin.unwrap_or_else(|error| panic!("window {window}: {error}")));
    }
    let stats = cache.stats();
    assert!(stats.evictions > 0 && stats.mappings > 0, "{stats:?}");
}

#[test]
fn a_failed_mmap_with_all_windows_pinned_names_the_sysctl() {
    let name = "map_limit::a_failed_mmap_with_all_windows_pinned_names_the_sysctl";
    if !child::is_me(name) {
        return in_little_address_space(name);
    }
    let directory = sparse(WINDOWS * WINDOW_BYTES as u64);
    let cache = unlimited_cache(WINDOW_BYTES, CopyMethod::Mapped);
    let bytes = WINDOWS as usize * WINDOW_BYTES;
    let file = reader(&cache, directory.path(), "a", bytes);
    let pins: Vec<_> = (0..WINDOWS)
        .map_while(|window| file.pin(window, Access::ReadOnly).ok())
        .collect();
    assert!(pins.len() > 4 && pins.len() < WINDOWS as usize);
    let mapped = cache.stats().mapped_bytes;
    let refused = file.pin(WINDOWS - 1, Access::ReadOnly).expect_err("full");
    assert_eq!(refused.kind(), std::io::ErrorKind::OutOfMemory);
    assert!(refused.to_string().contains("vm.max_map_count"));
    assert!(
        matches!(refused, MappingError::TooManyMappings { .. }),
        "{refused:?}"
    );
    assert_eq!(
        cache.stats().mapped_bytes,
        mapped,
        "a failed mapping is not charged"
    );
    // Copies need no mapping.
    let offset = (WINDOWS - 1) * WINDOW_BYTES as u64;
    let mut buf = [1; 64];
    assert_eq!(file.read_at(offset, &mut buf).expect("a read"), 64);
    assert_eq!(buf, [0; 64]);
    drop(pins);
    drop(
        file.pin(WINDOWS - 1, Access::ReadOnly)
            .expect("space is free again"),
    );
}

#[test]
fn the_mapping_limit_causes_eviction_and_is_named_when_all_is_pinned() {
    let name = "map_limit::the_mapping_limit_causes_eviction_and_is_named_when_all_is_pinned";
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("/proc");
    let limit: usize = limit.trim().parse().expect("a number");
    if !child::is_me(name) {
        if limit > 70_000 {
            return skip(Need::Tools, "vm.max_map_count is too high to be reached");
        }
        if let Some(done) = Child::new(name).run() {
            done.assert_passed();
        }
        return;
    }
    let windows = limit + 100;
    let directory = sparse((windows * PAGE) as u64);
    let cache = unlimited_cache(PAGE, CopyMethod::Auto);
    let file = reader(&cache, directory.path(), "a", windows * PAGE);
    for window in 0..windows as u64 {
        let pin = file.pin(window, Access::ReadOnly);
        drop(pin.unwrap_or_else(|error| panic!("window {window}: {error}")));
    }
    assert!(cache.stats().evictions > 0);

    // At the limit the allocation of this list would fail too.
    let mut pins = Vec::with_capacity(windows);
    let refused = loop {
        match file.pin(pins.len() as u64, Access::ReadOnly) {
            Ok(pin) => pins.push(pin),
            Err(error) => break error,
        }
    };
    assert!(pins.len() > limit / 2, "{} pins", pins.len());
    assert!(
        matches!(refused, MappingError::TooManyMappings { max_map_count, .. } if max_map_count == limit),
        "{refused:?}"
    );
}
