//! Faults put into the code: the crash tests must find each of them, and nothing in the same run without it.

use super::choose::HeapState;
use super::disk::Array;
use super::fault::{Fault, with};
use super::format::HeapName;
use super::heap;
use super::store::Store;
use crash::{Fault as Failure, Limits, crash_everywhere};
pub(super) use crash::{Op, Recorder};
use judge::{judge, judge_fallback};
use workloads::{TRANSACTIONS, WRITERS, Way, recorded};

#[path = "../../tests/snapshot/crash/mod.rs"]
#[expect(dead_code, unused_imports, reason = "used by the tests there")]
mod crash;
#[path = "../../tests/snapshot/crashes/judge.rs"]
mod judge;
#[path = "../../tests/snapshot/crashes/model.rs"]
mod model;
#[path = "../../tests/snapshot/crashes/workloads.rs"]
#[expect(dead_code, reason = "used by the tests there")]
mod workloads;

type Judgement = Result<(), String>;

/// The fault is there while it is recorded and while it is judged.
fn crashed(faults: &[Fault], way: Way) -> Judgement {
    let limits = Limits {
        subsets_max: 8,
        random_subsets: 100,
        torn_writes: 1,
        depth: 0,
        ..Limits::default()
    };
    with(faults, || {
        let disk = recorded(way, 10, false);
        crash_everywhere(&disk, &limits, &|image| judge(way, image)).map(drop)
    })
}

#[track_caller]
fn assert_caught(faults: &[Fault], says: &str, run: impl Fn(&[Fault]) -> Judgement) {
    run(&[]).expect("right without the fault");
    let error = run(faults).expect_err("the fault is not caught");
    assert!(error.contains(says), "{error}");
}

#[test]
fn h01_pages_that_differ_between_the_heaps_forgotten_after_opening_are_caught() {
    assert_caught(&[Fault::UnionForgotten], "", |faults| {
        crashed(faults, WRITERS)
    });
}

#[test]
fn h02_a_lock_that_is_not_taken_is_caught() {
    let run = |faults: &[Fault]| crashed(faults, TRANSACTIONS);
    assert_caught(&[Fault::LockNotTaken], "fell back", run);
    let unchecked = [Fault::LockNotTaken, Fault::PageChecksumsIgnored];
    assert_caught(&unchecked, "is wrong", run);
}

#[test]
fn h08_a_generation_given_twice_is_caught() {
    assert_caught(&[Fault::GenerationNotAdvanced], "Twins", |faults| {
        crashed(faults, TRANSACTIONS)
    });
}

#[test]
fn journals_dropped_before_the_commit_are_caught() {
    assert_caught(&[Fault::JournalsDroppedEarly], "", |faults| {
        crashed(faults, TRANSACTIONS)
    });
}

