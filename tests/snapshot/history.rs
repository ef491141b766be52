//! History of a store: snapshots kept beside the newest state.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use flatspan::snapshot::{
    CurrentState, History, HistorySnapshot, Problem, ProblemKind, Rollback, Store, StoreError,
    StoreOptions, StoreReader, WriteMode,
};
use proptest::prelude::*;

use crate::support::campaign;
use crate::support::filesystem::{Kind, SmallFs};
use crate::support::power::{Lie, Plan, PowerFs};
use crate::support::temp_dir;

const PAGE: u64 = 4096;

fn options(changes: WriteMode) -> StoreOptions {
    StoreOptions::default()
        .write_mode(changes)
        .reserve_bytes(64 << 20)
        .part_bytes(64 << 10)
        .initial_bytes(40 * PAGE)
        // Options without background work.
        .create_second_heap(false)
}

fn open(path: &Path, changes: WriteMode) -> Store {
    Store::open(path, options(changes)).expect("a store")
}

fn put(store: &Store, changes: WriteMode, page: u64, byte: u8) {
    let bytes = [byte; PAGE as usize];
    if changes == WriteMode::Transactions {
        let done: Result<(), StoreError> = store.transaction(|tx| tx.write_at(page * PAGE, &bytes));
        done.expect("a transaction");
    } else {
        let inside = store.write_guard().expect("access lock is free");
        inside.write_at(page * PAGE, &bytes).expect("written");
    }
}

/// Returns the newest state, read by a reader.
fn read(path: &Path) -> Vec<u8> {
    let reader = StoreReader::open(path).expect("a store");
    let image = reader.newest().expect("a state");
    let mut bytes = vec![0; image.len() as usize];
    let done: Result<(), StoreError> = image.for_each_data(|at, part| {
        bytes[at as usize..][..part.len()].copy_from_slice(part);
        Ok(())
    });
    done.expect("a good state");
    bytes
}

fn verify(path: &Path) {
    let reader = StoreReader::open(path).expect("a store");
    let verified = reader.verify(|_| ControlFlow::Continue(()));
    let verified = verified.expect("verification runs");
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}

fn names(history: &History) -> Vec<String> {
    let all = history.list().expect("a list");
    all.iter().map(HistorySnapshot::name).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, u8),
    Base,
    Delta,
    Resize(u64),
    Keep,
    Prune(usize),
    /// Reopen, after closing or as after a crash.
    Again(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..40_u64, 1..=255_u8).prop_map(|(page, byte)| Step::Put(page, byte)),
        2 => Just(Step::Base),
        2 => Just(Step::Delta),
        1 => (40..80_u64).prop_map(Step::Resize),
        3 => Just(Step::Keep),
        1 => (0..4_usize).prop_map(Step::Prune),
        1 => any::<bool>().prop_map(Step::Again),
    ];
    prop::collection::vec(step, 1..40)
}

