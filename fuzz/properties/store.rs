//! Opening a store of arbitrary files: an error, or a store that goes on. Where every good checksum is right, a state that
//! was.
//!
//! Included by the fuzz target and by `tests/format`, each of which has `memory_disk` and `store_files` at its root.

use std::sync::Arc;

use flatspan::snapshot::{SnapshotError, Store, StoreOptions};

use crate::memory_disk::MemoryDisk;
use crate::store_files::{PART_BYTES, store_files};

const RESERVE_BYTES: u64 = 1 << 20;
/// What goes on behind these numbers is not read again: they end at 2^63, where no store comes.
const NUMBERS_MAX: u64 = (1 << 63) - 16;

/// Panics if `data` breaks the property; whether the store opened.
pub(crate) fn check(data: &[u8]) -> bool {
    let files = store_files(data);
    let disk = Arc::new(MemoryDisk::new(PART_BYTES, files.arrays.clone()));
    let options = || StoreOptions::default().reserve_bytes(RESERVE_BYTES);
    let store = match Store::open_on(disk.clone(), options()) {
        Ok(store) => store,
        Err(error) => {
            assert!(files.may_give(None), "{error}");
            return false;
        }
    };
    assert!(store.len() <= RESERVE_BYTES);
    let look = |store: &Store| store.view(<[u8]>::to_vec).expect("a view");
    let memory = look(&store);
    assert!(files.may_give(Some(&memory)), "a state that never was");
    if store.generation().max(store.durable_sequence()) > NUMBERS_MAX {
        return true;
    }
    // What was opened goes on, and comes back as it was left.
    let changed = store.transaction(|tx| {
        if memory.is_empty() {
            tx.resize(4096)
        } else {
            tx.write(0, b"z")
        }
    });
    changed.unwrap_or_else(|error: SnapshotError| panic!("{error}"));
    let last = look(&store);
    if let Err(error) = store.checkpoint() {
        // A tree that is wrong where no page needed it.
        assert!(files.has_wrong_checksums(), "{error}");
        return true;
    }
    drop(store);
    let store = Store::open_on(disk, options()).expect("what was just checkpointed");
    assert!(look(&store) == last, "another state comes back");
    true
}
