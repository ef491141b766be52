//! Decoders never panic, and never allocate by an unchecked length. Each test runs in a child with
//! a small address space, where such an allocation fails.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::{
    self,
    child::{self, Limits},
};
use crate::{directory_property, journal_property, metadata_property, store_property};

/// Lengths that are used unchecked exceed this limit: fields go up to 2^64.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;

/// Runs a property on bytes in a child. Some inputs must be accepted, and some rejected.
fn in_child(
    test: &str,
    cases: u32,
    bytes: impl Strategy<Value = Vec<u8>>,
    check: impl Fn(&[u8]) -> bool,
) {
    let test = format!("arbitrary::{test}");
    if !child::is_me(&test) {
        let limits = Limits {
            address_space_bytes: Some(ADDRESS_SPACE_BYTES),
            ..Limits::default()
        };
        if let Some(done) = child::in_child(&test, &[], limits) {
            done.assert_passed();
        }
        return;
    }
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let accepted = Cell::new(0);
    let ran = TestRunner::new(config).run(&bytes, |bytes| {
        accepted.set(accepted.get() + u32::from(check(&bytes)));
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    let accepted = accepted.get();
    assert!(
        (cases / 50..cases - cases / 50).contains(&accepted),
        "{accepted} of {cases}"
    );
}

fn bytes(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..len_max)
}

/// Generates mostly zeros, which change nothing, and bytes that request a change.
fn changes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![6 => Just(0), 1 => 240..=255_u8, 2 => any::<u8>()];
    prop::collection::vec(byte, 0..200)
}

/// Generates words as in fields: small ones, multiples of pages, flags, arbitrary ones.
fn words(count_max: usize) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        0..6_u64,
        (0..20_u64).prop_map(|pages| pages * 4096),
        (0..64_u32).prop_map(|bit| 1 << bit),
        any::<u64>(),
    ];
    let words = prop::collection::vec(word, 0..count_max);
    words.prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// Generates record bodies that are correct except for at most one word.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let ranges = prop::collection::vec((0..9000_u64, 1..60_u64, any::<bool>()), 0..6);
    let spoilt = prop_oneof![Just(None), (0..20_usize, any::<u64>()).prop_map(Some)];
    (4..7_u64, ranges, spoilt).prop_map(|(pages, ranges, spoilt)| {
        let mut words = vec![pages * 4096, ranges.len() as u64];
        let mut stored = Vec::new();
        for (offset, len, is_zeros) in ranges {
            words.extend([offset, len | u64::from(is_zeros) << 63]);
            if !is_zeros {
                stored.extend((0..len).map(|byte| byte as u8));
            }
        }
        if let Some((at, word)) = spoilt
            && let Some(place) = words.get_mut(at)
        {
            *place = word;
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(stored);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    })
}

/// Generates consecutive fields of METADATA with plausible values.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let small = prop::collection::vec(prop_oneof![6 => 0..3_u64, 1 => any::<u64>()], 12);
    (0..3_u32, 0..2_u32, small).prop_map(|(heap, closed, mut words)| {
        words[0] = words[0].saturating_mul(64 << 10);
        words[4] = words[4].saturating_mul(4096);
        let mut bytes = vec![0; 32];
        bytes.extend([heap, closed].iter().flat_map(|field| field.to_le_bytes()));
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    })
}

#[test]
fn metadata_blocks_are_rejected_or_written_identically() {
    let check = |bytes: &[u8]| metadata_property::check(bytes);
    let blocks = prop_oneof![bytes(200), words(24), fields()];
    in_child(
        "metadata_blocks_are_rejected_or_written_identically",
        3000,
        blocks,
        check,
    );
}

#[test]
fn journal_records_are_rejected_or_written_identically() {
    let check = |bytes: &[u8]| journal_property::check(bytes);
    let records = prop_oneof![bytes(300), words(40), bodies()];
    in_child(
        "journal_records_are_rejected_or_written_identically",
        20_000,
        records,
        check,
    );
}

#[test]
fn stores_on_arbitrary_files_open_or_fail() {
    let check = |bytes: &[u8]| store_property::check(bytes);
    in_child(
        "stores_on_arbitrary_files_open_or_fail",
        3000,
        changes(),
        check,
    );
}

#[test]
fn readers_of_arbitrary_directories_succeed_or_fail() {
    let directory = support::temp_dir();
    let directory = directory.path().join("store");
    let check = |bytes: &[u8]| directory_property::check(&directory, bytes);
    in_child(
        "readers_of_arbitrary_directories_succeed_or_fail",
        1000,
        changes(),
        check,
    );
}

#[test]
fn unchanged_generated_files_are_a_store() {
    store_property::check(&[]);
    let directory = support::temp_dir();
    directory_property::check(&directory.path().join("store"), &[]);
}
