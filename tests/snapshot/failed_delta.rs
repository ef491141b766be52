//! Delta checkpoints that fail after part of their records was written.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flatspan::mapping_cache::Access;
use flatspan::snapshot::{
    CheckpointReport, DirectoryBackend, Durability, Store, StoreError, StoreOptions, WriteMode,
};

use crate::blocking_backend::BlockingBackend;
use crate::support;

const PAGE: u64 = 4096;
const PART_BYTES: u64 = 4 << 20;
/// More pages than are copied while writers are paused.
const PAGES: u64 = 3000;

fn options(durability: Durability) -> StoreOptions {
    StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .durability(durability)
        .lock_timeout(Duration::from_millis(50))
        .part_bytes(PART_BYTES)
        .initial_bytes(PAGES * PAGE)
}

fn open(path: &Path, durability: Durability) -> Store {
    Store::open(path, options(durability)).expect("a store")
}

fn stamp(store: &Store, pages: impl Iterator<Item = u64>, value: u8) {
    let inside = store.write_guard().expect("access lock is free");
    for page in pages {
        inside
            .write_at(page * PAGE + page % PAGE, &[value])
            .expect("a page");
    }
}

fn stamps(store: &Store) -> Vec<u8> {
    let inside = store.write_guard().expect("access lock is free");
    let stamp = |page: u64| {
        let mut byte = [0];
        let read = inside.read_at(page * PAGE + page % PAGE, &mut byte);
        read.expect("a page");
        byte[0]
    };
    (0..PAGES).map(stamp).collect()
}

/// Creates a store whose base checkpoints fail after the journal was rolled.
fn without_bases(path: &Path, durability: Durability) -> Store {
    drop(open(path, durability));
    let disk = DirectoryBackend::open(path, PART_BYTES, Access::ReadWrite);
    let disk = BlockingBackend::open(disk.expect("the store"));
    disk.set_full(true);
    Store::open_with_backend(Arc::new(disk), options(durability)).expect("a store")
}

fn fail_to_make_a_base(store: &Store) {
    let failed = store.checkpoint_base();
    assert!(
        matches!(failed, Err(StoreError::Backend { .. })),
        "{failed:?}"
    );
}

/// Creates a store with a complete delta, and then one that fails because a writer stays in the
/// access lock.
fn with_a_failed_delta(path: &Path, durability: Durability) -> Store {
    let store = open(path, durability);
    fail_one_delta(&store);
    store
}

fn fail_one_delta(store: &Store) {
    fail_delta(store, || store.checkpoint_delta());
}

/// Writes 1 to all pages in a delta, then 2, and runs `checkpoint` beside a writer that stays in
/// the access lock.
fn fail_delta(store: &Store, checkpoint: impl Fn() -> Result<CheckpointReport, StoreError>) {
    stamp(store, 0..PAGES, 1);
    store.checkpoint_delta().expect("a delta");
    stamp(store, 0..PAGES, 2);
    fail_beside_a_writer(store, checkpoint);
}

fn fail_to_make_one(store: &Store) {
    fail_beside_a_writer(store, || store.checkpoint_delta());
}

fn fail_beside_a_writer(
    store: &Store,
    checkpoint: impl Fn() -> Result<CheckpointReport, StoreError>,
) {
    let held = std::thread::scope(|scope| {
        let (entered, inside) = std::sync::mpsc::channel();
        let (leave, asked) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let _inside = store.write_guard().expect("access lock is free");
            entered.send(()).expect("receiver exists");
            // Ends when the sender is dropped.
            let _ = asked.recv();
        });
        inside.recv().expect("a writer");
        let held = checkpoint();
        drop(leave);
        held
    });
    assert!(
        matches!(held, Err(StoreError::LockTimeout { .. })),
        "{held:?}"
    );
}

#[test]
fn records_of_a_failed_delta_are_ignored() {
    for durability in [Durability::Power, Durability::Process] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        drop(with_a_failed_delta(&path, durability));
        let store = open(&path, durability);
        let report = store.open_report();
        let ignored_bytes: u64 = report.ignored_tails.iter().map(|tail| tail.len_bytes).sum();
        assert!(
            ignored_bytes > 1 << 20,
            "records are written early: {report:?}"
        );
        assert!(stamps(&store).iter().all(|stamp| *stamp == 1));
    }
}