/// Asserts that a snapshot keeps the state that was durable when it was added, whatever happens to
/// the store later, and that it opens.
fn history_snapshots_do_not_change(changes: WriteMode, steps: &[Step]) {
    let directory = temp_dir();
    let path = directory.path().join("store");
    let history = History::new(&path);
    let mut store = open(&path, changes);
    let mut memory = vec![0; 40 * PAGE as usize];
    let mut durable = memory.clone();
    let mut model: Vec<(HistorySnapshot, Vec<u8>)> = Vec::new();
    for step in steps {
        match step {
            Step::Put(page, byte) => {
                put(&store, changes, *page, *byte);
                memory[(*page * PAGE) as usize..][..PAGE as usize].fill(*byte);
            }
            Step::Base | Step::Delta if changes == WriteMode::Transactions => {
                store.checkpoint().expect("a checkpoint");
            }
            Step::Base => drop(store.checkpoint_base().expect("a base")),
            Step::Delta => drop(store.checkpoint_delta().expect("a delta")),
            Step::Resize(pages) => {
                match changes {
                    WriteMode::Transactions => store.transaction(|tx| tx.resize(pages * PAGE)),
                    _ => store.resize(pages * PAGE),
                }
                .expect("resized");
                memory.resize((pages * PAGE) as usize, 0);
            }
            Step::Keep => {
                let kept = history.add().expect("history");
                match model.iter().find(|(known, _)| *known == kept) {
                    Some((_, state)) => assert!(*state == durable, "the same name, the same state"),
                    None => model.push((kept, durable.clone())),
                }
            }
            Step::Prune(count) => {
                let removed = history.prune(*count).expect("pruned");
                let gone = model.len().saturating_sub(*count);
                let gone: Vec<_> = model.drain(..gone).map(|(kept, _)| kept).collect();
                assert_eq!(removed, gone, "the oldest go");
            }
            Step::Again(closed) => {
                match closed {
                    true => {
                        store.close().expect("closed");
                        durable.clone_from(&memory);
                    }
                    false => drop(store),
                }
                store = open(&path, changes);
                memory.clone_from(&durable);
            }
        }
        let now_durable =
            changes == WriteMode::Transactions || matches!(step, Step::Base | Step::Delta);
        if now_durable {
            durable.clone_from(&memory);
        }
    }
    drop(store);
    let listed: Vec<_> = model.iter().map(|(kept, _)| kept.name()).collect();
    assert_eq!(names(&history), listed);
    for (kept, state) in &model {
        verify(kept.path());
        assert!(read(kept.path()) == *state, "{}", kept.name());
        let store = open(kept.path(), changes);
        assert_eq!(store.len(), state.len() as u64);
        put(&store, changes, 1, 9);
        store.checkpoint().expect("store continues");
        drop(store);
        verify(kept.path());
    }
    verify(&path);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn history_snapshots_of_tracked_stores_do_not_change(steps in steps()) {
        history_snapshots_do_not_change(WriteMode::Tracked, &steps);
    }

    #[test]
    fn history_snapshots_of_transactional_stores_do_not_change(steps in steps()) {
        history_snapshots_do_not_change(WriteMode::Transactions, &steps);
    }
}

