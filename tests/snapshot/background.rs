//! Work in the background that fails, checkpoints and the second heap: who asks is told, who wants to hear hears, and the store goes on.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use flatspan::mapping_cache::Access;
use flatspan::snapshot::{GroupDisk, OnClose, SnapshotError, Store, StoreOptions};

use crate::gated_disk::GatedDisk;
use crate::support;

const PAGE: u64 = 4096;
const PART_BYTES: u64 = 64 << 10;
/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(1 << 20)
        .part_bytes(PART_BYTES)
        .initial_bytes(20 * PAGE)
}

fn fill(store: &Store, page: u64, byte: u8) {
    store
        .transaction(|tx| tx.write(page * PAGE, &[byte; 4096]))
        .map_err(|error: SnapshotError| error)
        .expect("a transaction");
}

/// A store with a checkpoint whenever there is a record, and what it tells.
fn telling(path: &Path) -> (Arc<GatedDisk>, Store, Receiver<(ErrorKind, String)>) {
    drop(Store::open(path, options()).expect("a store"));
    let disk = Arc::new(disk_of(path));
    let (store, told) = listening(&disk, options().journal_bytes_max(PAGE));
    (disk, store, told)
}

fn disk_of(path: &Path) -> GatedDisk {
    let disk = GroupDisk::open(path, PART_BYTES, Access::ReadWrite);
    GatedDisk::open(disk.expect("its disk"))
}

fn listening(
    disk: &Arc<GatedDisk>,
    options: StoreOptions,
) -> (Store, Receiver<(ErrorKind, String)>) {
    let (tell, told) = channel();
    let options = options.on_background_error(move |error| {
        // The test may be over.
        let _ = tell.send((error.kind(), error.to_string()));
    });
    let store = Store::open_on(disk.clone(), options);
    (store.expect("a store"), told)
}

#[test]
fn a_full_disk_is_told_and_forgotten_when_there_is_room_again() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let (disk, store, told) = telling(&path);
    assert!(store.background_error().is_none());
    disk.set_full(true);
    fill(&store, 1, 1);
    let (kind, text) = told.recv_timeout(PATIENCE).expect("it is told");
    assert_eq!(kind, ErrorKind::StorageFull, "{text}");
    assert!(text.contains("table-"), "{text}");
    let kept = store.background_error().expect("it is kept");
    assert_eq!(kept.kind(), ErrorKind::StorageFull);
    // Nothing that was promised is missing, and it is tried again.
    fill(&store, 2, 2);
    told.recv_timeout(PATIENCE).expect("it is told again");
    disk.set_full(false);
    store.checkpoint().expect("there is room again");
    assert!(store.background_error().is_none());
    fill(&store, 3, 3);
    drop(store);
    let store = Store::open(&path, options()).expect("a store");
    let found = store.view(|bytes| [1, 2, 3].map(|page| bytes[page * 4096]));
    assert_eq!(found.expect("a view"), [1, 2, 3]);
}

#[test]
fn an_error_that_poisons_is_told_once() {
    let dir = support::temp_dir();
    let (disk, store, told) = telling(&dir.path().join("store"));
    // There is a file for the next record.
    fill(&store, 1, 1);
    store.checkpoint().expect("a checkpoint");
    disk.fail_syncs();
    // Its own sync fails, or that of the checkpoint beside it.
    let failed: Result<(), SnapshotError> = store.transaction(|tx| tx.write(0, &[1]));
    failed.expect_err("nothing is durable");
    let refused = store.checkpoint();
    assert!(
        matches!(refused, Err(SnapshotError::Poisoned { .. })),
        "{refused:?}"
    );
    told.recv_timeout(PATIENCE).expect("it is told");
    assert!(store.background_error().is_some());
    // Longer than it pauses after an error. (Whether it waited long enough changes nothing about what is right.)
    let again = told.recv_timeout(Duration::from_millis(1500));
    assert!(again.is_err(), "nothing more can be made: {again:?}");
}

#[test]
fn a_second_heap_that_cannot_be_made_is_told_and_left_to_the_next_base() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let options = options().on_close(OnClose::DropOlder);
    let store = Store::open(&path, options.clone()).expect("a store");
    fill(&store, 1, 1);
    store.close().expect("closed, with one heap");
    let disk = Arc::new(disk_of(&path));
    disk.set_full(true);
    let (store, told) = listening(&disk, options.clone().second_heap(true));
    let (kind, text) = told.recv_timeout(PATIENCE).expect("it is told");
    assert_eq!(kind, ErrorKind::StorageFull, "{text}");
    assert!(text.contains("copy from the other heap"), "{text}");
    assert!(store.background_error().is_some(), "it is kept");
    fill(&store, 2, 2);
    disk.set_full(false);
    store.checkpoint().expect("there is room again");
    assert!(store.background_error().is_none());
    let again = store.make_second_heap();
    assert!(matches!(again, Ok(false)), "the base made it: {again:?}");
    drop(store);
    assert!(told.recv().is_err(), "it is told once");
    let store = Store::open(&path, options).expect("a store");
    let found = store.view(|bytes| [1, 2].map(|page| bytes[page * 4096]));
    assert_eq!(found.expect("a view"), [1, 2]);
}
