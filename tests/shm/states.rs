//! The states that stores contain.

use std::path::Path;
use std::process::Command;

use flatspan::snapshot::{StoreError, StoreReader};

use crate::programs::clean;
use crate::support;

pub(crate) const PAGE_WORDS: usize = 512;
/// Length of the state of a program that stores rows of numbers.
pub(crate) const ROW_PAGES: usize = 64;
/// Length of the state of a program that extends its memfd.
pub(crate) const GROWN_PAGES: u64 = 300;
/// Length of the state of a program that extends its memfd without a pause and stores the length.
pub(crate) const PUBLISHED_PAGES: u64 = 6000;

/// `shm-restore` with these words before the store.
pub(crate) fn shm_restore(options: &[&str], store: &Path) -> Command {
    let mut command = clean(env!("CARGO_BIN_EXE_shm-restore"));
    command.args(options).arg(store);
    command
}

/// A shell command after the store.
pub(crate) fn shell(options: &[&str], store: &Path, script: &str) -> Command {
    let mut command = shm_restore(options, store);
    command.args(["sh", "-c", script]);
    command
}

/// A directory for a store and the files beside it.
pub(crate) fn directory() -> tempfile::TempDir {
    support::temp_dir()
}

/// The newest state.
#[track_caller]
pub(crate) fn newest(store: &Path) -> Vec<u8> {
    let reader = StoreReader::open(store).expect("a store");
    let image = reader.newest().expect("a state");
    let mut bytes = vec![0; usize::try_from(image.len()).expect("a length")];
    let read: Result<(), StoreError> = image.for_each_data(|offset, part| {
        let at = usize::try_from(offset).expect("an offset");
        bytes[at..at + part.len()].copy_from_slice(part);
        Ok(())
    });
    read.expect("a good state");
    bytes
}

#[track_caller]
pub(crate) fn word(state: &[u8], page: usize) -> u64 {
    let at = page * 4096;
    u64::from_ne_bytes(state[at..at + 8].try_into().expect("a word"))
}

/// Checks that a row is consistent with one point in time: a number and, from some page on, its
/// predecessor. Returns the number.
#[track_caller]
pub(crate) fn number_of_row(state: &[u8], row: usize) -> u64 {
    let numbers: Vec<u64> = (0..ROW_PAGES)
        .map(|page| word(state, row * ROW_PAGES + page))
        .collect();
    let first = numbers[0];
    let is_consistent = numbers
        .iter()
        .all(|number| *number == first || *number + 1 == first);
    assert!(
        is_consistent && numbers.is_sorted_by(|a, b| a >= b),
        "torn: {numbers:?}"
    );
    first
}
