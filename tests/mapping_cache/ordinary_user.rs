//! Permissions that root has and an ordinary user lacks.
//!
//! `not_regular_files::ordinary_user_tests_pass` runs these tests.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use flatspan::mapping_cache::{Access, Advice, MappingError, Preallocation};

use crate::{
    fixture::{
        PAGE, assert_reads, cache, cache_of, file_with, options, put, reader, writable, writer,
    },
    support::{temp_dir, user::is_root},
};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[track_caller]
fn assert_denied<T: std::fmt::Debug>(result: Result<T, MappingError>) {
    let error = result.expect_err("not allowed");
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(
        matches!(&error, MappingError::Io { path, .. } if path.ends_with("a")),
        "{error:?}"
    );
}

#[test]
fn an_unreadable_file_is_permission_denied() {
    if is_root() {
        return;
    }
    let directory = temp_dir();
    put(directory.path(), "a", 1, PAGE);
    allow(&directory.path().join("a"), 0);
    let cache = cache(4);
    let file = reader(&cache, directory.path(), "a", PAGE);
    assert_denied(file.read_at(0, &mut [0; 8]));
    assert_denied(file.pin(0, Access::ReadOnly));
    allow(&directory.path().join("a"), 0o600);
    assert_reads(&file, 1, 0, PAGE);
}

#[test]
fn a_file_without_write_permission_can_be_read() {
    if is_root() {
        return;
    }
    let directory = temp_dir();
    put(directory.path(), "a", 1, PAGE);
    allow(&directory.path().join("a"), 0o400);
    let cache = cache(4);
    let file = writer(&cache, directory.path(), "a", PAGE);
    assert_reads(&file, 1, 0, PAGE);
    drop(file.pin(0, Access::ReadOnly).expect("a pin"));
    assert_denied(file.write_at(0, b"x"));
    assert_denied(file.pin(0, Access::ReadWrite));
    assert_reads(&file, 1, 0, PAGE);
    assert_eq!(cache.stats().dirty_files, 0);
}

#[test]
fn a_directory_without_write_permission_refuses_new_files() {
    if is_root() {
        return;
    }
    let directory = temp_dir();
    fs::create_dir(directory.path().join("closed")).expect("mkdir");
    allow(&directory.path().join("closed"), 0o500);
    let cache = cache(4);
    let file = writer(&cache, directory.path(), "closed/a", PAGE);
    assert_denied(file.write_at(0, b"x"));
    let deep = writer(&cache, directory.path(), "closed/deep/a", PAGE);
    assert_denied(deep.write_at(0, b"x"));
    allow(&directory.path().join("closed"), 0o700);
    deep.write_at(0, b"x").expect("open now");
}

#[test]
fn locking_above_the_limit_fails_and_pins_nothing() {
    if is_root() {
        return;
    }
    let limits = fs::read_to_string("/proc/self/limits").expect("/proc");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max locked memory"));
    let allowed = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    // Without a limit there is nothing to test.
    let Some(allowed) = allowed else { return };
    let directory = temp_dir();
    let window = (allowed + 1).next_power_of_two().max(1 << 20);
    let cache = cache_of(options(1).window_bytes(window).budget_bytes(window as u64));
    let sparse = writable().preallocation(Preallocation::Sparse);
    let file = file_with(&cache, directory.path(), "a", window, sparse);
    drop(file.pin(0, Access::ReadWrite).expect("a pin"));
    let refused = file.advise(0..window as u64, Advice::Lock);
    assert!(
        matches!(&refused, Err(MappingError::Io { path, .. }) if path.ends_with("a")),
        "{refused:?}"
    );
    assert_eq!(cache.stats().pinned_mappings, 0);
    file.evict(0..1).expect("evict");
    assert_eq!(cache.stats().mappings, 0);
}
