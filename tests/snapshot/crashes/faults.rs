//! Faults injected into the log: every sync is omitted, and writes are moved across every sync.
//!
//! If no crash shows a fault, the sync is listed here with the reason why nothing depends on it.

use std::cell::RefCell;
use std::collections::HashMap;

use flatspan::snapshot::LogicalFile;

use super::crash::{Limits, Mutation, Op, Recorder, crash_everywhere};
use super::judge::{judge, judge_fallback};
use super::workloads::{
    COPYING, COPYING_WRITERS, FRUGAL, RESIZING, TRANSACTIONS, WRITERS, Way, recorded,
};
use crate::support::campaign;

type Judgement = Result<(), String>;

/// Recorded workload. Most images of a mutant equal those of the log without a fault, so each is
/// judged once.
struct Case {
    way: Way,
    disk: Recorder,
    known: RefCell<HashMap<(u128, Vec<u64>), Judgement>>,
}

impl Case {
    fn new(way: Way, steps: u64, closes: bool) -> Self {
        let case = Self {
            way,
            disk: recorded(way, steps, closes),
            known: RefCell::default(),
        };
        case.crash(&case.disk).expect("right without a fault");
        case
    }

    fn crash(&self, disk: &Recorder) -> Judgement {
        let check = |image: &Recorder| {
            let key = image.fingerprint();
            let known = self.known.borrow().get(&key).cloned();
            known.unwrap_or_else(|| {
                let judged = judge(self.way, image);
                self.known.borrow_mut().insert(key, judged.clone());
                judged
            })
        };
        crash_everywhere(disk, &few(), &check).map(drop)
    }

    /// Returns whether no crash reveals the mutation. Returns `false` if the log has no such
    /// position.
    fn escapes(&self, mutation: Mutation) -> bool {
        let mutant = self.disk.mutated(mutation);
        mutant.is_some_and(|mutant| self.crash(&mutant).is_ok())
    }

    /// Returns the descriptions of all operations of a kind.
    fn places(&self, is_meant: fn(&Op) -> bool) -> Vec<String> {
        let log = self.disk.log();
        let places = (0..log.len()).filter(|at| is_meant(&log[*at]));
        places.map(|at| name(&log, at)).collect()
    }

    /// Asserts that faults are not detected at the `expected` positions, and at no others.
    ///
    /// A run that is not at full length tries only some positions.
    #[track_caller]
    fn assert_escaped(
        &self,
        is_meant: fn(&Op) -> bool,
        fault: fn(usize) -> Mutation,
        expected: &[&str],
    ) {
        let mut missing: Vec<_> = expected.to_vec();
        let places = self.places(is_meant).into_iter().enumerate();
        for (number, name) in places.step_by(campaign::step(4)) {
            if self.escapes(fault(number)) {
                let found = missing.iter().position(|expected| *expected == name);
                let found = found.unwrap_or_else(|| panic!("{:?}: {name} escapes", self.way));
                missing.remove(found);
            }
        }
        if campaign::is_full() {
            assert_eq!(missing, [""; 0], "{:?}: detected", self.way);
        }
    }
}

/// Limits that are sufficient to detect every detectable fault.
fn few() -> Limits {
    Limits {
        subsets_max: 8,
        random_subsets: 300,
        torn_writes: 1,
        sectors_max: 3,
        depth: 0,
        ..Limits::default()
    }
}

fn is_sync(op: &Op) -> bool {
    matches!(op, Op::Sync(..))
}

fn is_sync_dir(op: &Op) -> bool {
    matches!(op, Op::SyncDir)
}

/// Returns the step, the file, and the last change that the operation makes durable.
fn name(log: &[Op], at: usize) -> String {
    let marks = log[..at].iter().filter(|op| matches!(op, Op::Mark(_)));
    let step = marks.count() + 1;
    let last = |is_of: &dyn Fn(&Op) -> bool| {
        let last = log[..at].iter().rfind(|op| op.is_change() && is_of(op));
        last.map_or_else(|| "nothing".to_owned(), what)
    };
    match &log[at] {
        Op::Sync((array, part), inode) => {
            let of = last(&|op| op.changed() == Some(*inode));
            format!("{step} {}: {of}", array.part_name(*part))
        }
        _ => format!("{step} {}", last(&Op::is_of_directory)),
    }
}

fn what(op: &Op) -> String {
    match op {
        Op::Write((LogicalFile::Heap(_), 0), _, offset, _) if *offset < 65536 => {
            "METADATA".to_owned()
        }
        Op::Write((LogicalFile::Journal(_), _), _, 0, _) => "header".to_owned(),
        Op::Write(..) => "content".to_owned(),
        Op::SetLen(..) => "length".to_owned(),
        Op::Discard(..) => "hole".to_owned(),
        other => other.describe(),
    }
}

