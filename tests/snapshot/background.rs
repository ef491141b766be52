//! Failures of background checkpoints and of the second heap are reported to callers and observers,
//! and the store continues.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use flatspan::mapping_cache::Access;
use flatspan::snapshot::{DirectoryBackend, OnClose, Store, StoreError, StoreOptions};

use crate::blocking_backend::BlockingBackend;
use crate::support;

const PAGE: u64 = 4096;
const PART_BYTES: u64 = 64 << 10;
/// Far longer than the work takes.
const TIMEOUT: Duration = Duration::from_secs(60);

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(1 << 20)
        .part_bytes(PART_BYTES)
        .initial_bytes(20 * PAGE)
}

fn fill(store: &Store, page: u64, byte: u8) {
    store
        .transaction(|tx| tx.write_at(page * PAGE, &[byte; 4096]))
        .map_err(|error: StoreError| error)
        .expect("a transaction");
}

/// Returns a store that checkpoints after every record, and a receiver of its errors.
fn reporting(path: &Path) -> (Arc<BlockingBackend>, Store, Receiver<(ErrorKind, String)>) {
    drop(Store::open(path, options()).expect("a store"));
    let disk = Arc::new(disk_of(path));
    let (store, errors) = listening(&disk, options().journal_bytes_max(PAGE));
    (disk, store, errors)
}

fn disk_of(path: &Path) -> BlockingBackend {
    let disk = DirectoryBackend::open(path, PART_BYTES, Access::ReadWrite);
    BlockingBackend::open(disk.expect("its disk"))
}

fn listening(
    disk: &Arc<BlockingBackend>,
    options: StoreOptions,
) -> (Store, Receiver<(ErrorKind, String)>) {
    let (sender, errors) = channel();
    let options = options.on_background_error(move |error| {
        // The test may have ended.
        drop(sender.send((error.kind(), error.to_string())));
    });
    let store = Store::open_with_backend(Arc::<BlockingBackend>::clone(disk), options);
    (store.expect("a store"), errors)
}

#[test]
fn full_disk_is_reported_and_cleared_once_space_exists() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let (disk, store, errors) = reporting(&path);
    assert!(store.background_error().is_none());
    disk.set_full(true);
    fill(&store, 1, 1);
    let (kind, text) = errors.recv_timeout(TIMEOUT).expect("error is reported");
    assert_eq!(kind, ErrorKind::StorageFull, "{text}");
    assert!(text.contains("table-"), "{text}");
    let kept = store.background_error().expect("error is stored");
    assert_eq!(kept.kind(), ErrorKind::StorageFull);
    // Nothing acknowledged is missing, and the checkpoint is retried.
    fill(&store, 2, 2);
    errors
        .recv_timeout(TIMEOUT)
        .expect("error is reported again");
    disk.set_full(false);
    store.checkpoint().expect("space is available");
    assert!(store.background_error().is_none());
    fill(&store, 3, 3);
    drop(store);
    let store = Store::open(&path, options()).expect("a store");
    let found = store.view(|bytes| [1, 2, 3].map(|page| bytes[page * 4096]));
    assert_eq!(found.expect("a view"), [1, 2, 3]);
}

#[test]
fn poisoning_error_is_reported_once() {
    let dir = support::temp_dir();
    let (disk, store, errors) = reporting(&dir.path().join("store"));
    // The file for the next record exists already.
    fill(&store, 1, 1);
    store.checkpoint().expect("a checkpoint");
    disk.fail_syncs();
    // Either its own sync fails or that of the concurrent checkpoint.
    let failed: Result<(), StoreError> = store.transaction(|tx| tx.write_at(0, &[1]));
    failed.expect_err("sync fails");
    let refused = store.checkpoint();
    assert!(
        matches!(refused, Err(StoreError::Poisoned { .. })),
        "{refused:?}"
    );
    errors.recv_timeout(TIMEOUT).expect("error is reported");
    assert!(store.background_error().is_some());
    // Longer than the pause after an error. The result does not depend on the exact wait.
    let again = errors.recv_timeout(Duration::from_millis(1500));
    assert!(again.is_err(), "unexpected second error: {again:?}");
}

#[test]
fn failed_second_heap_is_reported_and_left_to_the_next_base() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let options = options().on_close(OnClose::RemoveOlder);
    let store = Store::open(&path, options.clone()).expect("a store");
    fill(&store, 1, 1);
    store.close().expect("closed, with one heap");
    let disk = Arc::new(disk_of(&path));
    disk.set_full(true);
    let (store, errors) = listening(&disk, options.clone().create_second_heap(true));
    let (kind, text) = errors.recv_timeout(TIMEOUT).expect("error is reported");
    assert_eq!(kind, ErrorKind::StorageFull, "{text}");
    assert!(text.contains("copy from the other heap"), "{text}");
    assert!(store.background_error().is_some(), "error is stored");
    fill(&store, 2, 2);
    disk.set_full(false);
    store.checkpoint().expect("space is available");
    assert!(store.background_error().is_none());
    let again = store.create_second_heap();
    assert!(
        matches!(again, Ok(false)),
        "the base has created the heap: {again:?}"
    );
    drop(store);
    assert!(errors.recv().is_err(), "error is reported more than once");
    let store = Store::open(&path, options).expect("a store");
    let found = store.view(|bytes| [1, 2].map(|page| bytes[page * 4096]));
    assert_eq!(found.expect("a view"), [1, 2]);
}
