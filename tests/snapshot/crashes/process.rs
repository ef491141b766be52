//! [`Durability::Process`]: the end of the process loses nothing. A power cut may lose the last
//! changes, and nothing else [I18].

use std::collections::{BTreeMap, BTreeSet};

use flatspan::snapshot::{HeapName, LogicalFile, Store, StoreError};

use super::crash::{Limits, Op, Recorder, crash_everywhere};
use super::workloads::{
    COPIED_TO_LONGER_PARTS, COPYING, COPYING_WRITERS, FRUGAL, Ground, LONGER_PARTS, RESIZING,
    TRANSACTIONS, WRITERS, Way, recorded,
};
use crate::support::campaign;

const WAYS: [Way; 4] = [
    TRANSACTIONS.weak(),
    RESIZING.weak(),
    WRITERS.weak(),
    FRUGAL.weak(),
];

/// Workloads that create a second heap after opening.
const COPYING_WAYS: [Way; 3] = [
    COPYING.weak(),
    COPYING_WRITERS.weak(),
    COPIED_TO_LONGER_PARTS.weak(),
];

/// Written but unsynced changes of heap files and of their table files.
#[derive(Debug, Default)]
struct SyncState {
    unsynced: BTreeMap<LogicalFile, BTreeSet<u64>>,
    /// For both METADATA copies of each heap, whether `WRITE_LOCK` is 0.
    incomplete: BTreeMap<LogicalFile, [bool; 2]>,
}

impl SyncState {
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
        if let Some((array, copy, incomplete)) = lock(op) {
            self.incomplete.entry(array).or_default()[copy] = incomplete;
        }
    }

    fn is_synced(&self, array: LogicalFile) -> bool {
        self.unsynced.get(&array).is_none_or(BTreeSet::is_empty)
    }

    fn is_incomplete(&self, array: LogicalFile) -> bool {
        self.incomplete.get(&array) == Some(&[true; 2])
    }
}

/// Returns a METADATA copy that is written, and whether its `WRITE_LOCK` is 0.
fn lock(op: &Op) -> Option<(LogicalFile, usize, bool)> {
    let Op::Write((array @ LogicalFile::Heap(_), 0), _, at @ (0 | 32768), block) = op else {
        return None;
    };
    let word = block[56..64].try_into().expect("a word");
    Some((
        *array,
        (*at / 32768) as usize,
        u64::from_le_bytes(word) == 0,
    ))
}

/// Returns the heap whose pages or table are written; METADATA does not count.
fn content(op: &Op) -> Option<HeapName> {
    op.changed()?;
    match op {
        Op::Write((LogicalFile::Heap(heap), 0), _, at, _) => (*at >= 65536).then_some(*heap),
        Op::Write((LogicalFile::Heap(heap) | LogicalFile::Table(heap), _), ..)
        | Op::SetLen((LogicalFile::Heap(heap) | LogicalFile::Table(heap), _), ..)
        | Op::Discard((LogicalFile::Heap(heap) | LogicalFile::Table(heap), _), ..) => Some(*heap),
        _ => None,
    }
}

/// Visits the log after the creation of the store: each operation with the state before it.
fn each(way: Way, steps: u64, closes: bool, look: impl FnMut(&SyncState, &Op)) {
    each_of(&recorded(way, steps, closes), look);
}

fn each_of(disk: &Recorder, mut look: impl FnMut(&SyncState, &Op)) {
    let log = disk.log();
    let mut state = SyncState::default();
    let mut is_made = false;
    for op in &log {
        if is_made {
            look(&state, op);
        }
        is_made |= matches!(op, Op::Publish);
        state.step(op);
    }
}

