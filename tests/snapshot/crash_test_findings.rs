//! Regression tests for faults that `durable crash-test` (examples/durable) has found.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flatspan::mapping_cache::Access;
use flatspan::snapshot::{DirectoryBackend, Store, StoreError, StoreOptions};

use crate::blocking_backend::BlockingBackend;
use crate::support;

const PAGE: u64 = 4096;
const PAGES: u64 = 600;

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(64 << 20)
        .part_bytes(256 << 10)
        .initial_bytes(PAGES * PAGE)
}

fn fill(store: &Store, page: u64, byte: u8) {
    store
        .transaction(|tx| tx.write_at(page * PAGE, &[byte; 4096]))
        .map_err(|error: StoreError| error)
        .expect("a transaction");
}

/// Kill while `OnClose::RemoveOlder` removed the older heap: parts are removed from the end, and
/// METADATA last.
#[test]
fn partially_removed_heap_is_no_fallback() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options()).expect("a store");
    for byte in 1..=3 {
        (0..PAGES)
            .step_by(20)
            .for_each(|page| fill(&store, page, byte));
        store.checkpoint().expect("a checkpoint");
    }
    fill(&store, 0, 4);
    store.checkpoint().expect("a checkpoint");
    drop(store);
    let store = Store::open(&path, options()).expect("a store");
    let older = store.open_report().heap.other();
    drop(store);
    fs::remove_file(path.join(format!("heap-{older}.00009"))).expect("its last part");

    let store = Store::open(&path, options()).expect("a store");
    fill(&store, 0, 5);
    store.checkpoint().expect("a checkpoint");
    drop(store);
    let store = Store::open(&path, options()).expect("a store");
    let report = store.open_report();
    assert_eq!(
        (report.heap, &report.fallback_reason),
        (older, &None),
        "{report:?}"
    );
}

/// A checkpoint that runs beside a transaction must not store what the transaction wrote before its
/// rollback.
#[test]
fn rolled_back_transaction_beside_a_checkpoint_is_in_no_image() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options()).expect("a store");
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Rarely coincides with the final scan of a checkpoint, which would see the write.
            let pauses = (0..).map(|round: u64| Duration::from_micros(round * 611 % 3000));
            for pause in pauses.take_while(|_| !end.load(Ordering::Relaxed)) {
                std::thread::sleep(pause);
                let given_up: Result<(), StoreError> = store.transaction(|tx| {
                    tx.bytes_mut(PAGE..PAGES * PAGE)?.fill(0xee);
                    tx.write_at(u64::MAX, &[1])
                });
                assert!(
                    matches!(given_up, Err(StoreError::OutOfBounds { .. })),
                    "{given_up:?}"
                );
            }
        });
        for round in (0..=u8::MAX).cycle() {
            fill(&store, 0, round);
            let made = store.checkpoint();
            let is_over = made.is_err() || begun.elapsed() >= TIMEOUT;
            end.store(is_over, Ordering::Relaxed);
            made.expect("a checkpoint");
            if is_over {
                break;
            }
        }
    });
    drop(store);
    let store = Store::open(&path, options()).expect("a store");
    let zeros = store.view(|bytes| bytes[4096..].iter().all(|byte| *byte == 0));
    assert!(zeros.expect("a view"), "rolled back data is in the image");
}

/// The first transaction creates its journal file while a checkpoint has created the next one. The
/// file that is written later must have the higher number, because files are read in this order.
#[test]
fn checkpoint_beside_the_first_transaction_keeps_the_journal_order() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options()).expect("a store");
    fill(&store, 1, 1);
    drop(store);
    let disk = DirectoryBackend::open(&path, 256 << 10, Access::ReadWrite).expect("its disk");
    let (disk, blocker) = BlockingBackend::new(disk);
    let store = Store::open_with_backend(Arc::new(disk), options()).expect("a store");
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint());
        blocker.wait_reached();
        fill(&store, 2, 2);
        blocker.open();
        let failed = checkpoint.join().expect("a thread");
        assert!(
            matches!(failed, Err(StoreError::Backend { .. })),
            "{failed:?}"
        );
    });
    fill(&store, 3, 3);
    drop(store);
    let store = Store::open(&path, options()).expect("a store");
    let found = store.view(|bytes| [1, 2, 3].map(|page| bytes[page * 4096]));
    assert_eq!(
        found.expect("a view"),
        [1, 2, 3],
        "{:?}",
        store.open_report()
    );
}
