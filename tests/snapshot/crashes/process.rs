//! [`Durability::Process`]: the end of the process loses nothing; a power cut may lose the end, and never anything else (hazard 18).

use std::collections::{BTreeMap, BTreeSet};

use flatspan::snapshot::{Array, HeapName, SnapshotError, Store};

use super::crash::{Limits, Op, Recorder, crash_everywhere};
use super::workloads::{FRUGAL, Ground, RESIZING, TRANSACTIONS, WRITERS, Way, recorded};

const WAYS: [Way; 4] = [
    TRANSACTIONS.weak(),
    RESIZING.weak(),
    WRITERS.weak(),
    FRUGAL.weak(),
];

/// Of heap files, and of the files of their tables, what is written and not synced.
#[derive(Debug, Default)]
struct Books {
    unsynced: BTreeMap<Array, BTreeSet<u64>>,
    /// Both copies of METADATA of each heap, whether the lock is taken.
    taken: BTreeMap<Array, [bool; 2]>,
}

impl Books {
    fn step(&mut self, op: &Op) {
        match op {
            Op::Sync((array, _), inode) => {
                self.unsynced.entry(*array).or_default().remove(inode);
            }
            Op::Write((array, _), inode, ..)
            | Op::SetLen((array, _), inode, _)
            | Op::Discard((array, _), inode, _) => {
                self.unsynced.entry(*array).or_default().insert(*inode);
            }
            _ => {}
        }
        if let Some((array, copy, taken)) = lock(op) {
            self.taken.entry(array).or_default()[copy] = taken;
        }
    }

    fn is_synced(&self, array: Array) -> bool {
        self.unsynced.get(&array).is_none_or(BTreeSet::is_empty)
    }

    fn is_taken(&self, array: Array) -> bool {
        self.taken.get(&array) == Some(&[true; 2])
    }
}

/// A copy of METADATA that is written, and whether with the lock taken.
fn lock(op: &Op) -> Option<(Array, usize, bool)> {
    let Op::Write((array @ Array::Heap(_), 0), _, at @ (0 | 32768), block) = op else {
        return None;
    };
    let word = block[56..64].try_into().expect("a word");
    Some((
        *array,
        (*at / 32768) as usize,
        u64::from_le_bytes(word) == 0,
    ))
}

/// What is written of a heap or its table; METADATA is not meant.
fn content(op: &Op) -> Option<HeapName> {
    op.changed()?;
    match op {
        Op::Write((Array::Heap(heap), 0), _, at, _) => (*at >= 65536).then_some(*heap),
        Op::Write((Array::Heap(heap) | Array::Table(heap), _), ..)
        | Op::SetLen((Array::Heap(heap) | Array::Table(heap), _), ..)
        | Op::Discard((Array::Heap(heap) | Array::Table(heap), _), ..) => Some(*heap),
        _ => None,
    }
}

/// The log behind the making of the store, each operation with the books before it.
fn each(way: Way, steps: u64, closes: bool, mut look: impl FnMut(&Books, &Op)) {
    let log = recorded(way, steps, closes).log();
    let mut books = Books::default();
    let mut is_made = false;
    for op in &log {
        if is_made {
            look(&books, op);
        }
        is_made |= matches!(op, Op::Publish);
        books.step(op);
    }
}

#[test]
fn h18_a_heap_is_entered_only_when_the_commit_of_the_other_one_is_synced() {
    for way in WAYS {
        let mut entered = 0;
        each(way, 10, false, |books, op| {
            if let Some((Array::Heap(heap), 0, true)) = lock(op) {
                entered += 1;
                for array in [Array::Heap(heap.other()), Array::Table(heap.other())] {
                    let dirty = &books.unsynced;
                    assert!(
                        books.is_synced(array),
                        "{way:?}: heap {heap}, {array}: {dirty:?}"
                    );
                }
            }
        });
        assert_eq!(entered, 3, "{way:?}");
    }
}

#[test]
fn h18_what_is_acknowledged_waits_for_no_sync() {
    // So that the tests above and below have something to lose.
    let way = TRANSACTIONS.weak();
    let disk = recorded(way, 2, false);
    let journal = |op: &Op| matches!(op, Op::Sync((Array::Journal(_), _), _));
    let syncs = disk.log().iter().filter(|op| journal(op)).count();
    assert_eq!(syncs, 1, "that of its header");
    let lost = std::cell::Cell::new(0);
    let check = |image: &Recorder| {
        let acknowledged = image.marks().last().copied().unwrap_or(0);
        let found = match image.is_published() {
            true => way.look(&way.open(image).map_err(|error| error.to_string())?)?,
            false => 0,
        };
        lost.set(lost.get() + u32::from(found < acknowledged));
        Ok(())
    };
    crash_everywhere(&disk, &few(), &check).expect("it opens");
    assert!(lost.get() > 0);
}

#[test]
fn h18_a_store_that_was_closed_is_synced() {
    for way in WAYS {
        let mut closed = 0;
        each(way, 4, true, |books, op| {
            let Op::Write((array @ Array::Heap(heap), 0), _, 0, block) = op else {
                return;
            };
            if block[36] == 1 {
                closed += 1;
                for array in [*array, Array::Table(*heap)] {
                    assert!(books.is_synced(array), "{way:?}: {array}");
                }
                let journals = books.unsynced.iter();
                let dirty: Vec<_> = journals
                    .filter(|(array, files)| {
                        matches!(array, Array::Journal(_)) && !files.is_empty()
                    })
                    .collect();
                assert_eq!(dirty, [], "{way:?}");
            }
        });
        assert_eq!(closed, 1, "{way:?}");
    }
}

