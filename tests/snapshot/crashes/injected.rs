//! Calls that fail: every call of every workload, in each way.
//!
//! Memory is as before the step or after it. The store continues unless it reports that it cannot,
//! and acknowledged data is restored.

use std::cell::RefCell;
use std::collections::BTreeSet;

use flatspan::snapshot::{Durability, LogicalFile, Store, StoreError, WriteMode};

use super::crash::{Fault, Limits, Op, Recorder, crash_everywhere};
use super::judge::judge;
use super::workloads::{PART_BYTES, RESIZING, TRANSACTIONS, WRITERS, Way};

const STEPS: u64 = 7;
const WAYS: [Way; 3] = [TRANSACTIONS, RESIZING, WRITERS];

/// Workload whose `call`-th call after the start fails, and its result.
struct Failed {
    disk: Recorder,
    store: Store,
    /// The step at which it failed, and the error.
    number: u64,
    error: StoreError,
}

/// Runs the workload. Returns `None` if no step failed.
fn run(way: Way, fail: impl FnOnce(&Recorder)) -> Option<Failed> {
    run_on(Recorder::unpublished(PART_BYTES), way, fail)
}

fn run_on(disk: Recorder, way: Way, fail: impl FnOnce(&Recorder)) -> Option<Failed> {
    let store = way.open(&disk).expect("a store");
    way.begin(&store).expect("memory matches the model");
    fail(&disk);
    for number in 1..=STEPS {
        if let Err(error) = way.next(&disk, &store, number) {
            return Some(Failed {
                disk,
                store,
                number,
                error,
            });
        }
    }
    None
}

fn calls(way: Way) -> u64 {
    let before = RefCell::new(0);
    let counted = RefCell::new(None);
    run(way, |disk| {
        *before.borrow_mut() = disk.calls();
        *counted.borrow_mut() = Some(disk.clone());
    });
    let disk = counted.into_inner().expect("workload was run");
    disk.calls() - before.into_inner()
}

fn each_call(fault: Fault, mut look: impl FnMut(Way, Failed)) {
    for way in WAYS {
        for call in 0..calls(way) {
            if let Some(failed) = run(way, |disk| disk.fail_nth(call, fault)) {
                look(way, failed);
            }
        }
    }
}

impl Failed {
    /// Checks that memory is as before the step or after it; a rolled back transaction is as
    /// before.
    fn check_memory(&self, way: Way) {
        let seen = way.look(&self.store).expect("memory matches the model");
        let with = seen == self.number;
        assert!(with || seen + 1 == self.number, "{seen}: {:?}", self.error);
        // Without transactions, a failure does not change memory.
        assert!(with || way.changes == WriteMode::Transactions);
    }

    /// Returns the failed call and the kind of its file.
    fn place(&self) -> String {
        match &self.error {
            StoreError::Backend {
                operation,
                file: array,
                ..
            } => {
                let kind = match array {
                    LogicalFile::Heap(_) => "heap",
                    LogicalFile::Table(_) => "table",
                    LogicalFile::Journal(_) => "journal",
                };
                format!("{operation} {kind}")
            }
            other => panic!("{other:?}"),
        }
    }

    /// Continues: repeats the failed step if it is not in memory, then writes a base.
    fn go_on(&self, way: Way) -> Result<(), StoreError> {
        match way.look(&self.store).expect("memory matches the model") {
            seen if seen == self.number => {
                self.store.checkpoint_base()?;
                self.disk.mark(self.number);
                Ok(())
            }
            _ => way.next(&self.disk, &self.store, self.number),
        }
    }

    fn reopened_is_right(self, way: Way) {
        drop(self.store);
        let judged = judge(way, &self.disk.reopened());
        judged.unwrap_or_else(|error| panic!("{way:?}, {}: {error}", self.error));
    }
}

fn every_call_may_fail(fault: Fault) {
    let mut poisoned = BTreeSet::new();
    let mut went_on = 0;
    each_call(fault, |way, failed| {
        failed.check_memory(way);
        match failed.go_on(way) {
            Ok(()) => went_on += 1,
            Err(StoreError::Poisoned { .. }) => {
                poisoned.insert(failed.place());
            }
            Err(error) => panic!("{way:?}, {}: then {error:?}", failed.error),
        }
        failed.reopened_is_right(way);
    });
    let expected = [
        "append to journal",
        "sync heap",
        "sync journal",
        "sync table",
        // The committing write: it is unknown which part of it is on the disk.
        "write METADATA of heap",
    ];
    assert!(poisoned.iter().eq(expected.iter()), "{poisoned:?}");
    assert!(went_on > 100, "{went_on}");
}

#[test]
fn acknowledged_data_survives_any_failed_call() {
    every_call_may_fail(Fault::Io);
}

#[test]
fn acknowledged_data_survives_any_short_write() {
    every_call_may_fail(Fault::ShortWrite);
}

#[test]
fn acknowledged_data_survives_any_interrupted_call() {
    every_call_may_fail(Fault::Interrupted);
}

#[test]
fn i22_full_disk_rolls_back_a_transaction_without_a_sequence_and_the_store_continues() {
    every_call_may_fail(Fault::StorageFull);
}

#[test]
fn full_disk_in_a_checkpoint_keeps_the_generation_and_the_next_one_succeeds() {
    let mut in_checkpoints = 0;
    each_call(Fault::StorageFull, |way, failed| {
        let is_late = ["sync", "append", "write METADATA"];
        if is_late
            .iter()
            .any(|place| failed.place().starts_with(place))
        {
            return;
        }
        let before = failed.store.generation();
        let report = failed.store.checkpoint_base().expect("space is available");
        assert!(report.generation > before || failed.store.generation() == before);
        assert_eq!(failed.store.generation(), report.generation);
        in_checkpoints += u32::from(report.generation > before);
        failed.reopened_is_right(way);
    });
    assert!(in_checkpoints > 50, "{in_checkpoints}");
}