/// A heap rots when all is over.
fn rotten(faults: &[Fault]) -> Judgement {
    with(faults, || {
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
fn page_checksums_that_nobody_looks_at_are_caught() {
    assert_caught(&[Fault::PageChecksumsIgnored], "is wrong", rotten);
}

#[test]
fn journals_dropped_that_the_older_heap_needs_are_caught() {
    assert_caught(
        &[Fault::OlderJournalsDropped],
        "was durable and cannot be read",
        rotten,
    );
}

/// Both heaps hold something, then a call of the next base fails; `None` where there are not so many.
fn with_a_failed_base(call: u64, failure: Failure) -> Option<(Recorder, Store)> {
    let way = TRANSACTIONS;
    let disk = Recorder::unpublished(workloads::PART_BYTES);
    let store = way.open(&disk).expect("a store");
    for number in 1..=3 {
        if number > 1 {
            store.checkpoint_base().expect("a base");
        }
        way.step(&disk, &store, number).expect("a step");
    }
    disk.fail_nth(call, failure);
    store.checkpoint_base().err().map(|_| (disk, store))
}

/// The store goes on after each failure, where it can.
fn goes_on(faults: &[Fault], judge: impl Fn(&Recorder) -> Judgement) -> Judgement {
    let mut went_on = 0;
    with(faults, || {
        for call in 0..60 {
            let Some((disk, store)) = with_a_failed_base(call, Failure::StorageFull) else {
                continue;
            };
            if TRANSACTIONS.step(&disk, &store, 4).is_ok() && store.checkpoint_base().is_ok() {
                went_on += 1;
                drop(store);
                judge(&disk).map_err(|error| format!("call {call}: {error}"))?;
            }
        }
        assert!(went_on > 10, "{went_on}");
        Ok(())
    })
}

#[test]
fn h01_what_a_heap_lacks_forgotten_before_its_last_barrier_is_caught() {
    assert_caught(&[Fault::StaleClearedEarly], "fell back", |faults| {
        goes_on(faults, |disk| judge(TRANSACTIONS, &disk.durable_copy()))
    });
}

#[test]
fn h20_a_seal_that_is_not_synced_before_the_next_file_counts_is_caught() {
    let limits = Limits {
        subsets_max: 6,
        random_subsets: 20,
        torn_writes: 0,
        depth: 0,
        ..Limits::default()
    };
    assert_caught(&[Fault::SealNotSynced], "4 was acknowledged", |faults| {
        goes_on(faults, |disk| {
            crash_everywhere(disk, &limits, &|image| judge(TRANSACTIONS, image)).map(drop)
        })
    });
}

#[test]
fn h03_a_lock_that_is_not_written_back_is_caught() {
    let looks = |faults: &[Fault]| {
        with(faults, || {
            for call in 0..60 {
                let Some((disk, store)) = with_a_failed_base(call, Failure::Io) else {
                    continue;
                };
                // What the next opener reads, whatever the disk has.
                for heap in [HeapName::A, HeapName::B] {
                    let copies = heap::read_copies(&disk, heap).expect("read");
                    if let HeapState::Released(found) = heap::state(copies.as_ref())
                        && found.generation > store.generation()
                    {
                        return Err(format!("call {call}: heap {heap} looks committed"));
                    }
                }
            }
            Ok(())
        })
    };
    assert_caught(&[Fault::LockNotWrittenBack], "looks committed", looks);
}

/// Of two records written together the first is torn and the second is not; a third is as long as the first.
fn after_a_torn_tail(faults: &[Fault]) -> Judgement {
    let disk = Recorder::unpublished(workloads::PART_BYTES);
    let fill = |store: &Store, page: u64, byte: u8| {
        store
            .transaction_deferred(|tx| tx.write(page * 4096, &[byte; 4000]))
            .map(|((), sequence): (_, u64)| sequence)
            .expect("a transaction")
    };
    let store = TRANSACTIONS.open(&disk).expect("a store");
    fill(&store, 1, 1);
    let last = fill(&store, 2, 2);
    store.wait_durable(last).expect("written");
    drop(store);
    let disk = disk.durable_copy();
    disk.overwrite((Array::Journal(1), 0), 4608, &[0; 512]);
    with(faults, || {
        let store = TRANSACTIONS.open(&disk).expect("a store");
        assert_eq!(store.open_report().cuts.len(), 1);
        let sequence = fill(&store, 1, 3);
        store.wait_durable(sequence).expect("written");
        drop(store);
        let store = TRANSACTIONS
            .open(&disk)
            .map_err(|error| error.to_string())?;
        let found = store.view(|bytes| [bytes[4096], bytes[8192]]);
        match found.expect("a view") {
            [3, 0] => Ok(()),
            other => Err(format!("pages {other:?}")),
        }
    })
}

#[test]
fn h21_records_behind_a_cut_tail_come_back_only_where_both_rules_are_broken() {
    let both = [Fault::TornTailAppended, Fault::ChainIgnored];
    assert_caught(&both, "[3, 2]", after_a_torn_tail);
    for one in both {
        after_a_torn_tail(&[one]).expect("the other rule holds");
    }
}
