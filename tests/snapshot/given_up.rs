//! Delta checkpoints that are given up in the middle, when part of their records is written.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flatspan::mapping_cache::Access;
use flatspan::snapshot::{
    Changes, CheckpointReport, Durability, GroupDisk, SnapshotError, Store, StoreOptions,
};

use crate::gated_disk::GatedDisk;
use crate::support;

const PAGE: u64 = 4096;
const PART_BYTES: u64 = 4 << 20;
/// More than are copied while writers stand.
const PAGES: u64 = 3000;

fn options(durability: Durability) -> StoreOptions {
    StoreOptions::default()
        .changes(Changes::Writers)
        .durability(durability)
        .gate_timeout(Duration::from_millis(50))
        .part_bytes(PART_BYTES)
        .initial_bytes(PAGES * PAGE)
}

fn open(path: &Path, durability: Durability) -> Store {
    Store::open(path, options(durability)).expect("a store")
}

fn stamp(store: &Store, pages: impl Iterator<Item = u64>, value: u8) {
    let inside = store.enter().expect("the gate");
    for page in pages {
        inside
            .write(page * PAGE + page % PAGE, &[value])
            .expect("a page");
    }
}

fn stamps(store: &Store) -> Vec<u8> {
    let inside = store.enter().expect("the gate");
    let stamp = |page: u64| {
        let mut byte = [0];
        let read = inside.read(page * PAGE + page % PAGE, &mut byte);
        read.expect("a page");
        byte[0]
    };
    (0..PAGES).map(stamp).collect()
}

/// Every base fails, after the journal was rolled.
fn without_bases(path: &Path, durability: Durability) -> Store {
    drop(open(path, durability));
    let disk = GroupDisk::open(path, PART_BYTES, Access::ReadWrite);
    let disk = GatedDisk::open(disk.expect("the store"));
    disk.set_full(true);
    Store::open_on(Arc::new(disk), options(durability)).expect("a store")
}

fn fail_to_make_a_base(store: &Store) {
    let failed = store.checkpoint_base();
    assert!(
        matches!(failed, Err(SnapshotError::Disk { .. })),
        "{failed:?}"
    );
}

/// A store with a delta, and then one that is given up, since a writer does not leave.
fn with_one_given_up(path: &Path, durability: Durability) -> Store {
    let store = open(path, durability);
    give_one_up(&store);
    store
}

fn give_one_up(store: &Store) {
    give_up(store, || store.checkpoint_delta());
}

/// All pages are 1 in a delta, and then 2; then this is tried beside a writer that does not leave.
fn give_up(store: &Store, checkpoint: impl Fn() -> Result<CheckpointReport, SnapshotError>) {
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
    checkpoint: impl Fn() -> Result<CheckpointReport, SnapshotError>,
) {
    let held = std::thread::scope(|scope| {
        let (entered, inside) = std::sync::mpsc::channel();
        let (leave, asked) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let _inside = store.enter().expect("the gate");
            entered.send(()).expect("somebody waits");
            // Ends when the other end is dropped.
            let _ = asked.recv();
        });
        inside.recv().expect("a writer");
        let held = checkpoint();
        drop(leave);
        held
    });
    assert!(
        matches!(held, Err(SnapshotError::GateTimeout { .. })),
        "{held:?}"
    );
}

#[test]
fn what_was_written_of_it_never_counts() {
    for durability in [Durability::Power, Durability::Process] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        drop(with_one_given_up(&path, durability));
        let store = open(&path, durability);
        let report = store.open_report();
        let cut: u64 = report.cuts.iter().map(|cut| cut.bytes).sum();
        assert!(cut > 1 << 20, "records are written early: {report:?}");
        assert!(stamps(&store).iter().all(|stamp| *stamp == 1));
    }
}

#[test]
fn the_next_delta_goes_on_without_it() {
    for durability in [Durability::Power, Durability::Process] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        let store = with_one_given_up(&path, durability);
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
fn the_next_base_goes_on_without_it() {
    for durability in [Durability::Power, Durability::Process] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        let store = with_one_given_up(&path, durability);
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
fn a_base_that_fails_after_it_seals_nothing_that_was_not_complete() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = without_bases(&path, Durability::Power);
    give_one_up(&store);
    fail_to_make_a_base(&store);
    stamp(&store, 8..9, 4);
    store.checkpoint_delta().expect("a delta");
    drop(store);
    let store = open(&path, Durability::Power);
    let expected = |page| if page == 8 { 4 } else { 2 };
    assert!(stamps(&store).into_iter().eq((0..PAGES).map(expected)));
}

#[test]
fn one_that_is_given_up_after_a_base_that_failed_keeps_the_seal() {
    for durability in [Durability::Power, Durability::Process] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        let store = without_bases(&path, durability);
        stamp(&store, 0..PAGES, 1);
        store.checkpoint_delta().expect("a delta");
        fail_to_make_a_base(&store);
        // So few that they are not written before it is given up, nor is the seal.
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

/// The base before it had made the next file of the journal, which must not be used when later ones are there.
#[test]
fn a_base_and_a_delta_that_are_given_up_leave_no_file_that_later_ones_overtake() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    drop(open(&path, Durability::Power));
    let disk = GroupDisk::open(&path, PART_BYTES, Access::ReadWrite);
    let (disk, gate) = GatedDisk::new(disk.expect("the store"));
    let opener = std::thread::spawn(move || {
        gate.wait_reached();
        gate.open();
    });
    let store = Store::open_on(Arc::new(disk), options(Durability::Power)).expect("a store");
    give_up(&store, || {
        let base = store.checkpoint_base();
        assert!(
            matches!(base, Err(SnapshotError::GateTimeout { .. })),
            "{base:?}"
        );
        store.checkpoint_delta()
    });
    opener.join().expect("a journal was made");
    stamp(&store, 7..8, 3);
    store.checkpoint_delta().expect("a delta");
    let failed = store.checkpoint_base();
    assert!(
        matches!(failed, Err(SnapshotError::Disk { .. })),
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
