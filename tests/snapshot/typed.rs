//! Typed views of a store: values and slices of a type (feature `zerocopy`).

use flatspan::snapshot::{Store, StoreError, StoreOptions};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::support;

const BYTES: u64 = 2 * 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
struct Account {
    id: u64,
    balance: i64,
    flags: [u8; 8],
}

/// A type that needs more alignment than a page has.
#[derive(FromBytes, Immutable)]
#[repr(C, align(1048576))]
struct Huge {
    bytes: [u8; 1 << 20],
}

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(64 << 20)
        .part_bytes(64 << 10)
        .initial_bytes(BYTES)
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = support::temp_dir();
    let store = Store::open(dir.path().join("store"), options()).expect("the store opens");
    (dir, store)
}

fn account(id: u64) -> Account {
    Account {
        id,
        balance: -(id as i64),
        flags: [id as u8; 8],
    }
}

#[track_caller]
fn assert_out_of_bounds<R>(result: Result<R, StoreError>, offset: u64, len: u64) {
    match result.err() {
        Some(StoreError::OutOfBounds {
            offset: found_offset,
            len: found_len,
            region_bytes,
        }) => assert_eq!(
            (found_offset, found_len, region_bytes),
            (offset, len, BYTES)
        ),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_unaligned<R>(result: Result<R, StoreError>, offset: u64, align: usize) {
    match result.err() {
        Some(
            error @ StoreError::Unaligned {
                offset: found_offset,
                align: found_align,
            },
        ) => {
            assert_eq!((found_offset, found_align), (offset, align));
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn slice_of_structs_survives_reopening() {
    let (dir, store) = store();
    let count = BYTES as usize / size_of::<Account>();
    store
        .transaction(|tx| {
            for (id, slot) in (0..).zip(tx.slice_mut_of::<Account>(0, count)?) {
                *slot = account(id);
            }
            Ok(())
        })
        .expect("the transaction commits");
    drop(store);

    let store = Store::open(dir.path().join("store"), options()).expect("the store opens");
    store
        .typed_view(|view| {
            let accounts = view.as_slice_of::<Account>()?;
            assert_eq!(accounts.len(), count);
            assert_ne!(count * size_of::<Account>(), view.bytes().len());
            for (id, found) in (0..).zip(accounts) {
                assert_eq!(*found, account(id));
            }
            assert_eq!(view.slice_of::<Account>(24, 2)?, &accounts[1..3]);
            Ok(())
        })
        .expect("the memory is intact");
}

#[test]
fn value_is_read_and_written_at_any_offset() {
    let (_dir, store) = store();
    store
        .transaction(|tx| {
            for offset in [0, 101, BYTES - 24] {
                tx.set(offset, &account(offset))?;
                assert_eq!(tx.get::<Account>(offset)?, account(offset));
            }
            Ok(())
        })
        .expect("the transaction commits");
    store
        .typed_view(|view| {
            assert_eq!(view.get::<Account>(101)?, account(101));
            assert_eq!(view.get::<u64>(BYTES - 24)?, BYTES - 24);
            Ok(())
        })
        .expect("the memory is intact");
}

#[test]
fn changes_through_a_typed_slice_are_undone() {
    let (_dir, store) = store();
    let result = store.transaction(|tx| {
        tx.slice_mut_of::<u32>(4096, 4)?.fill(7);
        assert_eq!(tx.as_slice_of::<u32>()?[1024..1029], [7, 7, 7, 7, 0]);
        tx.get::<u8>(BYTES)
    });
    assert_out_of_bounds(result, BYTES, 1);
    let sum = store.typed_view(|view| Ok(view.as_slice_of::<u32>()?.iter().sum::<u32>()));
    assert_eq!(sum.expect("the memory is intact"), 0);
}

#[test]
fn unaligned_slice_is_an_error() {
    let (_dir, store) = store();
    assert_unaligned(
        store.typed_view(|view| view.slice_of::<u64>(4, 1).map(<[u64]>::len)),
        4,
        8,
    );
    let mut tx = store.begin().expect("no transaction is open");
    assert_unaligned(tx.slice_of::<u16>(1, 3), 1, 2);
    assert_unaligned(tx.slice_mut_of::<Account>(20, 1), 20, 8);
    assert!(tx.slice_mut_of::<u8>(1, 3).is_ok());
}

#[test]
fn type_with_a_greater_alignment_than_the_memory_is_an_error_or_a_slice() {
    let (_dir, store) = store();
    let grown = store.transaction(|tx| tx.resize(2 << 20));
    grown.expect("the length is reserved");
    let start = store.as_ptr().addr().get();
    let found = store.typed_view(|view| {
        let huge = view.slice_of::<Huge>(0, 1)?;
        Ok(huge[0].bytes.len())
    });
    if start.is_multiple_of(align_of::<Huge>()) {
        assert_eq!(found.expect("the address is aligned"), 1 << 20);
    } else {
        assert_unaligned(found, 0, 1 << 20);
    }
}

#[test]
fn access_outside_of_the_region_is_an_error() {
    let (_dir, store) = store();
    let count = BYTES as usize / 8;
    let len = |view: flatspan::snapshot::TypedView<'_>, offset, count| {
        view.slice_of::<u64>(offset, count).map(<[u64]>::len)
    };
    let whole = store.typed_view(|view| len(view, 0, count));
    assert_eq!(whole.expect("all values are in the region"), count);
    let empty = store.typed_view(|view| len(view, BYTES, 0));
    assert_eq!(empty.expect("no value is outside"), 0);
    assert_out_of_bounds(
        store.typed_view(|view| len(view, 0, count + 1)),
        0,
        BYTES + 8,
    );
    assert_out_of_bounds(store.typed_view(|view| len(view, u64::MAX, 1)), u64::MAX, 8);
    assert_out_of_bounds(
        store.typed_view(|view| len(view, 8, usize::MAX)),
        8,
        u64::MAX,
    );
    assert_out_of_bounds(
        store.typed_view(|view| view.get::<u64>(BYTES - 7)),
        BYTES - 7,
        8,
    );

    let mut tx = store.begin().expect("no transaction is open");
    assert_out_of_bounds(tx.set(BYTES - 7, &1_u64), BYTES - 7, 8);
    assert_out_of_bounds(tx.set(u64::MAX, &1_u8), u64::MAX, 0);
    assert_out_of_bounds(tx.slice_mut_of::<u64>(BYTES, 1), BYTES, 8);
}

#[test]
fn type_without_bytes_has_no_values_in_the_memory() {
    let (_dir, store) = store();
    let count = store.typed_view(|view| Ok(view.as_slice_of::<()>()?.len()));
    assert_eq!(count.expect("the memory is intact"), 0);
    let count = store.typed_view(|view| Ok(view.slice_of::<()>(0, 3)?.len()));
    assert_eq!(count.expect("three values of no bytes"), 3);
}

#[test]
fn i24_typed_view_inside_of_a_transaction_is_an_error() {
    let (_dir, store) = store();
    let _tx = store.begin().expect("no transaction is open");
    let found = store.typed_view(|view| view.get::<u8>(0));
    assert!(
        matches!(found, Err(StoreError::WouldDeadlock { .. })),
        "{found:?}"
    );
}