#[test]
fn next_delta_succeeds_after_a_failed_delta() {
    for durability in [Durability::Power, Durability::Process] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        let store = with_a_failed_delta(&path, durability);
        stamp(&store, 7..9, 3);
        store.checkpoint_delta().expect("a delta");
        stamp(&store, 8..9, 4);
        let last = store.checkpoint_delta().expect("a delta");
        drop(store);
        let store = open(&path, durability);
        let report = store.open_report();
        assert_eq!(report.generation, last.generation, "{report:?}");
        let expected = |page| match page {
            7 => 3,
            8 => 4,
            _ => 2,
        };
        assert!(stamps(&store).into_iter().eq((0..PAGES).map(expected)));
    }
}

#[test]
fn next_base_succeeds_after_a_failed_delta() {
    for durability in [Durability::Power, Durability::Process] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        let store = with_a_failed_delta(&path, durability);
        store.checkpoint_base().expect("a base");
        stamp(&store, 8..9, 4);
        store.checkpoint_delta().expect("a delta");
        drop(store);
        let store = open(&path, durability);
        let expected = |page| if page == 8 { 4 } else { 2 };
        assert!(stamps(&store).into_iter().eq((0..PAGES).map(expected)));
    }
}

#[test]
fn failed_base_after_a_failed_delta_seals_only_complete_records() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = without_bases(&path, Durability::Power);
    fail_one_delta(&store);
    fail_to_make_a_base(&store);
    stamp(&store, 8..9, 4);
    store.checkpoint_delta().expect("a delta");
    drop(store);
    let store = open(&path, Durability::Power);
    let expected = |page| if page == 8 { 4 } else { 2 };
    assert!(stamps(&store).into_iter().eq((0..PAGES).map(expected)));
}

#[test]
fn failed_delta_after_a_failed_base_keeps_the_seal() {
    for durability in [Durability::Power, Durability::Process] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        let store = without_bases(&path, durability);
        stamp(&store, 0..PAGES, 1);
        store.checkpoint_delta().expect("a delta");
        fail_to_make_a_base(&store);
        // Few enough that neither the pages nor the seal are written before the failure.
        stamp(&store, 0..100, 2);
        fail_to_make_one(&store);
        stamp(&store, 8..9, 4);
        let last = store.checkpoint_delta().expect("a delta");
        drop(store);
        let store = open(&path, durability);
        let report = store.open_report();
        assert_eq!(report.generation, last.generation, "{report:?}");
        let expected = |page| match page {
            8 => 4,
            0..100 => 2,
            _ => 1,
        };
        assert!(stamps(&store).into_iter().eq((0..PAGES).map(expected)));
    }
}

/// The base before it had created the next journal file, which must not be used if later files
/// exist.
#[test]
fn failed_base_and_delta_leave_no_outdated_journal_file() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    drop(open(&path, Durability::Power));
    let disk = DirectoryBackend::open(&path, PART_BYTES, Access::ReadWrite);
    let (disk, blocker) = BlockingBackend::new(disk.expect("the store"));
    let opener = std::thread::spawn(move || {
        blocker.wait_reached();
        blocker.open();
    });
    let store =
        Store::open_with_backend(Arc::new(disk), options(Durability::Power)).expect("a store");
    fail_delta(&store, || {
        let base = store.checkpoint_base();
        assert!(
            matches!(base, Err(StoreError::LockTimeout { .. })),
            "{base:?}"
        );
        store.checkpoint_delta()
    });
    opener.join().expect("a journal was made");
    stamp(&store, 7..8, 3);
    store.checkpoint_delta().expect("a delta");
    let failed = store.checkpoint_base();
    assert!(
        matches!(failed, Err(StoreError::Backend { .. })),
        "{failed:?}"
    );
    stamp(&store, 8..9, 4);
    store.checkpoint_delta().expect("a delta");
    drop(store);
    let store = open(&path, Durability::Power);
    let expected = |page| match page {
        7 => 3,
        8 => 4,
        _ => 2,
    };
    assert!(stamps(&store).into_iter().eq((0..PAGES).map(expected)));
}