#[test]
fn h07_pages_and_tables_change_only_while_the_heap_is_locked() {
    let strong = [TRANSACTIONS, RESIZING, WRITERS];
    for way in strong.into_iter().chain(WAYS) {
        let mut changes = [0; 2];
        each(way, 10, false, |books, op| {
            let Some(heap) = content(op) else { return };
            changes[heap as usize] += 1;
            let array = Array::Heap(heap);
            assert!(books.is_taken(array), "{way:?}: {}", op.describe());
        });
        assert!(changes.iter().all(|changes| *changes > 5), "{changes:?}");
    }
}

fn few() -> Limits {
    Limits {
        subsets_max: 8,
        random_subsets: 300,
        torn_writes: 1,
        sectors_max: 4,
        depth: 1,
        again_every: 64,
        again_max: 2000,
        ..Limits::default()
    }
}

/// After a power cut without barriers: some complete state that was, and from there on all is as it must be.
fn judge_weak(way: Way, image: &Recorder) -> Result<(), String> {
    let acknowledged = image.marks().last().copied().unwrap_or(0);
    if !image.is_published() {
        return match acknowledged {
            0 => Ok(()),
            _ => Err("the whole store is lost".to_owned()),
        };
    }
    let open = || way.open(image).map_err(|error| format!("{error:?}"));
    let store = open()?;
    let found = way.look(&store)?;
    // Two steps are taken below, which nobody notes, and may be crashed in turn.
    if found > acknowledged + 3 {
        return Err(format!("{found} after {acknowledged}"));
    }
    drop(store);
    // It stays lost, and is given up once.
    let store = open()?;
    expect(way.look(&store)?, found)?;
    let went_on = |error| format!("going on: {error:?}");
    way.touch(&store, found).map_err(went_on)?;
    store.checkpoint_base().map_err(went_on)?;
    drop(store);
    let open = || match open()? {
        store if store.open_report().fell_back.is_none() => Ok(store),
        store => Err(format!("fell back: {:?}", store.open_report())),
    };
    let store = open()?;
    expect(way.look(&store)?, found)?;
    if found == 0 {
        way.begin(&store).map_err(went_on)?;
    }
    for number in found + 1..found + 3 {
        let lost = way.step(&Forgetful, &store, number);
        lost.map_err(went_on)?;
        store.checkpoint_base().map_err(went_on)?;
    }
    drop(store);
    expect(way.look(&open()?)?, found + 2)
}

/// Where nothing is noted: a step may be taken again, after it was lost.
struct Forgetful;

impl Ground for Forgetful {
    fn open(&self, _way: Way) -> Result<Store, SnapshotError> {
        unreachable!("opened by who steps")
    }

    fn mark(&self, _number: u64) {}
}

fn expect(found: u64, expected: u64) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{found} came back after {expected}")),
    }
}

/// Every image is opened and gone on with, in the same mode and with barriers.
fn crash_weak(way: Way, steps: u64, closes: bool) {
    let disk = recorded(way, steps, closes);
    let strong = Way {
        durability: Default::default(),
        ..way
    };
    let check = |image: &Recorder| {
        let copy = image.settled();
        judge_weak(strong, &copy).map_err(|error| format!("with barriers: {error}"))?;
        judge_weak(way, image)
    };
    let counts = crash_everywhere(&disk, &few(), &check);
    let counts = counts.unwrap_or_else(|error| panic!("{way:?}: {error}"));
    println!("{way:?}, {steps} steps: {counts:?}, 0 forbidden");
}

#[test]
fn h18_no_power_cut_without_barriers_leaves_more_than_an_end_missing_of_transactions() {
    crash_weak(TRANSACTIONS.weak(), 10, false);
}

#[test]
fn h18_no_power_cut_without_barriers_leaves_more_than_an_end_missing_of_resizing() {
    crash_weak(RESIZING.weak(), 10, false);
}

#[test]
fn h18_no_power_cut_without_barriers_leaves_more_than_an_end_missing_of_writers() {
    crash_weak(WRITERS.weak(), 10, false);
}

#[test]
fn h18_no_power_cut_without_barriers_leaves_more_than_an_end_missing_of_closing() {
    for way in [TRANSACTIONS, WRITERS, FRUGAL] {
        crash_weak(way.weak(), 3, true);
    }
}

#[test]
fn h18_the_last_base_but_one_survives_any_power_cut() {
    // Steps 3, 6 and 9 have bases: when that of 9 begins, that of 6 is synced.
    for way in [TRANSACTIONS.weak(), WRITERS.weak()] {
        let disk = recorded(way, 10, false);
        let check = |image: &Recorder| {
            let acknowledged = image.marks().last().copied().unwrap_or(0);
            let least = acknowledged.saturating_sub(3) / 3 * 3;
            if !image.is_published() {
                return Ok(());
            }
            let store = way.open(image).map_err(|error| error.to_string())?;
            match way.look(&store)? {
                found if found >= least => Ok(()),
                found => Err(format!("{found} after {acknowledged}")),
            }
        };
        let counts = crash_everywhere(&disk, &few(), &check);
        counts.unwrap_or_else(|error| panic!("{way:?}: {error}"));
    }
}
