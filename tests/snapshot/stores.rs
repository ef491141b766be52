//! Stores that are opened, changed, checkpointed and opened again.

use std::path::Path;

use flatspan::snapshot::{
    CheckpointKind, HeapName, OnClose, Store, StoreError, StoreOptions, WriteMode,
};

use crate::support;

const PAGE: u64 = 4096;

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(64 << 20)
        .part_bytes(64 << 10)
        .initial_bytes(40 * PAGE)
}

fn open(path: &Path, options: StoreOptions) -> Store {
    Store::open(path, options).expect("a store")
}

/// Leaves the store as a crash would.
fn crash(store: Store) {
    drop(store);
}

fn fill(store: &Store, page: u64, byte: u8) {
    store
        .transaction(|tx| tx.write_at(page * PAGE, &[byte; 4096]))
        .expect("a transaction");
}

fn byte(store: &Store, offset: u64) -> u8 {
    store.view(|bytes| bytes[offset as usize]).expect("a view")
}

#[test]
fn transactions_are_restored_without_a_checkpoint() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = open(&path, options());
    assert!(store.open_report().created);
    assert_eq!(store.len(), 40 * PAGE);
    fill(&store, 3, 7);
    fill(&store, 39, 9);
    crash(store);
    let store = open(&path, options());
    let report = store.open_report();
    assert!(
        !report.created && !report.clean_shutdown && report.fully_verified,
        "{report:?}"
    );
    assert_eq!((report.replayed_records, report.sequence.get()), (2, 2));
    assert_eq!(
        (byte(&store, 3 * PAGE), byte(&store, 39 * PAGE + 4095)),
        (7, 9)
    );
    assert_eq!(byte(&store, 4 * PAGE), 0);
}

#[test]
fn checkpoints_alternate_between_the_heaps_and_shorten_the_journal() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = open(&path, options());
    for round in 1..=5_u8 {
        fill(&store, u64::from(round), round);
        let report = store.checkpoint().expect("a checkpoint");
        assert_eq!(report.kind, CheckpointKind::Base);
        assert_eq!(store.generation(), report.generation);
        let nothing = store.checkpoint().expect("a checkpoint");
        assert_eq!(nothing.kind, CheckpointKind::Unchanged);
    }
    // The first base of a heap writes all content, later ones the changes of two intervals.
    fill(&store, 6, 6);
    let report = store.checkpoint().expect("a checkpoint");
    assert_eq!(report.written_pages, 2, "{report:?}");
    crash(store);
    let store = open(&path, options());
    assert_eq!(
        store.open_report().replayed_records,
        0,
        "{:?}",
        store.open_report()
    );
    for page in 1..=6_u8 {
        assert_eq!(byte(&store, u64::from(page) * PAGE), page);
    }
    // Continues from the restored state.
    fill(&store, 7, 7);
    let report = store.checkpoint().expect("a checkpoint");
    assert_eq!(report.written_pages, 2, "{report:?}");
    store.close().expect("closed");
    let store = open(&path, options());
    assert!(store.open_report().clean_shutdown);
    assert_eq!((byte(&store, 6 * PAGE), byte(&store, 7 * PAGE)), (6, 7));
}

#[test]
fn failed_or_panicked_transaction_is_rolled_back() {
    let dir = support::temp_dir();
    let store = open(&dir.path().join("store"), options());
    fill(&store, 1, 1);
    let failed: Result<(), StoreError> = store.transaction(|tx| {
        tx.write_at(PAGE + 10, &[5; 100])?;
        tx.resize(10 * PAGE)?;
        tx.resize(100 * PAGE)?;
        tx.bytes_mut(50 * PAGE..60 * PAGE)?.fill(3);
        tx.discard(0..4 * PAGE)?;
        tx.write_at(u64::MAX, &[1])
    });
    assert!(
        matches!(failed, Err(StoreError::OutOfBounds { .. })),
        "{failed:?}"
    );
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(store.transaction(|tx| -> Result<(), StoreError> {
            tx.write_at(PAGE, &[8; 8192])?;
            panic!("in the middle");
        }));
    }));
    assert!(caught.is_err());
    assert_eq!(store.len(), 40 * PAGE);
    store
        .view(|bytes| {
            assert!(bytes[..4096].iter().all(|byte| *byte == 0));
            assert!(bytes[4096..8192].iter().all(|byte| *byte == 1));
            assert!(bytes[8192..].iter().all(|byte| *byte == 0));
        })
        .expect("a view");
    fill(&store, 2, 2);
    crash(store);
    let store = open(&dir.path().join("store"), options());
    assert_eq!((byte(&store, PAGE), byte(&store, 2 * PAGE)), (1, 2));
    assert_eq!(store.len(), 40 * PAGE);
}