#[test]
fn i18_heap_is_rewritten_only_after_the_other_commit_is_synced() {
    let ways = WAYS.into_iter().map(|way| (way, 10, false, 3));
    // The base of step 3 and that of closing; the copy, if one heap is left; with tracked memory
    // the base of step 6.
    let copying = COPYING_WAYS.into_iter().zip([3, 4, 2]);
    let copying = copying.map(|(way, entries)| (way, 5, true, entries));
    for (way, steps, closes, entries) in ways.chain(copying) {
        let disk = recorded(way, steps, closes);
        assert_eq!(entered_when_synced(&disk), entries, "{way:?}");
    }
}

/// Returns how many times a heap was marked as incomplete.
fn entered_when_synced(disk: &Recorder) -> u32 {
    let mut entered = 0;
    each_of(disk, |state, op| {
        if let Some((LogicalFile::Heap(heap), 0, true)) = lock(op) {
            entered += 1;
            for array in [
                LogicalFile::Heap(heap.other()),
                LogicalFile::Table(heap.other()),
            ] {
                let dirty = &state.unsynced;
                assert!(state.is_synced(array), "heap {heap}, {array}: {dirty:?}");
            }
        }
    });
    entered
}

#[test]
fn i18_heap_copy_starts_only_after_its_source_is_synced() {
    // The base gives up the heap with parts of the former length.
    let way = LONGER_PARTS.weak();
    let disk = recorded(way, 0, false);
    let store = way.open(&disk).expect("a store");
    way.step(&disk, &store, 1).expect("a step");
    store.checkpoint_base().expect("a base");
    let made = store.create_second_heap();
    assert!(matches!(made, Ok(true)), "{made:?}");
    assert_eq!(entered_when_synced(&disk), 2);
    let looks = |image: &Recorder| judge_weak(way, image);
    let counts = crash_everywhere(&disk, &few(), &looks);
    counts.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn i18_acknowledgement_waits_for_no_sync() {
    // Shows that the other tests of this file have data to lose.
    let way = TRANSACTIONS.weak();
    let disk = recorded(way, 2, false);
    let journal = |op: &Op| matches!(op, Op::Sync((LogicalFile::Journal(_), _), _));
    let syncs = disk.log().iter().filter(|op| journal(op)).count();
    assert_eq!(syncs, 1, "that of its header");
    let lost = std::cell::Cell::new(0);
    let check = |image: &Recorder| {
        let acknowledged = image.marks().last().copied().unwrap_or(0);
        let found = if image.is_published() {
            way.look(&way.open(image).map_err(|error| error.to_string())?)?
        } else {
            0
        };
        lost.set(lost.get() + u32::from(found < acknowledged));
        Ok(())
    };
    crash_everywhere(&disk, &few(), &check).expect("every image opens");
    assert!(lost.get() > 0);
}

#[test]
fn i18_closed_store_is_synced() {
    for way in WAYS {
        let mut closed = 0;
        each(way, 4, true, |state, op| {
            let Op::Write((array @ LogicalFile::Heap(heap), 0), _, 0, block) = op else {
                return;
            };
            if block[36] == 1 {
                closed += 1;
                for array in [*array, LogicalFile::Table(*heap)] {
                    assert!(state.is_synced(array), "{way:?}: {array}");
                }
                let journals = state.unsynced.iter();
                let dirty: Vec<_> = journals
                    .filter(|(array, files)| {
                        matches!(array, LogicalFile::Journal(_)) && !files.is_empty()
                    })
                    .collect();
                assert_eq!(dirty, [], "{way:?}");
            }
        });
        assert_eq!(closed, 1, "{way:?}");
    }
}

#[test]
fn i07_pages_and_tables_change_only_while_the_heap_is_incomplete() {
    let strong = [TRANSACTIONS, RESIZING, WRITERS];
    let ways = strong.into_iter().chain(WAYS);
    let ways = ways.map(|way| (way, 10, false));
    let copying = COPYING_WAYS.into_iter().chain([COPYING, COPYING_WRITERS]);
    for (way, steps, closes) in ways.chain(copying.map(|way| (way, 5, true))) {
        let mut changes = [0; 2];
        each(way, steps, closes, |state, op| {
            let Some(heap) = content(op) else { return };
            changes[heap as usize] += 1;
            let array = LogicalFile::Heap(heap);
            assert!(state.is_incomplete(array), "{way:?}: {}", op.describe());
        });
        assert!(changes.iter().all(|changes| *changes > 5), "{changes:?}");
    }
}

fn few() -> Limits {
    Limits {
        subsets_max: if campaign::is_full() { 8 } else { 4 },
        random_subsets: campaign::scaled(300) as usize,
        torn_writes: 1,
        sectors_max: if campaign::is_full() { 4 } else { 2 },
        depth: 1,
        again_every: 64,
        again_max: campaign::scaled(2000),
        ..Limits::default()
    }
}

/// Judges the state after a power cut without syncs: it is some complete earlier state, and the
/// store works normally from there.
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
    // The two steps below are not noted, and may be crashed in turn.
    if found > acknowledged + 3 {
        return Err(format!("{found} after {acknowledged}"));
    }
    drop(store);
    // Lost data stays lost, and is lost once.
    let store = open()?;
    expect(way.look(&store)?, found)?;
    let went_on = |error| format!("continuing: {error:?}");
    way.touch(&store, found).map_err(went_on)?;
    store.checkpoint_base().map_err(went_on)?;
    drop(store);
    let open = || match open()? {
        store if store.open_report().fallback_reason.is_none() => Ok(store),
        store => Err(format!("fallback was used: {:?}", store.open_report())),
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

/// Ground that notes nothing: a step may be repeated after it was lost.
struct Forgetful;

impl Ground for Forgetful {
    fn open(&self, _way: Way) -> Result<Store, StoreError> {
        unreachable!("opened by the stepping test")
    }

    fn mark(&self, _number: u64) {}
}

fn expect(found: u64, expected: u64) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found} came back after {expected}"))
    }
}

