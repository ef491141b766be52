//! Creation of the second heap of a store that has one heap.
#![expect(unsafe_code, reason = "restored by map")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flatspan::snapshot::{HeapName, OnClose, Store, StoreError, StoreOptions};

use crate::support::temp_dir;

const PAGE: u64 = 4096;
const PAGES: u64 = 40;

/// Options without background work.
fn options() -> StoreOptions {
    StoreOptions::default()
        .on_close(OnClose::RemoveOlder)
        .reserve_bytes(64 << 20)
        .part_bytes(64 << 10)
        .initial_bytes(PAGES * PAGE)
        .journal_bytes_max(u64::MAX)
}

fn by_map() -> StoreOptions {
    // SAFETY: no other process changes the files of the store.
    unsafe { options().restore_by_map() }
}

fn fill(store: &Store, page: u64, byte: u8) {
    store
        .transaction(|tx| tx.write_at(page * PAGE, &[byte; 4096]))
        .map_err(|error: StoreError| error)
        .expect("a transaction");
}

fn byte_of(store: &Store, page: u64) -> u8 {
    let bytes = store.view(|bytes| bytes[(page * PAGE) as usize]);
    bytes.expect("a view")
}

/// Creates a store with one heap, in which page N is filled with N + 1.
fn with_one_heap(path: &Path) -> HeapName {
    let store = Store::open(path, options()).expect("a store");
    (0..PAGES).for_each(|page| fill(&store, page, 1 + page as u8));
    store.close().expect("closed");
    let there = [HeapName::A, HeapName::B].map(|heap| part(path, heap, 0).exists());
    match there {
        [true, false] => HeapName::A,
        [false, true] => HeapName::B,
        other => panic!("{other:?}"),
    }
}

fn part(path: &Path, heap: HeapName, number: u32) -> PathBuf {
    path.join(format!("heap-{heap}.{number:05}"))
}

#[test]
fn first_base_after_creating_the_second_heap_writes_only_changes() {
    for options in [options, by_map] {
        let dir = temp_dir();
        let path = dir.path().join("store");
        let heap = with_one_heap(&path);
        // Opens the store without creating a second heap.
        let store = Store::open(&path, options()).expect("a store");
        fill(&store, 3, 99);
        let report = store.checkpoint().expect("a checkpoint");
        assert_eq!(report.written_pages, PAGES, "{report:?}");
        store.close().expect("closed");
        assert!(!part(&path, heap, 0).exists());

        let store = Store::open(&path, options()).expect("a store");
        fill(&store, 4, 98);
        let before = store.generation();
        assert!(store.create_second_heap().expect("made"));
        assert!(store.generation() > before, "the base has a new generation");
        assert!(!store.create_second_heap().expect("file exists"));
        fill(&store, 5, 97);
        // First the pages 4, 5 and 30, then the pages of two intervals, which are far apart.
        for (page, pages) in [(30, 3), (20, 4), (10, 2)] {
            fill(&store, page, 96);
            let report = store.checkpoint().expect("a checkpoint");
            assert_eq!(report.written_pages, pages, "{page}: {report:?}");
        }
        drop(store);
        let store = Store::open(&path, options()).expect("a store");
        let found = [3, 4, 5, 10, 20, 30, 31].map(|page| byte_of(&store, page));
        assert_eq!(found, [99, 98, 97, 96, 96, 96, 32]);
    }
}

#[test]
fn empty_store_gets_no_second_heap() {
    let dir = temp_dir();
    let store = Store::open(dir.path().join("store"), options()).expect("a store");
    assert!(!store.create_second_heap().expect("not needed"));
}

#[test]
fn i05_unverified_pages_are_verified_before_they_are_copied() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let heap = with_one_heap(&path);
    let file = File::options().write(true).open(part(&path, heap, 1));
    file.expect("a part")
        .write_all_at(&[0xEE], 5 * PAGE + 7)
        .expect("corrupt");
    let store = Store::open(&path, by_map()).expect("closed store opens");
    assert!(!store.open_report().fully_verified);
    let refused = store.create_second_heap();
    assert!(
        matches!(refused, Err(StoreError::Corrupt { .. })),
        "{refused:?}"
    );
    let poisoned = store.checkpoint();
    assert!(
        matches!(poisoned, Err(StoreError::Poisoned { .. })),
        "{poisoned:?}"
    );
}

#[test]
fn second_heap_is_created_in_the_background() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    with_one_heap(&path);
    let asked: [fn() -> StoreOptions; 3] = [
        || options().create_second_heap(true),
        // With background checkpoints the second heap is created without a request.
        || options().journal_bytes_max(1 << 30),
        || options().checkpoint_interval(Duration::from_secs(1000)),
    ];
    for options in asked {
        let store = Store::open(&path, options()).expect("a store");
        let before = store.open_report().generation;
        let deadline = Instant::now() + Duration::from_secs(60);
        while store.generation() == before {
            assert!(Instant::now() < deadline, "the second heap is not created");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!store.create_second_heap().expect("file exists"));
        fill(&store, 3, 3);
        store.close().expect("closed");
    }
    let refused = options()
        .journal_bytes_max(1 << 30)
        .create_second_heap(false);
    let store = Store::open(&path, refused).expect("a store");
    let other = store.open_report().heap.other();
    store.close().expect("closed");
    assert!(!part(&path, other, 0).exists());
}

/// A reader of the old second heap delays its creation. This is no error and ends soon.
#[test]
fn readers_of_the_second_heap_delay_its_creation_without_an_error() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let other = match with_one_heap(&path) {
        HeapName::A => HeapName::B,
        HeapName::B => HeapName::A,
    };
    let lock = path.join(format!("lock-{other}"));
    let reader = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock);
    let reader = reader.expect("a lock");
    reader.lock_shared().expect("a reader");
    let (says, errors) = std::sync::mpsc::channel();
    let options = options()
        .create_second_heap(true)
        .reader_timeout(Duration::from_millis(10))
        .on_background_error(move |error| drop(says.send(error.to_string())));
    let store = Store::open(&path, options).expect("a store");
    let before = store.open_report().generation;
    // An explicit request returns an error.
    let refused = store
        .create_second_heap()
        .expect_err("reader holds the heap");
    assert_eq!(refused.kind(), std::io::ErrorKind::ResourceBusy);
    // Several attempts.
    for number in 0..30 {
        fill(&store, 5, number);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(store.background_error().is_none() && errors.try_recv().is_err());
    assert!(
        !part(&path, other, 0).exists(),
        "heap was created despite the reader"
    );
    drop(reader);
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.generation() == before {
        assert!(Instant::now() < deadline, "the second heap is not created");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(part(&path, other, 0).exists() && errors.try_recv().is_err());
}