#[test]
fn i09_store_is_zero_after_shrinking_and_growing() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = open(&path, options());
    for page in 0..40 {
        fill(&store, page, 1 + page as u8);
    }
    store.checkpoint().expect("a checkpoint");
    store.checkpoint_base().expect("call succeeds");
    fill(&store, 0, 99);
    store.checkpoint().expect("both heaps have all");
    let shrink = |to: u64| {
        let done: Result<(), StoreError> = store.transaction(|tx| tx.resize(to * PAGE));
        done.expect("resized");
    };
    shrink(10);
    store.checkpoint().expect("a checkpoint");
    shrink(60);
    let one: Result<(), StoreError> = store.transaction(|tx| {
        tx.resize(5 * PAGE)?;
        tx.resize(50 * PAGE)?;
        tx.write_at(49 * PAGE, &[5])
    });
    one.expect("resized");
    let look = |store: &Store| {
        store
            .view(|bytes| {
                assert_eq!(bytes.len() as u64, 50 * PAGE);
                assert_eq!(bytes[4 * 4096], 5);
                let rest = &bytes[5 * 4096..49 * 4096];
                assert!(rest.iter().all(|byte| *byte == 0));
                assert_eq!(bytes[49 * 4096], 5);
            })
            .expect("a view");
    };
    look(&store);
    crash(store);
    let store = open(&path, options());
    look(&store);
    for _ in 0..3 {
        store
            .transaction(|tx| tx.write_at(1, &[3]))
            .map_err(|error: StoreError| error)
            .expect("a change");
        store.checkpoint().expect("a checkpoint");
        crash(open_again(&path, &store));
    }
    store.close().expect("closed");
    look(&open(&path, options()));
}

/// Opens a copy, because the store itself is still open.
fn open_again(path: &Path, _open: &Store) -> Store {
    let refused = Store::open(path, options());
    assert!(
        matches!(refused, Err(StoreError::InUse { pid: Some(_), .. })),
        "{refused:?}"
    );
    Store::open(path.with_extension("other"), options()).expect("another")
}

#[test]
fn tracked_memory_is_checkpointed_by_page_images() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let options = || {
        options()
            .write_mode(WriteMode::Tracked)
            .initial_bytes(4000 * PAGE)
    };
    let store = open(&path, options());
    let write = |store: &Store, page: u64, byte: u8| {
        let inside = store.write_guard().expect("access lock is free");
        inside
            .write_at(page * PAGE, &[byte; 4096])
            .expect("written");
    };
    let read = |store: &Store, page: u64| {
        let mut byte = [0];
        let inside = store.write_guard().expect("access lock is free");
        inside.read_at(page * PAGE, &mut byte).expect("read");
        byte[0]
    };
    write(&store, 5, 5);
    write(&store, 6, 6);
    let report = store.checkpoint().expect("a checkpoint");
    assert_eq!(
        (report.kind, report.written_pages),
        (CheckpointKind::Delta, 2),
        "{report:?}"
    );
    write(&store, 7, 7);
    assert_eq!(store.checkpoint().expect("one").written_pages, 1);
    write(&store, 8, 8);
    crash(store);
    let store = open(&path, options());
    let found = [5, 6, 7, 8].map(|page| read(&store, page));
    assert_eq!(found, [5, 6, 7, 0], "{:?}", store.open_report());
    write(&store, 9, 9);
    let base = store.checkpoint_base().expect("a base");
    assert_eq!(base.kind, CheckpointKind::Base);
    write(&store, 10, 10);
    store.close().expect("closed");
    let store = open(&path, options().on_close(OnClose::RemoveOlder));
    let found = [5, 6, 7, 8, 9, 10].map(|page| read(&store, page));
    assert_eq!(found, [5, 6, 7, 0, 9, 10], "{:?}", store.open_report());
    let heap = store.open_report().heap;
    write(&store, 11, 11);
    store.close().expect("closed");
    let store = open(&path, options());
    assert_eq!(store.open_report().heap, heap.other());
    let gone = path.join(format!("heap-{heap}.00000"));
    assert!(!gone.exists(), "{}", gone.display());
    assert_eq!(read(&store, 11), 11);
    assert_eq!(HeapName::A.other(), HeapName::B);
}