#[test]
fn i08_generation_in_the_history_is_not_reused() {
    let directory = temp_dir();
    let path = directory.path().join("store");
    let history = History::new(&path);
    let store = open(&path, WriteMode::Tracked);
    put(&store, WriteMode::Tracked, 1, 1);
    store.checkpoint_base().expect("a base");
    let before = directory.path().join("before");
    copy(&path, &before);
    for byte in 2..6 {
        put(&store, WriteMode::Tracked, 1, byte);
        store.checkpoint_base().expect("a base");
    }
    let kept = history.add().expect("history");
    drop(store);
    // Removes everything but the history, and puts back an earlier copy.
    for entry in path.read_dir().expect("a directory").flatten() {
        if entry.path().is_file() {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
    copy(&before, &path);
    let store = open(&path, WriteMode::Tracked);
    put(&store, WriteMode::Tracked, 1, 77);
    store.checkpoint_base().expect("a base");
    assert!(store.generation() > kept.generation());
    let again = history.add().expect("history");
    assert!(again.generation() > kept.generation());
    assert_eq!(read(kept.path())[4096], 5);
    assert_eq!(read(again.path())[4096], 77);
}

/// Copies the files of a store without its history.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in from.read_dir().expect("a directory").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

/// After a power cut, a journal that was not synced continues before its former end.
#[test]
fn last_added_state_is_the_newest_despite_lower_numbers() {
    let directory = temp_dir();
    let (one, other) = (directory.path().join("one"), directory.path().join("other"));
    let store = open(&one, WriteMode::Transactions);
    put(&store, WriteMode::Transactions, 0, 1);
    drop(store);
    copy(&one, &other);
    for (path, bytes) in [(&one, 2..=9), (&other, 77..=77)] {
        let store = open(path, WriteMode::Transactions);
        bytes.for_each(|byte| put(&store, WriteMode::Transactions, 0, byte));
    }
    let lost = History::new(&one).add().expect("history");
    // Simulates that the state of this store was lost and replaced by the other one.
    fs::rename(one.join("history"), other.join("history")).expect("moved");
    let history = History::new(&other);
    let kept = history.add().expect("history");
    assert_eq!(kept.generation(), lost.generation());
    assert_eq!(history.add().expect("kept already"), kept);
    assert_eq!(names(&history), [lost.name(), kept.name()]);
    let removed = history.prune(1).expect("pruned");
    let removed: Vec<_> = removed.iter().map(HistorySnapshot::name).collect();
    assert_eq!(removed, [lost.name()]);
    assert_eq!(read(kept.path())[0], 77);
}

#[test]
fn history_without_a_store_creates_nothing() {
    let directory = temp_dir();
    let path = directory.path().join("store");
    fs::create_dir(&path).expect("a directory");
    let history = History::new(&path);
    history.add().expect_err("no store exists");
    assert_eq!(path.read_dir().expect("directory is readable").count(), 0);
    open(&path, WriteMode::Tracked);
    history.add().expect("history");
}

/// A snapshot that cannot be removed does not prevent the removal of the others.
#[test]
fn snapshot_that_cannot_be_removed_is_reported_and_others_are_removed() {
    let directory = temp_dir();
    let path = directory.path().join("store");
    let history = History::new(&path);
    let store = open(&path, WriteMode::Tracked);
    let mut kept = Vec::new();
    for byte in 1..=3 {
        put(&store, WriteMode::Tracked, 0, byte);
        store.checkpoint_delta().expect("a delta");
        kept.push(history.add().expect("history"));
    }
    // The snapshot's lock can no longer be acquired.
    fs::remove_dir_all(kept[0].path()).expect("removed");
    fs::create_dir_all(kept[0].path().join("lock/x")).expect("made");
    let error = history.prune(1).expect_err("the failure is reported");
    assert!(error.to_string().contains("lock"), "{error}");
    assert_eq!(names(&history), [kept[0].name(), kept[2].name()]);
}

/// Every page holds the number of the round, so a state with two numbers was never durable.
#[test]
fn i17_snapshot_is_of_one_point_in_time_while_checkpoints_run() {
    const ROUNDS: usize = 12;
    let directory = temp_dir();
    let path = directory.path().join("store");
    let store = open(&path, WriteMode::Tracked);
    store.checkpoint_base().expect("a base");
    let reader_guard = Arc::new(());
    let reader_runs = Arc::downgrade(&reader_guard);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_u8;
            while reader_runs.strong_count() > 0 {
                round = round.wrapping_add(1);
                let inside = store.write_guard().expect("access lock is free");
                for page in 0..40 {
                    let bytes = [round; PAGE as usize];
                    inside.write_at(page * PAGE, &bytes).expect("written");
                }
                drop(inside);
                match round % 3 {
                    0 => store.checkpoint_base().map(drop),
                    _ => store.checkpoint_delta().map(drop),
                }
                .or_else(|error| match error.kind() {
                    // The wait for the heap timed out.
                    ErrorKind::ResourceBusy => Ok(()),
                    _ => Err(error),
                })
                .expect("a checkpoint");
            }
        });
        // Also runs if a check fails.
        let _reader_guard = reader_guard;
        let history = History::new(&path);
        let mut seen = Vec::new();
        while seen.len() < ROUNDS {
            // The only acceptable errors are of a heap that is rewritten again and again.
            match history.add() {
                Ok(kept) => {
                    let state = read(kept.path());
                    assert!(state.iter().all(|byte| *byte == state[0]), "torn");
                    verify(kept.path());
                    seen.push(state[0]);
                    history.prune(2).expect("pruned");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}"),
            }
        }
        seen.dedup();
        assert!(seen.len() > 1, "no checkpoint ran meanwhile");
    });
}

