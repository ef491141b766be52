//! Tests of the crash tests: they must find each injected fault, and nothing in the same run
//! without it.

use super::crash::{Fault as Failure, Limits, Recorder, crash_everywhere};
use super::faulty_backend::{FaultyBackend, Omission};
use super::judge::{judge, judge_fallback};
use super::workloads::{self, TRANSACTIONS, WRITERS, Way, recorded, run};
use crate::numbers::JournalNumber;
use crate::snapshot::failpoint::{Failpoint, with_active};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::HeapName;
use crate::snapshot::heap::{self, HeapState};
use crate::snapshot::store::Store;

type Judgement = Result<(), String>;

/// Simulates a crash at every point of a recording. The failpoints are active during the recording
/// and the checks.
fn crashed(faults: &[Failpoint], way: Way) -> Judgement {
    crashed_with(faults, None, way)
}

/// Does the same as [`crashed`] with a backend that leaves out an operation.
fn crashed_with(faults: &[Failpoint], omission: Option<Omission>, way: Way) -> Judgement {
    let limits = Limits {
        subsets_max: 8,
        random_subsets: 100,
        torn_writes: 1,
        depth: 0,
        ..Limits::default()
    };
    with_active(faults, || {
        let disk = Recorder::unpublished(workloads::PART_BYTES);
        let backend = FaultyBackend::new(disk.clone(), omission);
        run(way, &backend, 10, false).expect("the workload succeeds");
        crash_everywhere(&disk, &limits, &|image| judge(way, image)).map(drop)
    })
}

#[track_caller]
fn assert_found(without: Judgement, with_fault: Judgement, expected: &str) {
    without.expect("the test succeeds without the fault");
    let error = with_fault.expect_err("the test finds the fault");
    assert!(error.contains(expected), "{error}");
}

#[track_caller]
fn assert_caught(faults: &[Failpoint], expected: &str, run: impl Fn(&[Failpoint]) -> Judgement) {
    assert_found(run(&[]), run(faults), expected);
}

#[test]
fn i01_a_skipped_comparison_of_the_heaps_is_found() {
    assert_caught(&[Failpoint::SkipHeapComparison], "", |faults| {
        crashed(faults, WRITERS)
    });
}

#[test]
fn i02_a_heap_written_without_a_mark_is_found() {
    let run = |faults: &[Failpoint], omission| crashed_with(faults, omission, TRANSACTIONS);
    let omission = Some(Omission::MarkIncomplete);
    assert_found(run(&[], None), run(&[], omission), "fallback was used");
    let unchecked = [Failpoint::IgnorePageChecksums];
    assert_found(run(&[], None), run(&unchecked, omission), "is wrong");
}

#[test]
fn i08_a_reused_generation_is_found() {
    assert_caught(
        &[Failpoint::ReuseGeneration],
        "DuplicateGeneration",
        |faults| crashed(faults, TRANSACTIONS),
    );
}

#[test]
fn journal_files_removed_before_the_commit_are_found() {
    assert_caught(&[Failpoint::DropJournalsEarly], "", |faults| {
        crashed(faults, TRANSACTIONS)
    });
}

/// Corrupts a heap after the recording.
fn corrupted(faults: &[Failpoint]) -> Judgement {
    with_active(faults, || {
        let disk = recorded(TRANSACTIONS, 8, false);
        match judge_fallback(TRANSACTIONS, &disk)? {
            2 => Ok(()),
            chances => Err(format!(
                "{chances} of 2 heaps can be opened without the other"
            )),
        }
    })
}

#[test]
fn ignored_page_checksums_are_found() {
    assert_caught(&[Failpoint::IgnorePageChecksums], "is wrong", corrupted);
}

#[test]
fn removed_journal_files_of_the_fallback_heap_are_found() {
    assert_caught(
        &[Failpoint::DropFallbackJournals],
        "was durable and cannot be read",
        corrupted,
    );
}

/// Fails a backend call of the third base checkpoint. Returns `None` if it makes fewer calls.
fn with_a_failed_base(
    call: u64,
    failure: Failure,
    omission: Option<Omission>,
) -> Option<(Recorder, FaultyBackend, Store)> {
    let way = TRANSACTIONS;
    let disk = Recorder::unpublished(workloads::PART_BYTES);
    let backend = FaultyBackend::new(disk.clone(), omission);
    let store = way.open(&backend).expect("the store opens");
    for number in 1..=3 {
        if number > 1 {
            store.checkpoint_base().expect("the checkpoint succeeds");
        }
        way.step(&backend, &store, number)
            .expect("the step succeeds");
    }
    disk.fail_nth(call, failure);
    store
        .checkpoint_base()
        .err()
        .map(|_| (disk, backend, store))
}

