//! Corrupt newest heap: which state is restored instead, and that the corrupt one never returns.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flatspan::snapshot::{Store, StoreError, StoreOptions, WriteMode};

use crate::support;

const PAGE: u64 = 4096;

fn open(path: &Path) -> Store {
    let options = StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .reserve_bytes(16 << 20)
        .part_bytes(64 << 10)
        .initial_bytes(60 * PAGE);
    Store::open(path, options).expect("a store")
}

fn put(store: &Store, page: u64) {
    let inside = store.write_guard().expect("access lock is free");
    inside
        .write_at(page * PAGE, &[page as u8; 4096])
        .expect("written");
}

fn there(store: &Store) -> Vec<u64> {
    let mut memory = vec![0; store.len() as usize];
    let inside = store.write_guard().expect("access lock is free");
    inside.read_at(0, &mut memory).expect("read");
    let pages = memory.chunks(4096).enumerate();
    let pages = pages.filter(|(_, page)| page[0] != 0);
    pages.map(|(page, _)| page as u64).collect()
}

/// Writes page 1 in a base checkpoint, page 2 in the next base and page 3 in a delta on it, and
/// crashes.
fn crashed(path: &Path) {
    let store = open(path);
    put(&store, 1);
    store.checkpoint_base().expect("a base");
    put(&store, 2);
    store.checkpoint_base().expect("a base");
    put(&store, 3);
    store.checkpoint_delta().expect("a delta");
    assert_eq!(store.open_report().heap.to_string(), "a");
}

fn flip(path: &Path, file: &str, at: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path.join(file));
    let file = file.expect("file exists");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
}

#[test]
fn deltas_after_a_lost_base_are_ignored_and_the_base_never_returns() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    crashed(&path);
    // The second page of the newest heap, which is heap a again; it is in the second part.
    flip(&path, "heap-a.00001", 2 * PAGE + 5);
    let store = open(&path);
    let report = store.open_report().clone();
    assert_eq!(there(&store), [1], "{report:?}");
    assert!(report.fallback_reason.is_some(), "{report:?}");
    put(&store, 4);
    store.checkpoint_delta().expect("a delta");
    drop(store);
    // Restores the original byte.
    flip(&path, "heap-a.00001", 2 * PAGE + 5);
    let store = open(&path);
    assert_eq!(there(&store), [1, 4], "{:?}", store.open_report());
    put(&store, 5);
    store.checkpoint_base().expect("a base");
    store.close().expect("closed");
    assert_eq!(there(&open(&path)), [1, 4, 5]);
}

#[test]
fn heap_with_a_missing_part_is_recreated() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    crashed(&path);
    fs::remove_file(path.join("heap-a.00001")).expect("file exists");
    let store = open(&path);
    assert_eq!(there(&store), [1], "{:?}", store.open_report());
    put(&store, 6);
    store.checkpoint_base().expect("a base");
    put(&store, 7);
    store.checkpoint_base().expect("a base");
    drop(store);
    let store = open(&path);
    assert_eq!(there(&store), [1, 6, 7], "{:?}", store.open_report());
    assert!(store.open_report().fallback_reason.is_none());
}

#[test]
fn foreign_directory_is_rejected_and_unchanged() {
    let dir = support::temp_dir();
    fs::write(dir.path().join("letters"), "abc").expect("written");
    let refused = Store::open(dir.path(), StoreOptions::default());
    assert!(
        matches!(refused, Err(StoreError::NotAStore { .. })),
        "{refused:?}"
    );
    let entries = fs::read_dir(dir.path()).expect("the directory");
    assert_eq!(entries.count(), 1, "no lock file is created");
}