#[test]
fn snapshot_in_use_is_removed_later() {
    let directory = temp_dir();
    let path = directory.path().join("store");
    let history = History::new(&path);
    let store = open(&path, WriteMode::Tracked);
    let mut kept = Vec::new();
    for byte in 1..=4 {
        put(&store, WriteMode::Tracked, 0, byte);
        store.checkpoint_delta().expect("a delta");
        kept.push(history.add().expect("history"));
    }
    let reader = StoreReader::open(kept[0].path()).expect("a store");
    let image = reader.newest().expect("a state");
    let writer = open(kept[1].path(), WriteMode::Tracked);
    let removed = history.prune(1).expect("pruned");
    assert_eq!(removed, [kept[2].clone()]);
    assert_eq!(names(&history).len(), 3);
    drop((image, writer));
    let removed = history.prune(1).expect("pruned");
    assert_eq!(removed, kept[..2]);
    assert_eq!(names(&history), [kept[3].name()]);
    assert_eq!(history.prune(0).expect("pruned").len(), 1);
    let left: Vec<_> = path
        .join("history")
        .read_dir()
        .expect("directory is readable")
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "the lock only: {left:?}");
}

#[test]
fn leftovers_of_a_killed_process_are_removed_and_foreign_files_stay() {
    let directory = temp_dir();
    let path = directory.path().join("store");
    let history = History::new(&path);
    let store = open(&path, WriteMode::Tracked);
    store.checkpoint_base().expect("a base");
    assert_eq!(names(&history), [""; 0]);
    assert!(history.prune(0).expect("call succeeds").is_empty());
    assert!(!path.join("history").exists(), "prune created a directory");
    let kept = history.add().expect("history");
    let leftovers = [".9-9.new-17-0123456789abcdef", ".1-7.old"];
    for name in leftovers {
        copy(kept.path(), &path.join("history").join(name));
    }
    let others = ["1-0-x", "notes", "01-1", ".git", ".mine.new-17-0"];
    for name in others {
        fs::create_dir(path.join("history").join(name)).expect("made");
    }
    assert_eq!(names(&history), [kept.name()]);
    assert_eq!(history.add().expect("kept already"), kept);
    for name in leftovers {
        assert!(!path.join("history").join(name).exists(), "{name}");
    }
    history.prune(0).expect("pruned");
    for name in others {
        assert!(path.join("history").join(name).exists(), "{name}");
    }
    // The history is no part of the store.
    drop(store);
    verify(&path);
    open(&path, WriteMode::Tracked);
}

#[test]
fn store_on_a_full_disk_continues_without_history() {
    let Some(small) = SmallFs::new(Kind::Tmpfs, 4 << 20) else {
        return;
    };
    let path = small.path().join("store");
    let history = History::new(&path);
    let store = open(&path, WriteMode::Tracked);
    for page in 0..40 {
        put(&store, WriteMode::Tracked, page, 1);
    }
    store.checkpoint_base().expect("a base");
    history.add().expect("space is available");
    store
        .checkpoint_base()
        .expect("unchanged checkpoint succeeds");
    put(&store, WriteMode::Tracked, 3, 2);
    store.checkpoint_base().expect("a base");
    small.fill_leaving(140 << 10);
    let error = history.add().expect_err("disk is full");
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    let left = path
        .join("history")
        .read_dir()
        .expect("directory is readable")
        .count();
    assert_eq!(left, 2, "expected one snapshot and the lock");
    put(&store, WriteMode::Tracked, 3, 3);
    store
        .checkpoint_base()
        .expect("store files have their space");
    history.prune(0).expect("pruned");
    history.add().expect("space is available");
    verify(&path);
}