#[test]
fn i22_space_for_the_journal_seal_is_preallocated() {
    for way in WAYS {
        // Every write is within preallocated space.
        let disk = Recorder::unpublished(PART_BYTES);
        disk.nearly_full();
        let failed = run_on(disk, way, |_| ());
        let error = failed.map(|failed| failed.error);
        assert!(error.is_none(), "{way:?}: {error:?}");
    }
}

#[test]
fn failed_sync_poisons_and_opening_restores_acknowledged_data() {
    let mut syncs = 0;
    each_call(Fault::Io, |way, failed| {
        let log = failed.disk.log();
        if !log.iter().any(|op| matches!(op, Op::SyncFailed(..))) {
            return;
        }
        syncs += 1;
        let refused = failed.store.checkpoint_base();
        assert!(
            matches!(refused, Err(StoreError::Poisoned { .. })),
            "{}: {refused:?}",
            failed.error
        );
        failed.reopened_is_right(way);
    });
    assert!(syncs > 40, "{syncs}");
}

#[test]
fn i03_failed_final_sync_marks_the_heap_as_incomplete_again() {
    let mut barriers = 0;
    each_call(Fault::Io, |way, failed| {
        let log = failed.disk.log();
        let place = log.iter().rposition(|op| matches!(op, Op::SyncFailed(..)));
        let Some(place) = place.filter(|_| failed.place() == "sync heap") else {
            return;
        };
        let Op::SyncFailed((array, _), _) = log[place] else {
            unreachable!("just found");
        };
        let is_commit = log[..place]
            .iter()
            .rfind(|op| op.is_change())
            .is_some_and(|op| matches!(op, Op::Write((of, 0), _, 32768, _) if *of == array));
        if is_commit
            && failed
                .disk
                .files()
                .iter()
                .any(|(of, len)| of.0 == array && *len > 0)
        {
            barriers += 1;
            assert_locked(&failed.disk, array);
        }
        failed.reopened_is_right(way);
    });
    assert!(barriers > 3, "{barriers}");
}

/// Asserts that both copies, read through any cache, have `WRITE_LOCK` 0.
#[track_caller]
fn assert_locked(disk: &Recorder, array: LogicalFile) {
    use flatspan::snapshot::StorageBackend as _;
    for copy in [0, 32768] {
        let mut lock = [0; 8];
        disk.read(array, copy + 56, &mut lock).expect("METADATA");
        assert_eq!(u64::from_le_bytes(lock), 0, "{array} copy {copy}");
    }
}

#[test]
fn i03_crash_after_a_failed_sync_loses_nothing() {
    let limits = Limits {
        subsets_max: 5,
        random_subsets: 0,
        torn_writes: 0,
        depth: 0,
        ..Limits::default()
    };
    let known = RefCell::new(BTreeSet::new());
    each_call(Fault::Io, |way, failed| {
        let log = failed.disk.log();
        if way == RESIZING || !log.iter().any(|op| matches!(op, Op::SyncFailed(..))) {
            return;
        }
        let check = |image: &Recorder| {
            // Most of the log equals that of the failure before.
            let (hash, marks) = image.fingerprint();
            if known.borrow_mut().insert((way.changes as u8, hash, marks)) {
                judge(way, image)
            } else {
                Ok(())
            }
        };
        let crashed = crash_everywhere(&failed.disk, &limits, &check);
        crashed.unwrap_or_else(|error| panic!("{way:?}, {}: {error}", failed.error));
    });
}

#[test]
fn permanently_failing_backend_loses_nothing_acknowledged() {
    // Without syncs the end of the process loses nothing, either.
    for way in WAYS.into_iter().flat_map(|way| [way, way.weak()]) {
        for call in 0..calls(way) {
            let dies = |disk: &Recorder| disk.fail_from_nth(call, Fault::Io);
            let failed = run(way, dies).expect("a step fails without a disk");
            failed.check_memory(way);
            assert!(failed.go_on(way).is_err());
            let log = failed.disk.log();
            let is_in_doubt = log.iter().any(|op| matches!(op, Op::SyncFailed(..)));
            // If data was acknowledged without a sync, the result of a failed sync is undefined.
            if way.durability == Durability::Power || !is_in_doubt {
                failed.reopened_is_right(way);
            }
        }
    }
}

#[test]
fn next_opening_succeeds_after_a_failure_at_any_call() {
    for way in WAYS {
        let disk = super::workloads::recorded(way, 5, false).durable_copy();
        let again = disk.durable_copy();
        drop(way.open(&again).expect("a store"));
        for call in 0..again.calls() {
            for fault in [
                Fault::Io,
                Fault::StorageFull,
                Fault::Interrupted,
                Fault::ShortWrite,
            ] {
                let disk = disk.durable_copy();
                disk.fail_nth(call, fault);
                if let Ok(store) = way.open(&disk) {
                    let found = way.look(&store);
                    let report = store.open_report();
                    assert!(
                        matches!(found, Ok(5..)),
                        "{way:?}, call {call}: {found:?}, {report:?}"
                    );
                }
                let judged = judge(way, &disk.reopened());
                judged.unwrap_or_else(|error| panic!("{way:?}, call {call}: {error}"));
            }
        }
    }
}
