//! Creation of the second heap: failures, and usability of the result.

use flatspan::snapshot::{Generation, OnClose, Store, StoreError};

use super::crash::{Fault, Limits, Recorder, crash_everywhere};
use super::judge::{judge, judge_fallback};
use super::workloads::{COPYING, COPYING_WRITERS, Way, recorded};

const WAYS: [Way; 2] = [COPYING, COPYING_WRITERS];
const STEPS: u64 = 4;

/// Returns the same workload without creating the second heap.
fn plain(way: Way) -> Way {
    Way {
        second_heap: false,
        ..way
    }
}

/// Creates a store with one heap and a journal.
fn with_one_heap(way: Way) -> Recorder {
    recorded(plain(way), STEPS - 1, true).durable_copy()
}

#[test]
fn failed_call_leaves_a_store_that_continues_or_reports_poisoning() {
    for way in WAYS {
        for fault in [Fault::Io, Fault::StorageFull, Fault::ShortWrite] {
            let (mut failures, mut poisoned) = (0, 0);
            for call in 0.. {
                let disk = with_one_heap(way);
                let store = plain(way).open(&disk).expect("a store");
                let before = disk.calls();
                disk.fail_nth(call, fault);
                let made = store.create_second_heap();
                if disk.calls() - before <= call {
                    assert!(matches!(made, Ok(true)), "{made:?}");
                    break;
                }
                failures += u32::from(made.is_err());
                assert_eq!(way.look(&store), Ok(STEPS), "{made:?}");
                let next = way.step(&disk, &store, STEPS + 1);
                let base = next.and_then(|()| store.checkpoint_base().map(drop));
                match base {
                    Ok(()) => {}
                    Err(StoreError::Poisoned { .. }) => poisoned += 1,
                    Err(error) => panic!("call {call}, {made:?}: {error:?}"),
                }
                drop(store);
                let judged = judge(way, &disk.reopened());
                judged.unwrap_or_else(|error| panic!("{way:?}, call {call}: {error}"));
            }
            assert!(failures > 10 && poisoned > 2, "{failures}, {poisoned}");
        }
    }
}

#[test]
fn either_heap_suffices_once_there_are_two() {
    for way in WAYS {
        let disk = with_one_heap(way);
        assert_eq!(judge_fallback(plain(way), &disk), Ok(0));
        let store = way.open(&disk).expect("a store");
        let generation = store.generation();
        way.step(&disk, &store, STEPS + 1).expect("a step");
        drop(store);
        assert_eq!(judge_fallback(plain(way), &disk), Ok(2), "{way:?}");
        let store = plain(way).open(&disk).expect("a store");
        assert!(
            store.generation() >= generation,
            "i08: generation must not decrease"
        );
    }
}

/// Until the copy is complete, the first heap is the only one.
#[test]
fn crash_during_the_copy_keeps_at_least_one_heap() {
    let limits = Limits {
        depth: 0,
        ..Limits::default()
    };
    for way in WAYS {
        let disk = with_one_heap(way);
        let store = plain(way).open(&disk).expect("a store");
        let first = heaps(&store);
        store.create_second_heap().expect("made");
        assert_ne!(heaps(&store), first);
        let looks = |image: &Recorder| {
            let store = plain(way).open(image).map_err(|error| error.to_string())?;
            match (way.look(&store)?, &store.open_report().fallback_reason) {
                (STEPS, None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        crash_everywhere(&disk, &limits, &looks).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(COPYING.on_close, OnClose::RemoveOlder);
}

fn heaps(store: &Store) -> Generation {
    store.generation()
}
