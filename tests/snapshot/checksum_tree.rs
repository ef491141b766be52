//! Checksum trees of stores: location, amount of data read, and content [I7].
#![expect(unsafe_code, reason = "a heap is mapped")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flatspan::mapping_cache::Access;
use flatspan::snapshot::{DirectoryBackend, Store, StoreError, StoreOptions};

use crate::support;
use crate::watched_backend::{Call, Watch, WatchedBackend};

const PAGE: u64 = 4096;
const PART_BYTES: u64 = 64 << 10;

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(64 << 20)
        .part_bytes(PART_BYTES)
}

fn resize(store: &Store, pages: u64) {
    let resized: Result<(), StoreError> = store.transaction(|tx| tx.resize(pages * PAGE));
    resized.expect("resized");
}

fn fill(store: &Store, page: u64) {
    store
        .transaction(|tx| tx.write_at(page * PAGE, &content(page)))
        .expect("a transaction");
}

fn content(page: u64) -> Vec<u8> {
    page.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .to_le_bytes()
        .repeat(512)
}

/// Returns the content of a logical file.
fn array(path: &Path, stem: &str) -> Vec<u8> {
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.file_stem().is_some_and(|found| found == stem) {
            parts.insert(path.clone(), fs::read(path).expect("a part"));
        }
    }
    parts.into_values().flatten().collect()
}

#[test]
fn i07_growth_overwrites_neither_pages_nor_tree() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options().initial_bytes(3 * PAGE)).expect("a store");
    (0..3).for_each(|page| fill(&store, page));
    let mut there = vec![0, 1, 2];
    // Across the end of a part, of a leaf of the tree, and of many leaves.
    for pages in [4, 15, 512, 513, 1500, 9000] {
        // Into both heaps, so that each holds the shorter image when the other one grows.
        store.checkpoint_base().expect("a base");
        fill(&store, 0);
        store.checkpoint_base().expect("a base");
        let before: Vec<_> = ["heap-a", "heap-b", "table-a", "table-b"]
            .iter()
            .map(|stem| (*stem, array(&path, stem)))
            .collect();
        resize(&store, pages);
        fill(&store, pages - 1);
        there.push(pages - 1);
        store.checkpoint_base().expect("a base");
        fill(&store, 0);
        store.checkpoint_base().expect("a base");
        for (stem, before) in before {
            let now = array(&path, stem);
            if stem.starts_with("heap") {
                assert!(now[65536..].starts_with(&before[65536..]), "{stem} {pages}");
            } else {
                let leaf = 3 * PAGE as usize..3 * PAGE as usize + 3 * 8;
                assert_eq!(now[leaf.clone()], before[leaf], "{stem} {pages}");
            }
        }
        drop(array(&path, "heap-a"));
    }
    drop(store);
    for heap in ["heap-a", "heap-b"] {
        // Uses each heap alone, by corrupting the other one.
        let copy = dir.path().join(heap);
        fs::create_dir(&copy).expect("a directory");
        for entry in fs::read_dir(&path).expect("a directory") {
            let entry = entry.expect("an entry");
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with(heap) {
                fs::copy(entry.path(), copy.join(name)).expect("copied");
            }
        }
        let store = Store::open(&copy, options()).expect("the other heap");
        let found: Vec<u64> = store
            .view(|bytes| {
                let pages = bytes.chunks(4096).enumerate();
                let pages = pages.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
                pages
                    .map(|(page, bytes)| {
                        assert!(bytes == content(page as u64), "{page}");
                        page as u64
                    })
                    .collect()
            })
            .expect("a view");
        // Page 0 consists of zeros.
        assert_eq!(found, there[1..], "{heap} is lost");
    }
}

/// Counts the bytes that are read.
#[derive(Debug, Default)]
struct Counting {
    read_bytes: AtomicU64,
}

impl Watch for Counting {
    fn before(&self, call: Call) -> io::Result<()> {
        if let Call::Read { bytes } = call {
            self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Returns the bytes read to open by map a store of `pages` pages after a clean shutdown.
fn read_to_open(pages: u64) -> u64 {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options().initial_bytes(pages * PAGE)).expect("a store");
    (1..pages).step_by(7).for_each(|page| {
        let mut tx = store.begin().expect("no transaction is open");
        tx.write_at(page * PAGE, &content(page))
            .expect("the page is in the region");
        tx.commit_deferred().expect("the journal is intact");
    });
    store.close().expect("closed");
    let disk = DirectoryBackend::open(&path, PART_BYTES, Access::ReadWrite).expect("its disk");
    let disk = Arc::new(WatchedBackend::over(disk, Counting::default()));
    // SAFETY: nothing changes or truncates the files while the store is open.
    let options = unsafe { options().restore_by_map() };
    let store =
        Store::open_with_backend(Arc::<WatchedBackend<_>>::clone(&disk), options).expect("a store");
    assert!(!store.open_report().fully_verified);
    let read = disk.watch.read_bytes.load(Ordering::Relaxed);
    let last = (1..pages).step_by(7).last().expect("a page");
    let found = store.view(|bytes| bytes[(last * PAGE) as usize..].starts_with(&content(last)));
    assert!(found.expect("a view"));
    read
}

#[test]
fn i07_opening_by_map_reads_the_same_amount_of_a_longer_tree() {
    assert_eq!(read_to_open(10), read_to_open(6000));
}

#[test]
fn i07_page_hashes_are_seeded_by_the_store_id() {
    let table = || {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        let store = Store::open(&path, options().initial_bytes(8 * PAGE)).expect("a store");
        (0..8).for_each(|page| fill(&store, page));
        store.close().expect("closed");
        array(&path, "table-b")
    };
    let (one, other) = (table(), table());
    let leaf = |table: &[u8]| -> Vec<u64> {
        let leaf = &table[3 * PAGE as usize..][..8 * 8];
        let words = leaf.chunks(8).map(|word| word.try_into().expect("8 bytes"));
        words.map(u64::from_le_bytes).collect()
    };
    let (one, other) = (leaf(&one), leaf(&other));
    assert_eq!((one[0], other[0]), (0, 0), "a page of zeros");
    for page in 1..8 {
        assert_ne!(one[page], other[page], "the same page in two stores");
        // All 64 bits are used.
        assert!(one[page] > 1 << 40 && other[page] > 1 << 40);
    }
}