/// Continues after each failed call, where the store is not poisoned.
fn continues(
    faults: &[Failpoint],
    omission: Option<Omission>,
    judge: impl Fn(&Recorder) -> Judgement,
) -> Judgement {
    let mut continued = 0;
    with_active(faults, || {
        for call in 0..60 {
            let failed = with_a_failed_base(call, Failure::StorageFull, omission);
            let Some((disk, backend, store)) = failed else {
                continue;
            };
            if TRANSACTIONS.step(&backend, &store, 4).is_ok() && store.checkpoint_base().is_ok() {
                continued += 1;
                drop(store);
                judge(&disk).map_err(|error| format!("call {call}: {error}"))?;
            }
        }
        assert!(continued > 10, "{continued}");
        Ok(())
    })
}

#[test]
fn i01_stale_pages_cleared_before_the_final_sync_are_found() {
    assert_caught(
        &[Failpoint::ClearStaleEarly],
        "fallback was used",
        |faults| {
            continues(faults, None, |disk| {
                judge(TRANSACTIONS, &disk.durable_copy())
            })
        },
    );
}

#[test]
fn i20_an_unsynced_seal_record_is_found() {
    let limits = Limits {
        subsets_max: 6,
        random_subsets: 20,
        torn_writes: 0,
        depth: 0,
        ..Limits::default()
    };
    let run = |omission| {
        continues(&[], omission, |disk| {
            crash_everywhere(disk, &limits, &|image| judge(TRANSACTIONS, image)).map(drop)
        })
    };
    let omission = Some(Omission::SyncSealedJournal);
    assert_found(run(None), run(omission), "4 was acknowledged");
}

#[test]
fn i03_a_failed_commit_that_stays_marked_complete_is_found() {
    let run = |omission| {
        for call in 0..60 {
            let failed = with_a_failed_base(call, Failure::Io, omission);
            let Some((disk, _, store)) = failed else {
                continue;
            };
            // The next process to open the store reads this, whatever the disk has.
            for name in [HeapName::A, HeapName::B] {
                let copies = heap::read_copies(&disk, name).expect("the header is readable");
                if let HeapState::Complete(found) = heap::state(copies.as_ref())
                    && found.generation > store.generation()
                {
                    return Err(format!("call {call}: heap {name} looks committed"));
                }
            }
        }
        Ok(())
    };
    let omission = Some(Omission::MarkIncompleteAgain);
    assert_found(run(None), run(omission), "looks committed");
}

/// Tears the first of two records that were written together, and appends a record of its length.
fn after_a_torn_tail(faults: &[Failpoint]) -> Judgement {
    let disk = Recorder::unpublished(workloads::PART_BYTES);
    let fill = |store: &Store, page: u64, byte: u8| {
        let mut tx = store.begin().expect("no transaction is open");
        tx.write_at(page * 4096, &[byte; 4000])
            .expect("the page is in the region");
        tx.commit_deferred().expect("the journal is intact")
    };
    let store = TRANSACTIONS.open(&disk).expect("the store opens");
    fill(&store, 1, 1);
    let last = fill(&store, 2, 2);
    store.wait_durable(last).expect("the journal is intact");
    drop(store);
    let disk = disk.durable_copy();
    disk.overwrite(
        (LogicalFile::Journal(JournalNumber::FIRST), 0),
        4608,
        &[0; 512],
    );
    with_active(faults, || {
        let store = TRANSACTIONS.open(&disk).expect("the store opens");
        assert_eq!(store.open_report().ignored_tails.len(), 1);
        let sequence = fill(&store, 1, 3);
        store.wait_durable(sequence).expect("the journal is intact");
        drop(store);
        let store = TRANSACTIONS
            .open(&disk)
            .map_err(|error| error.to_string())?;
        let found = store.view(|bytes| [bytes[4096], bytes[8192]]);
        match found.expect("no transaction is open") {
            [3, 0] => Ok(()),
            other => Err(format!("pages {other:?}")),
        }
    })
}

#[test]
fn i21_records_after_an_ignored_tail_return_only_without_both_rules() {
    let both = [Failpoint::AppendToIgnoredTail, Failpoint::IgnoreRecordChain];
    assert_caught(&both, "[3, 2]", after_a_torn_tail);
    for one in both {
        after_a_torn_tail(&[one]).expect("the other rule suffices");
    }
}
