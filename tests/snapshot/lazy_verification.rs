//! Corruption in a heap that was mapped and not read: it gets no new checksum in the other heap
//! [I5].
#![expect(unsafe_code, reason = "the heap is mapped")]

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use flatspan::snapshot::{
    CorruptionCause, HeapName, LogicalFile, OnClose, Store, StoreError, StoreOptions,
    TrackerChoice, WriteMode,
};

use crate::fixture::all_files;
use crate::support;

const PAGE: u64 = 4096;
const PAGES: u64 = 60;
const METADATA: u64 = 64 << 10;

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(16 << 20)
        .part_bytes(1 << 20)
        .initial_bytes(PAGES * PAGE)
}

fn mapped() -> StoreOptions {
    // SAFETY: nothing truncates the files while a store is open, and only tests read all of them.
    // Flipped bits change bytes that the kernel loads or that are read as bytes.
    unsafe { options().restore_by_map() }
}

fn open(path: &Path, options: StoreOptions) -> Store {
    Store::open(path, options).expect("a store")
}

fn fill(store: &Store, page: u64, byte: u8) {
    store
        .transaction(|tx| tx.write_at(page * PAGE, &[byte; 4096]))
        .expect("a transaction");
}

fn first_bytes(store: &Store) -> Vec<u8> {
    let bytes = store.view(|bytes| bytes.iter().step_by(4096).copied().collect());
    bytes.expect("a view")
}

fn file(path: &Path, heap: HeapName) -> PathBuf {
    path.join(LogicalFile::Heap(heap).part_name(0))
}

/// Flips a bit of a page.
fn corrupt_page(path: &Path, heap: HeapName, page: u64) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(file(path, heap));
    let file = file.expect("a heap");
    let mut byte = [0];
    let at = METADATA + page * PAGE + 99;
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 8], at).expect("written");
}

/// Creates a store in which every page `n` holds `n + 1`, in both heaps, and closes it. Returns the
/// newer heap.
fn closed(path: &Path) -> HeapName {
    let store = open(path, options());
    for round in 0..2 {
        for page in 0..PAGES {
            fill(&store, page, page as u8 + 1);
        }
        fill(&store, 0, 1 + round);
        store.checkpoint_base().expect("a base");
    }
    fill(&store, 0, 1);
    store.close().expect("closed");
    let store = open(path, options());
    let heap = store.open_report().heap;
    store.close().expect("closed");
    heap
}

fn expected(changed: &[(usize, u8)]) -> Vec<u8> {
    let mut expected: Vec<u8> = (1..=PAGES as u8).collect();
    for (page, byte) in changed {
        expected[*page] = *byte;
    }
    expected
}

fn assert_poisoned(store: &Store) {
    let refused = store.checkpoint_base();
    assert!(
        matches!(refused, Err(StoreError::Poisoned { .. })),
        "{refused:?}"
    );
    let refused = store.transaction(|tx| tx.write_at(0, &[1]));
    assert!(
        matches!(refused, Err(StoreError::Poisoned { .. })),
        "{refused:?}"
    );
}

#[test]
fn i05_corruption_in_a_mapped_heap_is_found_before_the_other_heap_is_written() {
    for corrupt in [7, 30, PAGES - 1] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        let heap = closed(&path);
        corrupt_page(&path, heap, corrupt);
        let other = |files: Vec<(String, Vec<u8>)>| -> Vec<_> {
            let name = format!("-{}.", heap.other());
            let files = files.into_iter();
            files.filter(|(file, _)| file.contains(&name)).collect()
        };
        let before = other(all_files(&path));
        let store = open(&path, mapped());
        assert!(
            !store.open_report().fully_verified,
            "{:?}",
            store.open_report()
        );
        fill(&store, 20, 200);
        let error = store.checkpoint_base().expect_err("all pages are verified");
        assert!(
            matches!(&error, StoreError::Corrupt { file: array, cause: CorruptionCause::PageChecksum { page }, .. }
                if *array == LogicalFile::Heap(heap) && *page == corrupt),
            "{error:?}"
        );
        assert_poisoned(&store);
        assert!(other(all_files(&path)) == before);
        drop(store);
        // The other heap has the written bytes of that page, and the journal has the rest.
        let store = open(&path, options());
        let report = store.open_report();
        assert!(report.fallback_reason.is_some(), "{report:?}");
        assert_eq!(first_bytes(&store), expected(&[(20, 200)]));
    }
}

