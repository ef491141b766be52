//! Bits that flip while a store is not open: never a wrong state, and never an older state without
//! a report.

use flatspan::snapshot::{HeapName, LogicalFile};

use super::crash::Recorder;
use super::workloads::{Ground as _, RESIZING, TRANSACTIONS, WRITERS, Way, recorded};
use crate::support::campaign;

#[derive(Debug, Default)]
struct Found {
    bits: u64,
    healed: u64,
    fell_back: u64,
    refused: u64,
    ignored_tails: u64,
    unchanged: u64,
}

/// Opens the store with one bit flipped.
fn judge(way: Way, disk: &Recorder, file: (LogicalFile, u64), bit: u64, found: &mut Found) {
    let acknowledged = disk.marks().last().copied().expect("steps");
    let corrupt = disk.durable_copy();
    corrupt.flip(file, bit);
    found.bits += 1;
    let before = corrupt.log().len();
    let Ok(store) = corrupt.open(way) else {
        found.refused += 1;
        let changes = corrupt
            .log()
            .iter()
            .skip(before)
            .filter(|op| op.is_change())
            .count();
        assert_eq!(
            changes, 0,
            "{way:?} {file:?} bit {bit}: rejected, but written to"
        );
        return;
    };
    let report = store.open_report().clone();
    let step = way.look(&store);
    let step =
        step.unwrap_or_else(|error| panic!("{way:?} {file:?} bit {bit}: {error}: {report:?}"));
    let fell_back = report.fallback_reason.is_some();
    // The last record of a store that was not closed cannot be distinguished from a record that was
    // being written.
    let has_ignored_tail = !report.ignored_tails.is_empty();
    assert!(
        step >= acknowledged || fell_back || has_ignored_tail,
        "{way:?} {file:?} bit {bit}: {step} after {acknowledged}: {report:?}"
    );
    found.fell_back += u64::from(fell_back);
    found.healed += u64::from(!report.repaired_metadata.is_empty());
    found.ignored_tails += u64::from(has_ignored_tail);
    found.unchanged +=
        u64::from(!fell_back && !has_ignored_tail && report.repaired_metadata.is_empty());
}

#[test]
fn every_flipped_bit_of_metadata_is_detected() {
    // Odd, so that each bit of a byte has its turn.
    let step = campaign::step(11);
    let bits = (0..4096 * 8).step_by(step);
    let disk = recorded(TRANSACTIONS, 7, false);
    let mut found = Found::default();
    for heap in [HeapName::A, HeapName::B] {
        for copy in [0, 32 << 10] {
            for bit in bits.clone() {
                judge(
                    TRANSACTIONS,
                    &disk,
                    (LogicalFile::Heap(heap), 0),
                    copy * 8 + bit,
                    &mut found,
                );
            }
        }
    }
    println!("{found:?}");
    // Of the selected heap. The copies of the other heap are written by the next checkpoint into
    // it.
    assert_eq!(
        (found.healed, found.fell_back),
        (2 * bits.count() as u64, 0),
        "{found:?}"
    );
}

#[test]
fn flipped_bits_never_lead_to_a_wrong_state() {
    let mut random = 0x9E37_79B9_u64;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    for way in [TRANSACTIONS, RESIZING, WRITERS] {
        let disk = recorded(way, 7, false);
        let files: Vec<_> = disk
            .files()
            .into_iter()
            .filter(|(_, len)| *len > 0)
            .collect();
        let mut found = Found::default();
        while found.bits < 3400 {
            let (file, len) = files[below(files.len() as u64) as usize];
            judge(way, &disk, file, below(8 * len), &mut found);
        }
        println!("{way:?}: {found:?}");
    }
}