/// The store copies shared storage when it writes it. The space for this may no longer exist.
#[test]
fn i35_shared_storage_on_a_full_disk_is_an_error() {
    const PAGES: u64 = 4096;
    for kind in [Kind::Xfs, Kind::Btrfs] {
        let Some(small) = SmallFs::new(kind, 300 << 20) else {
            return;
        };
        let path = small.path().join("store");
        let history = History::new(&path);
        let store = Store::open(
            &path,
            options(WriteMode::Tracked)
                .part_bytes(4 << 20)
                .initial_bytes(PAGES * PAGE),
        )
        .expect("a store");
        let fill = |byte: u8| {
            let inside = store.write_guard().expect("access lock is free");
            inside
                .write_at(0, &vec![byte; (PAGES * PAGE) as usize])
                .expect("written");
        };
        for byte in 1..=2 {
            fill(byte);
            store.checkpoint_base().expect("a base");
        }
        let before = free(&small);
        let kept = [history.add().expect("history")];
        let cost = before.saturating_sub(free(&small));
        assert!(
            cost < PAGES * PAGE / 4,
            "{kind:?}: the snapshot uses {cost} bytes"
        );
        small.fill_leaving(1 << 20);
        // The heap that is written next is not shared; the one after it is.
        let mut failed = None;
        for byte in 3..=6 {
            fill(byte);
            if let Err(error) = store.checkpoint_base() {
                failed = Some((byte, error));
                break;
            }
        }
        let (byte, error) = failed.expect("disk is too full to copy shared storage");
        // btrfs reports the error only at the sync.
        assert!(
            matches!(error.kind(), ErrorKind::StorageFull) || kind == Kind::Btrfs,
            "{kind:?}: {error}"
        );
        drop(store);
        small.unfill();
        assert!(
            read(&path).iter().all(|found| *found == byte - 1),
            "{kind:?}"
        );
        assert!(read(kept[0].path()).iter().all(|byte| *byte == 2));
        verify(kept[0].path());
        history.prune(0).expect("pruned");
        let store = Store::open(&path, options(WriteMode::Tracked).part_bytes(4 << 20));
        let store = store.expect("a store");
        put(&store, WriteMode::Tracked, 0, 9);
        store.checkpoint_base().expect("space is available");
    }
}

fn free(small: &SmallFs) -> u64 {
    let root = fs::File::open(small.path()).expect("the root");
    rustix::fs::syncfs(root).expect("synced");
    small.free()
}

/// A clone has the same holes as its source.
#[test]
fn history_snapshots_keep_holes() {
    let directory = temp_dir();
    let path = directory.path().join("store");
    let store =
        Store::open(&path, options(WriteMode::Tracked).initial_bytes(16 << 20)).expect("a store");
    put(&store, WriteMode::Tracked, 2000, 1);
    store.checkpoint_base().expect("a base");
    let kept = History::new(&path).add().expect("history");
    let files = kept.path().read_dir().expect("a directory").flatten();
    let blocks: u64 = files
        .map(|file| file.metadata().expect("metadata is readable").blocks())
        .sum();
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
    assert!(read(kept.path()) == read(&path));
}