#[test]
fn i05_unchanged_bytes_are_not_copied_from_a_corrupt_page() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let heap = closed(&path);
    corrupt_page(&path, heap, 7);
    let options = mapped()
        .write_mode(WriteMode::Tracked)
        .tracker(TrackerChoice::HashCompare);
    let store = open(&path, options);
    assert!(!store.open_report().fully_verified);
    let inside = store.write_guard().expect("access lock is free");
    inside.write_at(20 * PAGE, &[200; 4096]).expect("written");
    drop(inside);
    let error = store.checkpoint_base().expect_err("all pages are verified");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    drop(store);
    let store = open(&path, self::options());
    assert_eq!(first_bytes(&store), expected(&[]));
}

/// Corruption after the verification, in the gap between two changed pages, which is written with
/// them.
#[test]
fn i05_page_corrupted_after_verification_gets_no_new_checksum() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let heap = closed(&path);
    let store = open(&path, mapped());
    fill(&store, 20, 200);
    store.checkpoint_base().expect("verified, into the other");
    corrupt_page(&path, heap, 22);
    // A large share of the image, so that gaps are written too.
    fill(&store, 23, 203);
    fill(&store, 25, 205);
    let error = store.checkpoint_base().expect_err("page 22 is between");
    assert!(
        matches!(error, StoreError::UntrackedChange { page, .. } if page == 22),
        "{error:?}"
    );
    assert_poisoned(&store);
    drop(store);
    let store = open(&path, options());
    assert_eq!(
        first_bytes(&store),
        expected(&[(20, 200), (23, 203), (25, 205)])
    );
}

/// Creates a store with only one heap, which is corrupt.
fn one_corrupt_heap(path: &Path) -> HeapName {
    closed(path);
    let store = open(path, options().on_close(OnClose::RemoveOlder));
    let heap = store.open_report().heap;
    store.close().expect("closed");
    assert!(!file(path, heap.other()).exists());
    corrupt_page(path, heap, 41);
    heap
}

fn assert_page_41(error: &StoreError) {
    assert!(
        matches!(
            error,
            StoreError::Corrupt {
                cause: CorruptionCause::PageChecksum { page },
                ..
            } if *page == 41
        ),
        "{error:?}"
    );
}

/// The whole image is copied if the other heap does not exist.
#[test]
fn i05_corruption_is_not_copied_into_a_recreated_heap() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let heap = one_corrupt_heap(&path);
    let store = open(&path, mapped().create_second_heap(false));
    fill(&store, 20, 200);
    let error = store.checkpoint_base().expect_err("all pages are verified");
    assert_page_41(&error);
    drop(store);
    assert!(!file(&path, heap.other()).exists());
    let error = Store::open(&path, options()).expect_err("no other heap exists");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn i05_corruption_is_not_copied_into_a_second_heap() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    one_corrupt_heap(&path);
    let store = open(&path, mapped().create_second_heap(false));
    let error = store
        .create_second_heap()
        .expect_err("all pages are verified");
    assert_page_41(&error);
    assert_poisoned(&store);
    drop(store);
    let error = Store::open(&path, options()).expect_err("no other heap exists");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn i05_mapped_heap_is_verified_at_once_after_an_unclean_shutdown() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    closed(&path);
    let store = open(&path, mapped());
    let heap = store.open_report().heap;
    drop(store);
    let store = open(&path, mapped());
    assert!(store.open_report().fully_verified && !store.open_report().clean_shutdown);
    drop(store);
    corrupt_page(&path, heap, 7);
    let store = open(&path, mapped());
    let report = store.open_report();
    let why = report
        .fallback_reason
        .as_deref()
        .expect("fallback was used");
    assert!(
        why.contains("page 7 does not have its checksum"),
        "{report:?}"
    );
    assert_eq!(first_bytes(&store), expected(&[]));
}

#[test]
fn i05_first_base_after_lazy_opening_verifies_everything_once() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let heap = closed(&path);
    let store = open(&path, mapped());
    assert_eq!(store.open_report().heap, heap);
    for round in 1..4 {
        fill(&store, 20, round);
        store.checkpoint_base().expect("a base");
    }
    store.close().expect("closed");
    assert_eq!(first_bytes(&open(&path, options())), expected(&[(20, 3)]));
}