/// Syncs of a new store and its first base that no crash needs.
const AT_FIRST: [&str; 4] = [
    // The file is empty, and its name is durable with the directory.
    "1 table-a.00000: nothing",
    // Opening writes METADATA again, in case of a failed sync (i03); here it is unchanged. Each of
    // the two copies has its own sync: one is sufficient, and both are needed if a copy is bad
    // (`every` finds that).
    "1 heap-a.00000: METADATA",
    "1 heap-a.00000: METADATA",
    // WRITE_LOCK of a heap that did not exist.
    "3 heap-b.00000: METADATA",
];

#[track_caller]
fn assert_escaped(case: &Case, expected: &[&str]) {
    let expected = [&AT_FIRST, expected].concat();
    case.assert_escaped(is_sync, Mutation::DropSync, &expected);
}

#[test]
fn every_sync_of_transactions_is_needed_except_listed_ones() {
    assert_escaped(
        &Case::new(TRANSACTIONS, 10, false),
        &[
            // A part is extended in a store that has no name yet.
            "1 heap-a.00000: length",
            // The journal up to a base: only the fallback heap needs it (see its own test below).
            "3 journal-0000000000000001.00000: content",
            "6 journal-0000000000000002.00000: content",
            "9 journal-0000000000000003.00000: content",
            // WRITE_LOCK: writes after it are among the differences of the tables (6 is detected).
            "9 heap-b.00000: METADATA",
            // The last completion: the other heap was not changed since, and the journal has
            // everything.
            "9 heap-b.00000: METADATA",
        ],
    );
}

#[test]
fn every_sync_of_a_resizing_store_is_needed_except_listed_ones() {
    assert_escaped(
        &Case::new(RESIZING, 10, false),
        &[
            "3 journal-0000000000000001.00000: content",
            "6 journal-0000000000000002.00000: content",
            "9 journal-0000000000000003.00000: content",
            // WRITE_LOCK, and the last completion, as above.
            "6 heap-a.00000: METADATA",
            "9 heap-b.00000: METADATA",
            "9 heap-b.00000: METADATA",
            // The part has that length already.
            "6 heap-a.00000: length",
        ],
    );
}

#[test]
fn every_sync_of_deltas_and_bases_is_needed_except_listed_ones() {
    assert_escaped(
        &Case::new(WRITERS, 10, false),
        &[
            "3 journal-0000000000000001.00000: content",
            "6 journal-0000000000000002.00000: content",
            "9 journal-0000000000000003.00000: content",
            "6 heap-a.00000: METADATA",
            "6 heap-a.00000: length",
            "9 heap-b.00000: METADATA",
            // A part is full before the next is created: an incomplete heap with missing parts is
            // recreated.
            "3 heap-b.00001: length",
            "3 heap-b.00002: length",
            "6 heap-a.00001: length",
            "6 heap-a.00002: length",
            // Truncation: bytes after the new end are not read, and were zeros or unused.
            "9 heap-b.00003: length",
        ],
    );
}

#[test]
fn every_sync_of_closing_and_opening_is_needed_except_listed_ones() {
    let same = [
        // Created ahead, and without a record yet.
        "3 journal-0000000000000002.00000: header",
        "3 journal-0000000000000001.00000: content",
        // Closing and opening: one of the two copies is sufficient, and the next sync makes both
        // durable. If one is bad, both syncs are needed (i08, below).
        "4 heap-b.00000: METADATA",
        "4 heap-b.00000: METADATA",
        "4 heap-b.00000: METADATA",
        "4 heap-b.00000: METADATA",
    ];
    let parts = ["3 heap-b.00001: length", "3 heap-b.00002: length"];
    let writers = [&same[..], &parts].concat();
    assert_escaped(&Case::new(WRITERS, 3, true), &writers);
    let frugal = [&same[..], &["1 heap-a.00000: length"]].concat();
    assert_escaped(&Case::new(FRUGAL, 3, true), &frugal);
}

#[test]
fn every_sync_of_creating_the_second_heap_is_needed_except_listed_ones() {
    let same = [
        // Closing and opening, as above.
        "3 journal-0000000000000002.00000: header",
        "3 journal-0000000000000001.00000: content",
        "4 heap-b.00000: METADATA",
        "4 heap-b.00000: METADATA",
        "4 heap-b.00000: METADATA",
        "4 heap-b.00000: METADATA",
        // WRITE_LOCK of a heap that did not exist, and the last completion: the other heap was not
        // changed since.
        "4 heap-a.00000: METADATA",
        "4 heap-a.00000: METADATA",
        // A part is full before the next is created: a heap with missing parts is recreated.
        "4 heap-a.00001: length",
    ];
    let transactions = [&same[..], &["1 heap-a.00000: length"]].concat();
    assert_escaped(&Case::new(COPYING, 3, true), &transactions);
    let parts = [
        "3 heap-b.00001: length",
        "3 heap-b.00002: length",
        "4 heap-a.00002: length",
    ];
    let writers = [&same[..], &parts].concat();
    assert_escaped(&Case::new(COPYING_WRITERS, 3, true), &writers);
}