/// Opens every image and continues with it, in the same mode and with syncs.
fn crash_weak(way: Way, steps: u64, closes: bool) {
    // Bases are at steps 3, 6 and 9.
    let steps = if campaign::is_full() {
        steps
    } else {
        steps.min(4)
    };
    let disk = recorded(way, steps, closes);
    let strong = Way {
        durability: Default::default(),
        ..way
    };
    let check = |image: &Recorder| {
        let copy = image.durable_copy();
        judge_weak(strong, &copy).map_err(|error| format!("with barriers: {error}"))?;
        judge_weak(way, image)
    };
    let counts = crash_everywhere(&disk, &few(), &check);
    let counts = counts.unwrap_or_else(|error| panic!("{way:?}: {error}"));
    println!("{way:?}, {steps} steps: {counts:?}, 0 forbidden");
}

#[test]
fn i18_power_cut_without_syncs_loses_only_the_end_of_transactions() {
    crash_weak(TRANSACTIONS.weak(), 10, false);
}

#[test]
fn i18_power_cut_without_syncs_loses_only_the_end_of_resizing() {
    crash_weak(RESIZING.weak(), 10, false);
}

#[test]
fn i18_power_cut_without_syncs_loses_only_the_end_of_tracked_memory() {
    crash_weak(WRITERS.weak(), 10, false);
}

#[test]
fn i18_power_cut_without_syncs_loses_only_the_end_of_closing() {
    for way in [TRANSACTIONS, WRITERS, FRUGAL] {
        crash_weak(way.weak(), 3, true);
    }
}

#[test]
fn i18_power_cut_without_syncs_loses_only_the_end_while_creating_the_second_heap() {
    for way in COPYING_WAYS {
        crash_weak(way, 3, true);
    }
}

#[test]
fn i18_power_cut_without_syncs_loses_only_the_end_while_converting_the_part_length() {
    crash_weak(LONGER_PARTS.weak(), 7, false);
}

#[test]
fn i18_previous_base_survives_any_power_cut() {
    // Steps 3, 6 and 9 write bases: when the base of step 9 begins, that of step 6 is synced.
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
