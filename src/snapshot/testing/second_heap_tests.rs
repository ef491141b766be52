//! Tests of the creation of the second heap.

use std::path::Path;
use std::time::Duration;

use crate::snapshot::checkpoint::{CheckpointKind, CopyProgress, StoreInner};
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::heap::HeapState;
use crate::snapshot::modes::{OnClose, WriteMode};
use crate::snapshot::options::StoreOptions;
use crate::snapshot::store::{Store, open_in_directory};

/// Pages for three steps, and one step for the checksum tree.
const PAGES: u64 = 40 << 8;

fn options() -> StoreOptions {
    StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .on_close(OnClose::RemoveOlder)
        .reserve_bytes(64 << 20)
        .initial_bytes(PAGES * PAGE_BYTES as u64)
}

fn opened(path: &Path) -> StoreInner {
    open_in_directory(path, options())
        .expect("the store opens")
        .0
}

fn put(inner: &StoreInner, page: u64, byte: u8) {
    let at = page as usize * PAGE_BYTES;
    inner
        .parts
        .memory
        .region
        .write_at(at, &[byte; PAGE_BYTES])
        .expect("the page is in the region");
}

fn get(inner: &StoreInner, page: u64) -> u8 {
    let mut byte = [0];
    let at = page as usize * PAGE_BYTES;
    inner
        .parts
        .memory
        .region
        .read_at(at, &mut byte)
        .expect("the page is in the region");
    byte[0]
}

/// Returns a store with one heap, after the first step.
fn after_first_step(path: &Path) -> StoreInner {
    let store = Store::open(path, options()).expect("the store opens");
    for page in 0..PAGES {
        let guard = store.write_guard().expect("the access lock is free");
        let at = page * PAGE_BYTES as u64;
        guard
            .write_at(at, &[1; PAGE_BYTES])
            .expect("the page is in the region");
    }
    store.close().expect("the store closes");
    let inner = opened(path);
    assert_eq!(
        inner.step_of_second_heap(Duration::ZERO).ok(),
        Some(CopyProgress::More)
    );
    inner
}

fn finish(inner: &StoreInner) -> CopyProgress {
    loop {
        match inner
            .step_of_second_heap(Duration::ZERO)
            .expect("the step succeeds")
        {
            CopyProgress::More => {}
            end => return end,
        }
    }
}

#[test]
fn deltas_between_the_steps_are_in_the_next_base() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let inner = after_first_step(&path);
    put(&inner, 7, 70);
    let delta = inner.checkpoint(Some(CheckpointKind::Delta));
    assert_eq!(delta.expect("the checkpoint succeeds").written_pages, 1);
    inner
        .step_of_second_heap(Duration::ZERO)
        .expect("the step succeeds");
    put(&inner, PAGES - 1, 71);
    assert_eq!(finish(&inner), CopyProgress::Made);
    put(&inner, 5000, 72);
    for pages in [3, 3] {
        let base = inner
            .checkpoint(Some(CheckpointKind::Base))
            .expect("the checkpoint succeeds");
        assert_eq!(base.written_pages, pages);
        inner.parts.memory.dirty().insert(7);
        let look = |inner: &StoreInner| [7, PAGES - 1, 5000, 8].map(|page| get(inner, page));
        assert_eq!(look(&inner), [70, 71, 72, 1]);
    }
    drop(inner);
    let inner = opened(&path);
    let found = [7, PAGES - 1, 5000, 8].map(|page| get(&inner, page));
    assert_eq!(found, [70, 71, 72, 1]);
}

#[test]
fn a_base_between_the_steps_ends_the_copy() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let inner = after_first_step(&path);
    put(&inner, 9, 90);
    let base = inner
        .checkpoint(Some(CheckpointKind::Base))
        .expect("the checkpoint succeeds");
    assert_eq!(base.written_pages, PAGES);
    assert_eq!(finish(&inner), CopyProgress::NotNeeded);
    drop(inner);
    assert_eq!(get(&opened(&path), 9), 90);
}

#[test]
fn an_interrupted_copy_starts_over() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    drop(after_first_step(&path));
    let store = Store::open(&path, options()).expect("the store opens");
    let found = store.open_report().other_heap;
    assert!(matches!(found, HeapState::Incomplete(_)), "{found}");
    store.close().expect("the store closes");
    let inner = opened(&path);
    assert_eq!(finish(&inner), CopyProgress::Made);
    assert_eq!(get(&inner, PAGES / 2), 1);
}