/// Two states of different lengths: the snapshot, and the newest one.
struct Rolled {
    snapshot: HistorySnapshot,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Makes a store with a snapshot of 48 pages and a newest state of 40 or 64, and closes it or not.
fn prepare(path: &Path, changes: WriteMode, pages: u64, is_closed: bool) -> Rolled {
    let store = open(path, changes);
    resize(&store, changes, 48);
    for page in [0, 3, 47] {
        put(&store, changes, page, 1);
    }
    store.checkpoint_base().expect("a base checkpoint");
    put(&store, changes, 5, 2);
    checkpoint_delta(&store, changes);
    let snapshot = History::new(path).add().expect("a snapshot");
    let before = read(path);
    resize(&store, changes, pages);
    for page in [0, 7, pages - 1] {
        put(&store, changes, page, 3);
    }
    store.checkpoint_base().expect("a base checkpoint");
    put(&store, changes, 9, 4);
    checkpoint_delta(&store, changes);
    if is_closed {
        store.close().expect("closed");
    } else {
        drop(store);
    }
    let after = read(path);
    Rolled {
        snapshot,
        before,
        after,
    }
}

fn checkpoint_delta(store: &Store, changes: WriteMode) {
    if changes == WriteMode::Tracked {
        store.checkpoint_delta().expect("a delta checkpoint");
    }
}

fn resize(store: &Store, changes: WriteMode, pages: u64) {
    let resized = if changes == WriteMode::Transactions {
        store.transaction(|tx| tx.resize(pages * PAGE))
    } else {
        store.resize(pages * PAGE)
    };
    resized.expect("resized");
}

/// Another test may fork at this moment, and its child has the lock until it calls exec.
fn roll_back(path: &Path, name: &str, current: CurrentState) -> Result<Rollback, StoreError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match History::new(path).rollback(name, current) {
            Err(StoreError::InUse { .. }) if Instant::now() < deadline => {}
            done => return done,
        }
    }
}

#[test]
fn rollback_commits_the_snapshot_and_keeps_the_replaced_state() {
    for changes in [WriteMode::Tracked, WriteMode::Transactions] {
        for (pages, is_closed) in [(40, true), (64, false)] {
            let directory = temp_dir();
            let path = directory.path().join("store");
            let rolled = prepare(&path, changes, pages, is_closed);
            let history = History::new(&path);
            let newest = StoreReader::open(&path).and_then(|reader| reader.newest());
            let generation = newest.expect("a state").generation();

            let done = roll_back(&path, &rolled.snapshot.name(), CurrentState::Keep);
            let done = done.expect("rolled back");
            assert!(read(&path) == rolled.before, "{changes:?}");
            verify(&path);
            assert!(done.generation > generation);
            assert_eq!(done.region_bytes, rolled.before.len() as u64);
            let replaced = done.replaced.expect("a snapshot of what was replaced");
            assert!(read(replaced.path()) == rolled.after);
            assert_eq!(names(&history), [rolled.snapshot.name(), replaced.name()]);

            let store = open(&path, changes);
            assert_eq!(store.generation(), done.generation);
            assert!(store.open_report().clean_shutdown);
            put(&store, changes, 2, 9);
            store.checkpoint_base().expect("a base checkpoint");
            put(&store, changes, 3, 9);
            checkpoint_delta(&store, changes);
            drop(store);
            verify(&path);
            assert_eq!(read(&path)[3 * PAGE as usize], 9);

            let undone = roll_back(&path, &replaced.name(), CurrentState::Discard);
            let undone = undone.expect("rolled back");
            assert!(read(&path) == rolled.after);
            assert!(undone.generation > done.generation);
            assert_eq!(undone.replaced, None);
            assert_eq!(names(&history), [rolled.snapshot.name(), replaced.name()]);
            assert!(read(rolled.snapshot.path()) == rolled.before);
        }
    }
}

#[test]
fn rollback_refuses_while_a_writer_holds_the_store() {
    let directory = temp_dir();
    let path = directory.path().join("store");
    let rolled = prepare(&path, WriteMode::Tracked, 40, true);
    let store = open(&path, WriteMode::Tracked);
    let refused = History::new(&path).rollback(&rolled.snapshot.name(), CurrentState::Keep);
    assert!(
        matches!(refused, Err(StoreError::InUse { .. })),
        "{refused:?}"
    );
    drop(store);
    assert!(read(&path) == rolled.after);
    assert_eq!(names(&History::new(&path)), [rolled.snapshot.name()]);
}

