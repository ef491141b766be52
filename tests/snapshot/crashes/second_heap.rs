//! Making the second heap: what fails, and what it is worth.

use flatspan::snapshot::{OnClose, SnapshotError, Store};

use super::crash::{Fault, Limits, Recorder, crash_everywhere};
use super::judge::{judge, judge_second_chance};
use super::workloads::{COPYING, COPYING_WRITERS, Way, recorded};

const WAYS: [Way; 2] = [COPYING, COPYING_WRITERS];
const STEPS: u64 = 4;

/// The same without making the second heap.
fn plain(way: Way) -> Way {
    Way {
        second_heap: false,
        ..way
    }
}

/// One heap, and a journal behind it.
fn with_one_heap(way: Way) -> Recorder {
    recorded(plain(way), STEPS - 1, true).settled()
}

#[test]
fn a_call_that_fails_leaves_a_store_that_goes_on_or_says_that_it_cannot() {
    for way in WAYS {
        for fault in [Fault::Io, Fault::StorageFull, Fault::ShortWrite] {
            let (mut failures, mut poisoned) = (0, 0);
            for call in 0.. {
                let disk = with_one_heap(way);
                let store = plain(way).open(&disk).expect("a store");
                let before = disk.calls();
                disk.fail_nth(call, fault);
                let made = store.make_second_heap();
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
                    Err(SnapshotError::Poisoned { .. }) => poisoned += 1,
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
fn either_heap_will_do_as_soon_as_there_are_two() {
    for way in WAYS {
        let disk = with_one_heap(way);
        assert_eq!(judge_second_chance(plain(way), &disk), Ok(0));
        let store = way.open(&disk).expect("a store");
        let generation = store.generation();
        way.step(&disk, &store, STEPS + 1).expect("a step");
        drop(store);
        assert_eq!(judge_second_chance(plain(way), &disk), Ok(2), "{way:?}");
        let store = plain(way).open(&disk).expect("a store");
        assert!(store.generation() >= generation, "h08: it was told");
    }
}

/// While the copy is not released, the first heap is all there is.
#[test]
fn a_crash_in_the_middle_never_leaves_less_than_one_heap() {
    let limits = Limits {
        depth: 0,
        ..Limits::default()
    };
    for way in WAYS {
        let disk = with_one_heap(way);
        let store = plain(way).open(&disk).expect("a store");
        let first = heaps(&store);
        store.make_second_heap().expect("made");
        assert_ne!(heaps(&store), first);
        let looks = |image: &Recorder| {
            let store = plain(way).open(image).map_err(|error| error.to_string())?;
            match (way.look(&store)?, &store.open_report().fell_back) {
                (STEPS, None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        crash_everywhere(&disk, &limits, &looks).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(COPYING.on_close, OnClose::DropOlder);
}

fn heaps(store: &Store) -> u64 {
    store.generation()
}
