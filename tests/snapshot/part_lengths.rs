//! Conversion of a store to another part length.
#![expect(unsafe_code, reason = "restored by map")]

use std::fs;
use std::path::Path;

use flatspan::snapshot::{
    HeapName, Store, StoreError, StoreOptions, StoreReader, TrackerChoice, WriteMode,
};

use crate::support::temp_dir;

const PAGE: u64 = 4096;
const PAGES: u64 = 100;
const SHORT: u64 = 64 << 10;
const LONG: u64 = 256 << 10;

fn options() -> StoreOptions {
    StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .tracker(TrackerChoice::HashCompare)
        .reserve_bytes(64 << 20)
        .initial_bytes(PAGES * PAGE)
}

fn changing(part_bytes: u64) -> StoreOptions {
    options().part_bytes(part_bytes).convert_part_bytes(true)
}

fn open(path: &Path, options: StoreOptions) -> Store {
    Store::open(path, options).expect("a store")
}

fn write(store: &Store, page: u64, byte: u8) {
    let inside = store.write_guard().expect("access lock is free");
    inside
        .write_at(page * PAGE, &[byte; 4096])
        .expect("written");
}

fn first_bytes(store: &Store) -> Vec<u8> {
    let inside = store.write_guard().expect("access lock is free");
    let mut bytes = vec![0; inside.len() as usize];
    inside.read_at(0, &mut bytes).expect("read");
    bytes.chunks(4096).map(|page| page[0]).collect()
}

/// Returns the length of the first part of a heap; `None` if it does not exist.
fn part_bytes(path: &Path, heap: HeapName) -> Option<u64> {
    let part = path.join(format!("heap-{heap}.00000"));
    fs::metadata(part).ok().map(|found| found.len())
}

fn lengths(path: &Path) -> [Option<u64>; 2] {
    [HeapName::A, HeapName::B].map(|heap| part_bytes(path, heap))
}

/// Creates a store with both heaps and a journal of several parts.
fn filled(path: &Path, length: u64) -> Vec<u8> {
    let store = open(path, options().part_bytes(length));
    let mut expected = vec![0; PAGES as usize];
    for round in 0..2 {
        for page in 0..PAGES {
            expected[page as usize] = 1 + page as u8 + round;
            write(&store, page, expected[page as usize]);
        }
        store.checkpoint_base().expect("a base");
    }
    for page in 0..PAGES / 2 {
        expected[page as usize] = 200;
        write(&store, page, 200);
    }
    store.checkpoint_delta().expect("a delta");
    expected
}

fn verify(path: &Path) {
    let reader = StoreReader::open(path).expect("a store");
    let verified = reader
        .verify(|_| std::ops::ControlFlow::Continue(()))
        .expect("verification runs");
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}

#[test]
fn other_part_length_is_rejected_with_advice() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    filled(&path, SHORT);
    let refused = Store::open(&path, options().part_bytes(LONG));
    let Err(StoreError::InvalidOption { option, reason }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(option, "part_bytes");
    assert!(
        reason.contains("65536") && reason.contains("convert_part_bytes"),
        "{reason}"
    );
    assert_eq!(lengths(&path), [Some(SHORT); 2]);
}

#[test]
fn base_checkpoints_convert_one_heap_after_the_other() {
    for (from, to) in [(SHORT, LONG), (LONG, SHORT)] {
        let dir = temp_dir();
        let path = dir.path().join("store");
        let mut expected = filled(&path, from);
        let store = open(&path, changing(to));
        assert_eq!(first_bytes(&store), expected);
        assert_eq!(lengths(&path), [Some(from); 2], "opening converts a heap");
        let older = store.open_report().heap.other();
        for (page, there) in [(3, older), (4, older.other())] {
            expected[page] = 77;
            write(&store, page as u64, 77);
            let base = store.checkpoint_base().expect("a base");
            assert_eq!(base.written_pages, PAGES, "not every page is rewritten");
            assert_eq!(part_bytes(&path, there), Some(to));
            verify(&path);
            // Each copy is as after a crash; another process opens it without the option.
            let copy = dir.path().join(format!("copy-{page}"));
            copy_all(&path, &copy);
            let other = open(&copy, options());
            assert_eq!(first_bytes(&other), expected, "{:?}", other.open_report());
            write(&other, 9, 9);
            other.close().expect("closed");
            assert_eq!(first_bytes(&open(&copy, options()))[9], 9);
            verify(&copy);
        }
        write(&store, 5, 78);
        assert_eq!(store.checkpoint_base().expect("a base").written_pages, 2);
        assert_eq!(lengths(&path), [Some(to); 2]);
        drop(store);
        assert_eq!(
            first_bytes(&open(&path, options().part_bytes(to)))[3..6],
            [77, 77, 78]
        );
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn second_heap_is_created_with_the_new_part_length() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let expected = filled(&path, SHORT);
    let store = open(&path, changing(LONG));
    for made in [true, true, false] {
        assert_eq!(store.create_second_heap().expect("a copy"), made);
        verify(&path);
    }
    assert_eq!(lengths(&path), [Some(LONG); 2]);
    drop(store);
    assert_eq!(first_bytes(&open(&path, options())), expected);
}

#[test]
fn i10_mapped_heap_keeps_its_length() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let mut expected = filled(&path, SHORT);
    // SAFETY: no other process changes the files of the store.
    let by_map = || unsafe { changing(LONG).restore_by_map() };
    let store = open(&path, by_map());
    let mapped_heap = store.open_report().heap;
    for page in [60, 61] {
        expected[page] = 88;
        write(&store, page as u64, 88);
        store.checkpoint_base().expect("a base");
    }
    assert_eq!(part_bytes(&path, mapped_heap), Some(SHORT));
    assert_eq!(part_bytes(&path, mapped_heap.other()), Some(LONG));
    assert_eq!(first_bytes(&store), expected);
    drop(store);
    verify(&path);
    assert_eq!(first_bytes(&open(&path, by_map())), expected);
}