#[test]
fn rollback_to_a_missing_or_corrupt_snapshot_changes_nothing() {
    let directory = temp_dir();
    let path = directory.path().join("store");
    let rolled = prepare(&path, WriteMode::Tracked, 40, true);
    let history = History::new(&path);
    for name in ["9-9", "", "../x", "lock", "01-1"] {
        let error = roll_back(&path, name, CurrentState::Keep).expect_err("no such snapshot");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}: {error}");
    }
    assert_eq!(names(&history), [rolled.snapshot.name()]);
    for entry in rolled.snapshot.path().read_dir().expect("it").flatten() {
        if entry.file_name().to_string_lossy().contains("heap") {
            let mut bytes = fs::read(entry.path()).expect("read");
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(entry.path(), bytes).expect("written");
        }
    }
    let error = roll_back(&path, &rolled.snapshot.name(), CurrentState::Discard);
    let error = error.expect_err("the snapshot is corrupt");
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(read(&path) == rolled.after);
    verify(&path);
}

/// A torn copy of METADATA beside a good one is repaired by the next opening.
fn verify_after_crash(path: &Path) {
    let reader = StoreReader::open(path).expect("a store");
    let verified = reader.verify(|_| ControlFlow::Continue(()));
    let faults = verified.expect("looked at").problems;
    let is_torn_header = |fault: &Problem| matches!(fault.kind, ProblemKind::Metadata { .. });
    assert!(faults.iter().all(is_torn_header), "{faults:?}");
}

/// Operations of the filesystem that a rollback takes, with a power cut after each of them.
#[test]
fn i08_rollback_interrupted_at_any_operation_leaves_one_of_both_states() {
    // Cuts of one kind of store; all of them with `FLATSPAN_POWER_ALL`.
    let cuts_max = if campaign::is_full() { 30 } else { 10 };
    let Some(fs) = PowerFs::new() else { return };
    for (changes, seed) in [
        (WriteMode::Tracked, 0),
        (WriteMode::Transactions, 0),
        (WriteMode::Tracked, 77),
    ] {
        let path = fs.path().join("store");
        let begin = |plan: Plan| {
            fs.begin_empty(Plan::NO_CUT);
            let rolled = prepare(&path, changes, 40, false);
            fs.begin_again(plan);
            rolled
        };
        let rolled = begin(Plan::NO_CUT);
        roll_back(&path, &rolled.snapshot.name(), CurrentState::Keep).expect("rolled back");
        let operations = fs.progress().operations;
        let step = match std::env::var_os("FLATSPAN_POWER_ALL") {
            Some(_) => 1,
            None => operations.div_ceil(cuts_max),
        };
        let mut outcomes = [0; 2];
        for at in (0..=operations).step_by(step as usize) {
            let plan = Plan {
                operations_max: at,
                survivors_seed: seed * (1 + at),
                lie: Lie::Never,
            };
            let rolled = begin(plan);
            let name = rolled.snapshot.name();
            let done = roll_back(&path, &name, CurrentState::Keep);
            let last = fs.progress().last;
            fs.begin_again(Plan::NO_CUT);
            let found = read(&path);
            let is_new = found == rolled.before;
            assert!(is_new || found == rolled.after, "{at}, after `{last}`");
            assert!(is_new || done.is_err(), "{at}: acknowledged and lost");
            verify_after_crash(&path);
            assert!(read(rolled.snapshot.path()) == rolled.before);
            let kept = History::new(&path).list().expect("a list");
            assert!(!is_new || kept.len() == 2, "{at}: {kept:?}");
            if let Some(replaced) = kept.get(1) {
                assert!(read(replaced.path()) == rolled.after, "{at}");
            }
            outcomes[usize::from(is_new)] += 1;
            let again = roll_back(&path, &name, CurrentState::Keep).expect("rolled back");
            assert!(read(&path) == rolled.before, "{at}");
            verify(&path);
            let highest = kept.iter().map(HistorySnapshot::generation).max();
            assert!(highest.is_some_and(|kept| again.generation > kept), "{at}");
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
    }
}
