//! Tests of `Store::begin`: a transaction as a guard.

use flatspan::snapshot::{Sequence, Store, StoreError, StoreOptions};

use crate::support;

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(64 << 20)
        .part_bytes(64 << 10)
        .initial_bytes(2 * 4096)
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = support::temp_dir();
    let store = Store::open(dir.path().join("store"), options()).expect("the store opens");
    (dir, store)
}

fn first_byte(store: &Store) -> u8 {
    store
        .view(|bytes| bytes[0])
        .expect("no transaction is open")
}

#[test]
fn a_closure_with_two_question_marks_needs_no_annotation_in_a_boxed_error_function() {
    fn run(store: &Store) -> Result<u8, Box<dyn std::error::Error>> {
        let value = store.transaction(|tx| {
            tx.write_at(0, &[1])?;
            tx.write_at(1, &[2])?;
            Ok(tx.bytes()[1])
        })?;
        Ok(value)
    }
    let (_dir, store) = store();
    assert_eq!(run(&store).expect("the transaction commits"), 2);
}

#[test]
fn a_closure_with_two_question_marks_needs_no_annotation_in_an_anyhow_function() {
    fn run(store: &Store) -> anyhow::Result<()> {
        store.transaction(|tx| {
            tx.write_at(0, &[1])?;
            tx.resize(4096)?;
            Ok(())
        })?;
        Ok(())
    }
    let (_dir, store) = store();
    run(&store).expect("the transaction commits");
    assert_eq!(store.len(), 4096);
}

#[test]
fn i23_a_dropped_transaction_is_undone() {
    let (_dir, store) = store();
    let mut tx = store.begin().expect("no transaction is open");
    tx.write_at(0, &[7]).expect("the byte is in the region");
    tx.resize(4 * 4096).expect("the length is reserved");
    drop(tx);
    assert_eq!(first_byte(&store), 0);
    assert_eq!(store.len(), 2 * 4096);
    assert_eq!(store.durable_sequence(), 0);
}

#[test]
fn i23_an_error_of_the_caller_undoes_a_transaction() {
    #[derive(Debug, PartialEq)]
    struct OwnError;
    fn run(store: &Store) -> Result<(), OwnError> {
        let mut tx = store.begin().map_err(|_ignored: StoreError| OwnError)?;
        tx.write_at(0, &[7])
            .map_err(|_ignored: StoreError| OwnError)?;
        Err(OwnError)
    }
    let (_dir, store) = store();
    assert_eq!(run(&store), Err(OwnError));
    assert_eq!(first_byte(&store), 0);
}

#[test]
fn i23_a_panic_in_the_closure_undoes_a_transaction() {
    let (_dir, store) = store();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.transaction(|tx| -> Result<(), StoreError> {
            tx.write_at(0, &[7])?;
            // Unlike `panic!`, this prints nothing.
            std::panic::resume_unwind(Box::new(()))
        })
    }));
    caught.expect_err("the closure panics");
    assert_eq!(first_byte(&store), 0);
    store
        .transaction(|tx| tx.write_at(0, &[8]))
        .expect("the access lock is free");
}

#[test]
fn i22_deferred_commits_are_durable_after_waiting_for_the_last_one() {
    let (dir, store) = store();
    let mut last = Sequence::default();
    for byte in 1..=3 {
        let mut tx = store.begin().expect("no transaction is open");
        tx.write_at(0, &[byte]).expect("the byte is in the region");
        let sequence = tx.commit_deferred().expect("the journal is intact");
        assert!(sequence > last, "{sequence} after {last}");
        last = sequence;
        assert_eq!(first_byte(&store), byte);
    }
    let tx = store.begin().expect("no transaction is open");
    let unchanged = tx.commit_deferred().expect("the journal is intact");
    assert_eq!(unchanged, last, "a commit without changes gets no number");
    store.wait_durable(last).expect("the journal is intact");
    assert!(store.durable_sequence() >= last);
    drop(store);
    let store = Store::open(dir.path().join("store"), options()).expect("the store opens");
    assert_eq!(first_byte(&store), 3);
}

#[test]
fn i24_a_nested_transaction_is_an_error() {
    let (_dir, store) = store();
    let tx = store.begin().expect("no transaction is open");
    for refused in [
        store.begin().map(drop),
        store.transaction(|_| Ok(())),
        store.view(|_| ()),
        store.checkpoint().map(drop),
        store.wait_durable(Sequence::default()),
    ] {
        assert!(
            matches!(refused, Err(StoreError::WouldDeadlock { .. })),
            "{refused:?}"
        );
    }
    tx.commit().expect("the journal is intact");
    store
        .transaction(|_| Ok(()))
        .expect("the access lock is free");
}
