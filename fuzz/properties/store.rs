//! Opening a store of arbitrary files returns an error or a usable store. If every correct checksum
//! is on expected bytes, the store has an expected state.
//!
//! The fuzz target and `tests/format` include this file; both have `memory_backend` and
//! `store_files` at their root.

use std::sync::Arc;

use flatspan::snapshot::{Store, StoreError, StoreOptions};

use crate::memory_backend::MemoryBackend;
use crate::store_files::{PART_BYTES, store_files};

const RESERVE_BYTES: u64 = 1 << 20;
/// Changes after these numbers cannot be read again: numbers end at 2^63, which no real store
/// reaches.
const NUMBERS_MAX: u64 = (1 << 63) - 16;

/// Returns whether the store opened. Panics if `data` breaks the property.
pub(crate) fn check(data: &[u8]) -> bool {
    let files = store_files(data);
    let disk = Arc::new(MemoryBackend::new(PART_BYTES, files.arrays.clone()));
    let options = || StoreOptions::default().reserve_bytes(RESERVE_BYTES);
    let store = match Store::open_with_backend(Arc::<MemoryBackend>::clone(&disk), options()) {
        Ok(store) => store,
        Err(error) => {
            assert!(files.may_return(None), "{error}");
            return false;
        }
    };
    assert!(store.len() <= RESERVE_BYTES);
    let look = |store: &Store| store.view(<[u8]>::to_vec).expect("a view");
    let memory = look(&store);
    assert!(files.may_return(Some(&memory)), "unexpected state");
    if store.generation() > NUMBERS_MAX || store.durable_sequence() > NUMBERS_MAX {
        return true;
    }
    // An opened store can be changed, and has the same state when it is opened again.
    let changed = store.transaction(|tx| {
        if memory.is_empty() {
            tx.resize(4096)
        } else {
            tx.write_at(0, b"z")
        }
    });
    changed.unwrap_or_else(|error: StoreError| panic!("{error}"));
    let last = look(&store);
    if let Err(error) = store.checkpoint() {
        // The tree is wrong in a block that no page needed.
        assert!(files.has_wrong_checksums(), "{error}");
        return true;
    }
    drop(store);
    let store = Store::open_with_backend(disk, options()).expect("checkpointed store opens");
    assert!(
        look(&store) == last,
        "the reopened store has a different state"
    );
    true
}