#[test]
fn i02_pages_are_written_only_after_a_durable_write_lock() {
    let case = Case::new(TRANSACTIONS, 6, false);
    let places = case.places(is_sync);
    // The first of two: METADATA marks the heap as incomplete, then as complete.
    let lock = places
        .iter()
        .position(|at| at == "6 heap-a.00000: METADATA");
    assert!(!case.escapes(Mutation::DropSync(lock.expect("a base"))));
}

#[test]
fn fallback_heap_needs_the_journal_up_to_the_base() {
    let way = TRANSACTIONS;
    let disk = recorded(way, 7, false);
    let fallback = |image: &Recorder| judge_fallback(way, image).map(drop);
    crash_everywhere(&disk, &few(), &fallback).expect("right without a fault");
    let log = disk.log();
    let syncs = (0..log.len()).filter(|at| is_sync(&log[*at]));
    for (number, at) in syncs.enumerate() {
        // Of the second base: before it the first heap has no pages.
        if name(&log, at) == "6 journal-0000000000000002.00000: content" {
            let mutant = disk.mutated(Mutation::DropSync(number)).expect("there");
            let found = crash_everywhere(&mutant, &few(), &fallback);
            assert!(found.is_err(), "not caught: {found:?}");
            return;
        }
    }
    panic!("no such sync");
}

#[test]
fn directory_syncs_are_needed_unless_another_one_covers_them() {
    // One sync makes all names durable. Of two syncs without an operation between them only one is
    // needed.
    let at_first = [
        // Before the store has its name.
        "1 create table-a.00000",
        "1 create table-a.00000",
        // The file created ahead, beside the heap that is synced next.
        "3 create journal-0000000000000002.00000",
    ];
    // Of the heap, then of its table.
    let at_last = ["3 create heap-b.00003", "3 create heap-b.00003"];
    let assert_dirs = |case: &Case, expected: &[&str]| {
        case.assert_escaped(is_sync_dir, Mutation::DropSyncDir, expected);
    };
    let case = Case::new(WRITERS, 10, false);
    // One part after the other: a heap with missing parts is recreated, since nothing in it counts
    // yet.
    let parts = ["table-b.00000", "heap-b.00001", "heap-b.00002"];
    let parts = parts.map(|part| format!("3 create {part}"));
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let after = [
        "6 create journal-0000000000000003.00000",
        "6 create heap-a.00001",
        "6 create heap-a.00002",
    ];
    let expected = [&at_first[..], &parts, &at_last, &after].concat();
    assert_dirs(&case, &expected);
    assert!(!case.escapes(Mutation::DropSyncDirs));
    let case = Case::new(RESIZING, 10, false);
    let after = [
        "6 create journal-0000000000000003.00000",
        "6 create heap-a.00001",
        "6 create heap-a.00002",
        "9 create journal-0000000000000004.00000",
        "9 remove heap-b.00003",
    ];
    let expected = [&at_first[..], &parts, &at_last, &after].concat();
    assert_dirs(&case, &expected);
    assert!(!case.escapes(Mutation::DropSyncDirs));
}

#[test]
fn writes_moved_across_a_sync_are_detected_unless_independent() {
    let case = Case::new(TRANSACTIONS, 10, false);
    case.assert_escaped(
        is_sync,
        Mutation::SwapAcrossSync,
        &[
            // Syncs that no crash needs (above).
            "1 heap-a.00000: length",
            "1 heap-a.00000: METADATA",
            "1 heap-a.00000: METADATA",
            // The second METADATA copy is moved across: the first stays in place.
            "3 heap-b.00000: METADATA",
            // One part after the other, as above.
            "3 heap-b.00000: length",
            "3 journal-0000000000000001.00000: content",
            "3 heap-b.00000: METADATA",
            "6 heap-a.00000: METADATA",
            "6 journal-0000000000000002.00000: content",
            "6 heap-a.00000: METADATA",
            "9 heap-b.00000: METADATA",
            "9 journal-0000000000000003.00000: content",
            "9 heap-b.00000: METADATA",
        ],
    );
}

#[test]
fn header_before_its_data_is_detected_in_every_base() {
    for way in [TRANSACTIONS, WRITERS] {
        let case = Case::new(way, 10, false);
        let log = case.disk.log();
        let is_table = |op: &Op| matches!(op, Op::Sync((LogicalFile::Table(_), _), _));
        let mut bases = 0;
        for synced in (0..log.len()).filter(|at| is_table(&log[*at])).skip(1) {
            let release = (synced..log.len()).find(|at| what(&log[*at]) == "METADATA");
            let release = release.expect("METADATA follows the table");
            let data = log[..synced].iter().rposition(|op| !is_barrier(op));
            let mutation = Mutation::Earlier(release, data.expect("pages"));
            assert!(!case.escapes(mutation), "{}", name(&log, synced));
            bases += 1;
        }
        assert_eq!(bases, 3);
    }
}

fn is_barrier(op: &Op) -> bool {
    is_sync(op) || is_sync_dir(op)
}
