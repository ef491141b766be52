//! The queue: a client that commits, a host that takes snapshots, and the state that outlives both.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flatspan::shm::Memfd;
use flatspan::shm::queue::{
    Client, Generation, QueueError, QueueHost, QueueHostOptions, QueueOptions, SnapshotOutcome,
};
use flatspan::snapshot::StoreOptions;
use proptest::prelude::*;

use crate::support;

const PAGE: u64 = 4096;
const PAGES: u64 = 6;
const STATE: u64 = PAGES * PAGE;
const RING_AT: u64 = 8192;

fn memfd() -> Memfd {
    Memfd::create("flatspan-test", 0).expect("a memfd")
}

fn fd(file: &Memfd) -> OwnedFd {
    use std::os::fd::AsFd as _;
    file.as_fd().try_clone_to_owned().expect("a descriptor")
}

fn options(depth: u64) -> QueueOptions {
    QueueOptions::new(STATE).depth(depth).aux_bytes(64)
}

fn writer(file: &Memfd, depth: u64) -> Client {
    Client::open(fd(file), options(depth)).expect("a writer")
}

fn host_options() -> QueueHostOptions {
    let store = StoreOptions::default()
        .part_bytes(64 << 10)
        .reserve_bytes(64 << 20);
    QueueHostOptions::default().store_options(store)
}

fn host(store: &Path, file: &Memfd) -> QueueHost {
    QueueHost::open(store, fd(file), host_options()).expect("a host")
}

/// Commits a state whose bytes all have this value. Returns its generation.
fn fill(writer: &mut Client, byte: u8) -> Generation {
    writer
        .commit_with_aux(&[byte; 5], |commit| {
            commit.write(0, &vec![byte; STATE as usize])?;
            Ok(commit.generation())
        })
        .expect("a commit")
}

fn state(writer: &Client) -> Vec<u8> {
    let mut state = vec![0; STATE as usize];
    writer.read(0, &mut state).expect("the state");
    state
}

fn persisted(snapshot: SnapshotOutcome) -> Generation {
    match snapshot {
        SnapshotOutcome::Persisted { generation, .. } => generation,
        other => panic!("{other:?}"),
    }
}

/// Reads the ring as an implementation based only on the document would do it.
fn marks(file: &Memfd, depth: u64) -> Vec<u64> {
    let entry_bytes = (64_u64 + 64).next_multiple_of(64);
    let mark = |entry| {
        let mut bytes = [0; 8];
        let file = File::from(fd(file));
        file.read_exact_at(&mut bytes, RING_AT + entry * entry_bytes)
            .expect("a memory-state file");
        u64::from_le_bytes(bytes)
    };
    (0..depth).map(mark).collect()
}

fn valid(marks: &[u64]) -> usize {
    marks.iter().filter(|mark| **mark % 2 == 1).count()
}

#[test]
fn a_snapshot_is_restored_into_a_new_memfd() {
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    let file = memfd();
    let mut keeper = host(&store, &file);
    assert!(keeper.was_restored() && file.is_restored().expect("a seal"));
    assert_eq!(
        keeper.snapshot().expect("no bytes are left"),
        SnapshotOutcome::NoQueue
    );
    let mut client = writer(&file, 3);
    assert_eq!((client.generation(), client.last_persisted()), (None, None));
    assert!(state(&client).iter().all(|byte| *byte == 0));
    assert_eq!(
        keeper.snapshot().expect("no bytes are left"),
        SnapshotOutcome::Unchanged
    );
    let first = fill(&mut client, 7);
    assert_eq!(client.last_persisted(), None);
    assert_eq!(persisted(keeper.snapshot().expect("one byte")), first);
    assert_eq!(client.last_persisted(), Some(first));
    assert_eq!(
        keeper.snapshot().expect("no bytes are left"),
        SnapshotOutcome::Unchanged
    );
    // Not the whole state: one page.
    let second = client
        .commit_with_aux(b"tail", |commit| {
            commit.write(3 * PAGE + 5, b"here")?;
            Ok(commit.generation())
        })
        .expect("a commit");
    match keeper.snapshot().expect("one byte") {
        SnapshotOutcome::Persisted {
            generation,
            aux: tail,
            pages,
            ..
        } => assert_eq!((generation, &tail[..], pages), (second, &b"tail"[..], 1)),
        other => panic!("{other:?}"),
    }
    let expected = state(&client);
    drop((client, keeper, file));

    let file = memfd();
    let mut keeper = host(&store, &file);
    assert_eq!(
        (keeper.was_restored(), keeper.persisted()),
        (true, Some(second))
    );
    let mut client = Client::open_existing(fd(&file))
        .expect("a queue")
        .expect("a queue");
    assert_eq!(
        (client.generation(), client.aux()),
        (Some(second), b"tail".to_vec())
    );
    assert_eq!(state(&client), expected);
    let third = fill(&mut client, 9);
    assert!(third > second, "numbers are never used again");
    assert_eq!(persisted(keeper.snapshot().expect("one byte")), third);
    keeper.close().expect("closed");
    let file = memfd();
    let _keeper = host(&store, &file);
    let client = writer(&file, 3);
    assert!(state(&client).iter().all(|byte| *byte == 9));
}

#[test]
fn a_running_host_reports_each_snapshot_until_stopped() {
    use std::ops::ControlFlow;
    let dir = support::temp_dir();
    let file = memfd();
    let mut keeper = host(&dir.path().join("store"), &file);
    let mut client = writer(&file, 2);
    let mut taken = Vec::new();
    fill(&mut client, 1);
    keeper.run(std::time::Duration::from_millis(1), |outcome| {
        match outcome.expect("a snapshot") {
            SnapshotOutcome::Persisted { generation, .. } => taken.push(generation),
            other => assert_eq!(other, SnapshotOutcome::Unchanged),
        }
        match taken.len() {
            3 => return ControlFlow::Break(()),
            count => fill(&mut client, count as u8),
        };
        ControlFlow::Continue(())
    });
    assert!(taken.is_sorted() && client.last_persisted() == Some(taken[2]));
}

/// [I31] Regression test for a bug of a former tool: its ring had one entry, whatever the
/// configuration was.
#[test]
fn i31_the_ring_keeps_several_entries() {
    for depth in [2, 3, 5] {
        let file = memfd();
        let mut client = writer(&file, depth);
        for byte in 1..=2 * depth {
            fill(&mut client, byte as u8);
            let marks = marks(&file, depth);
            assert_eq!(valid(&marks), byte.min(depth) as usize, "{marks:?}");
            let newest: Vec<_> = marks.iter().map(|mark| mark / 2).collect();
            assert_eq!(
                newest.iter().max().copied(),
                client.generation().map(Generation::get)
            );
        }
        // During a commit, all entries except one.
        client
            .commit(|commit| {
                commit.write(0, b"x")?;
                assert_eq!(valid(&marks(&file, depth)), depth as usize - 1);
                Ok(())
            })
            .expect("a commit");
    }
}

/// Regression test for a bug of a former tool.
#[test]
fn i31_an_aborted_commit_keeps_the_previous_entry() {
    let dir = support::temp_dir();
    let file = memfd();
    let mut keeper = host(&dir.path().join("store"), &file);
    let mut client = writer(&file, 2);
    let generation = fill(&mut client, 5);
    for round in 0..5 {
        let given_up = client.commit(|commit| {
            commit.write(0, &vec![99; STATE as usize])?;
            Err::<(), _>(QueueError::NotAQueue)
        });
        assert!(given_up.is_err());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            client.commit(|commit| -> Result<(), _> {
                commit.write(PAGE, &[98; 9])?;
                panic!("given up, as the test wants it")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(client.generation(), Some(generation));
        assert!(state(&client).iter().all(|byte| *byte == 5), "{round}");
        assert_eq!(valid(&marks(&file, 2)), 1);
    }
    assert_eq!(persisted(keeper.snapshot().expect("one byte")), generation);
    // Changes of an aborted commit are in no later state.
    client
        .commit(|commit| commit.write(2 * PAGE, &[6]))
        .expect("a commit");
    keeper.snapshot().expect("one byte");
    let mut expected = vec![5; STATE as usize];
    expected[2 * PAGE as usize] = 6;
    assert_eq!(state(&client), expected);
    drop((client, keeper));
    let file = memfd();
    let _keeper = host(&dir.path().join("store"), &file);
    assert_eq!(state(&writer(&file, 2)), expected);
}

#[test]
fn a_new_client_continues_with_the_newest_generation() {
    let file = memfd();
    let mut client = writer(&file, 2);
    fill(&mut client, 1);
    let second = fill(&mut client, 2);
    // The client dies in the middle: the memory stays as it is.
    let aborted = client.commit(|commit| {
        commit.write(0, &[77; 5000])?;
        let second_writer = Client::open(fd(&file), options(2));
        assert!(matches!(second_writer, Err(QueueError::InUse)));
        Err::<(), _>(QueueError::NotAQueue)
    });
    assert!(aborted.is_err());
    drop(client);
    let mut client = writer(&file, 2);
    assert_eq!(client.generation(), Some(second));
    assert!(state(&client).iter().all(|byte| *byte == 2));
    let next = client
        .commit(|commit| {
            commit.write(STATE - 1, &[3])?;
            Ok(commit.generation())
        })
        .expect("a commit");
    assert!(
        next > second.get() + 1,
        "the generation of an aborted commit is not reused"
    );
    let mut expected = vec![2; STATE as usize];
    expected[STATE as usize - 1] = 3;
    assert_eq!(state(&client), expected);
}

/// [I25] Without the shrink seal a memfd is half restored, whatever its content looks like.
#[test]
fn i25_a_memfd_is_restored_without_the_shrink_seal_and_live_with_it() {
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    let live = memfd();
    let mut keeper = host(&store, &live);
    let mut client = writer(&live, 2);
    fill(&mut client, 4);
    keeper.snapshot().expect("one byte");
    let newest = fill(&mut client, 5);
    drop((keeper, client));

    // A host died during the restore: part of the content exists.
    let half = memfd();
    let mut begin = vec![0; 3 * PAGE as usize];
    File::from(fd(&live))
        .read_exact_at(&mut begin, 0)
        .expect("read");
    File::from(fd(&half))
        .write_all_at(&begin, 0)
        .expect("the write succeeds");
    let keeper = host(&store, &half);
    assert!(keeper.was_restored());
    assert!(state(&writer(&half, 2)).iter().all(|byte| *byte == 4));
    drop(keeper);

    // The live memfd is not emptied, and its content is newer.
    let mut keeper = host(&store, &live);
    assert!(!keeper.was_restored());
    assert_eq!(persisted(keeper.snapshot().expect("one byte")), newest);
    assert!(state(&writer(&live, 2)).iter().all(|byte| *byte == 5));
}

/// [I26] The newest valid mark wins within one lineage; two lineages are not compared.
#[test]
fn i26_a_memfd_of_another_lineage_is_refused() {
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    let first = memfd();
    let mut keeper = host(&store, &first);
    let mut client = writer(&first, 2);
    let one = fill(&mut client, 1);
    keeper.snapshot().expect("one byte");
    fill(&mut client, 2);
    drop((keeper, client));
    // Restored at `one`, then continued on its own.
    let second = memfd();
    let mut keeper = host(&store, &second);
    let mut client = writer(&second, 2);
    assert_eq!(client.generation(), Some(one));
    fill(&mut client, 12);
    let taken = persisted(keeper.snapshot().expect("one byte"));
    drop((keeper, client));
    // The first memfd has a generation of the same number and another lineage.
    let before = files_of(&store);
    let mut keeper = host(&store, &first);
    let refused = keeper.snapshot();
    assert!(
        matches!(refused, Err(QueueError::LineageMismatch { stored, .. }) if stored == Some(taken)),
        "{refused:?}"
    );
    drop(keeper);
    assert_eq!(files_of(&store).len(), before.len());
    // Nothing of it was stored.
    let third = memfd();
    let mut keeper = host(&store, &third);
    let client = writer(&third, 2);
    assert!(state(&client).iter().all(|byte| *byte == 12));
    assert_eq!(
        keeper.snapshot().expect("no bytes are left"),
        SnapshotOutcome::Unchanged
    );
}

fn files_of(store: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(store).expect("a store").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("heap"))
        .collect()
}

#[test]
fn a_memfd_without_a_queue_is_refused_and_not_changed() {
    let file = memfd();
    file.grow_to(8 * PAGE).expect("the file is extended");
    File::from(fd(&file))
        .write_all_at(b"something", 5 * PAGE)
        .expect("the write succeeds");
    let refused = Client::open(fd(&file), options(2));
    assert!(matches!(refused, Err(QueueError::NotAQueue)), "{refused:?}");
    // Regression test for a bug of a former tool: an empty store emptied the memfd.
    let dir = support::temp_dir();
    let mut keeper = host(&dir.path().join("store"), &file);
    assert_eq!(
        keeper.snapshot().expect("no bytes are left"),
        SnapshotOutcome::NoQueue
    );
    let mut there = [0; 9];
    File::from(fd(&file))
        .read_exact_at(&mut there, 5 * PAGE)
        .expect("read");
    assert_eq!(&there, b"something");
}

#[test]
fn invalid_requests_are_refused() {
    let file = memfd();
    let mut client = writer(&file, 2);
    let refused = Client::open(fd(&file), options(3));
    assert!(matches!(refused, Err(QueueError::InUse)));
    for (offset, len) in [(STATE, 1), (0, STATE as usize + 1), (u64::MAX, 2)] {
        let refused = client.commit(|commit| commit.write(offset, &vec![0; len]));
        assert!(
            matches!(refused, Err(QueueError::OutOfBounds { .. })),
            "{refused:?}"
        );
        assert!(client.read(offset, &mut vec![0; len]).is_err());
    }
    let refused = client.commit_with_aux(&[0; 65], |_| Ok(()));
    assert!(matches!(
        refused,
        Err(QueueError::AuxTooLong {
            len: 65,
            aux_bytes: 64
        })
    ));
    drop(client);
    let refused = Client::open(fd(&file), options(3));
    assert!(
        matches!(
            refused,
            Err(QueueError::LayoutMismatch {
                field: "depth",
                found: 2,
                asked: 3
            })
        ),
        "{refused:?}"
    );
    for wrong in [
        QueueOptions::new(0),
        QueueOptions::new(STATE).depth(1),
        QueueOptions::new(STATE).depth(65),
        QueueOptions::new(STATE).aux_bytes(7),
        QueueOptions::new(u64::MAX >> 3),
        QueueOptions::new(u64::MAX),
    ] {
        let refused = Client::open(fd(&memfd()), wrong.clone());
        assert!(
            matches!(refused, Err(QueueError::InvalidHeader { .. })),
            "{wrong:?}: {refused:?}"
        );
    }
}

/// Regression test for a bug of a former tool: offset and length were published apart from the
/// mark.
#[test]
fn i31_offset_and_length_are_published_together() {
    let dir = support::temp_dir();
    let file = memfd();
    let mut keeper = host(&dir.path().join("store"), &file);
    let mut client = writer(&file, 2);
    let first = fill(&mut client, 1);
    let second = fill(&mut client, 2);
    drop(client);
    let entry = marks(&file, 2).iter().position(|mark| second == mark / 2);
    let entry_at = RING_AT + entry.expect("the newest") as u64 * 128;
    let raw = File::from(fd(&file));
    // Generation, offset, length, aux: of another entry, or out of range.
    let wrong = [
        (8, first.get()),
        (16, 0),
        (16, u64::MAX - 7),
        (24, STATE * 2),
        (24, 8),
        (32, 1 << 40),
    ];
    for (at, value) in wrong {
        let mut before = [0; 8];
        raw.read_exact_at(&mut before, entry_at + at).expect("read");
        raw.write_all_at(&value.to_le_bytes(), entry_at + at)
            .expect("the write succeeds");
        let client = writer(&file, 2);
        assert_eq!(client.generation(), Some(first), "word at {at}: {value}");
        drop(client);
        raw.write_all_at(&before, entry_at + at)
            .expect("the write succeeds");
    }
    let at = wrong[0].0;
    raw.write_all_at(&first.get().to_le_bytes(), entry_at + at)
        .expect("the write succeeds");
    assert_eq!(persisted(keeper.snapshot().expect("the other file")), first);
    raw.write_all_at(&second.get().to_le_bytes(), entry_at + at)
        .expect("the write succeeds");
    assert_eq!(persisted(keeper.snapshot().expect("one byte")), second);
}

/// A header whose checksum is valid but which differs from the store.
#[test]
fn a_queue_whose_layout_changed_is_refused() {
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    let file = memfd();
    let mut keeper = host(&store, &file);
    let mut client = writer(&file, 3);
    fill(&mut client, 1);
    keeper.snapshot().expect("one byte");
    fill(&mut client, 2);
    drop((keeper, client));
    let raw = File::from(fd(&file));
    let mut header = [0; 80];
    raw.read_exact_at(&mut header, 0).expect("the header");
    header[16..24].copy_from_slice(&2_u64.to_le_bytes());
    let sum = xxhash_rust::xxh3::xxh3_64(&header[8..72]);
    header[72..].copy_from_slice(&sum.to_le_bytes());
    raw.write_all_at(&header, 0).expect("the write succeeds");
    let mut keeper = host(&store, &file);
    let refused = keeper.snapshot();
    assert!(
        matches!(
            refused,
            Err(QueueError::LayoutMismatch { field: "depth", .. })
        ),
        "{refused:?}"
    );
    drop(keeper);
    let fresh = memfd();
    let _keeper = host(&store, &fresh);
    assert!(state(&writer(&fresh, 3)).iter().all(|byte| *byte == 1));
}

/// A store with the memory of an unmodified program.
#[test]
fn a_store_without_a_queue_is_refused_and_not_changed() {
    use flatspan::snapshot::{Store, WriteMode};
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store_options = StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .part_bytes(64 << 10);
    let store = Store::open(&path, store_options.clone().initial_bytes(STATE)).expect("a store");
    store
        .write_guard()
        .expect("the name in the torrent")
        .write_at(0, b"2357")
        .expect("the write succeeds");
    store.close().expect("closed");
    let refused = QueueHost::open(&path, fd(&memfd()), host_options());
    assert!(matches!(refused, Err(QueueError::NotAQueue)), "{refused:?}");
    let store = Store::open(&path, store_options).expect("a store");
    let mut there = [0; 4];
    store
        .write_guard()
        .expect("the name in the torrent")
        .read_at(0, &mut there)
        .expect("read");
    assert_eq!(&there, b"2357");
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u64, u8, usize)>, Vec<u8>),
    GiveUp(Vec<(u64, u8, usize)>),
    NewClient,
    Snapshot,
    NewHost,
    NewMemfd,
}

fn writes() -> impl Strategy<Value = Vec<(u64, u8, usize)>> {
    prop::collection::vec((0..STATE, any::<u8>(), 1..9000_usize), 0..4)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (writes(), prop::collection::vec(any::<u8>(), 0..64)).prop_map(|(a, b)| Step::Commit(a, b)),
        2 => writes().prop_map(Step::GiveUp),
        1 => Just(Step::NewClient),
        3 => Just(Step::Snapshot),
        1 => Just(Step::NewHost),
        1 => Just(Step::NewMemfd),
    ];
    prop::collection::vec(step, 1..30)
}

/// Applies the writes to the model of a state.
fn apply(model: &mut [u8], writes: &[(u64, u8, usize)]) {
    for (offset, byte, len) in writes {
        let end = model.len().min(*offset as usize + len);
        model[*offset as usize..end].fill(*byte);
    }
}

fn put(client: &mut Client, tail: &[u8], writes: &[(u64, u8, usize)], up: bool) -> bool {
    client
        .commit_with_aux(tail, |commit| {
            for (offset, byte, len) in writes {
                let len = (STATE - offset).min(*len as u64) as usize;
                commit.write(*offset, &vec![*byte; len])?;
            }
            if up {
                Err(QueueError::NotAQueue)
            } else {
                Ok(())
            }
        })
        .is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_state_equals_the_model_after_random_operations(steps in steps(), depth in 2..5_u64) {
        let dir = support::temp_dir();
        let store = dir.path().join("store");
        let zeros = || (vec![0; STATE as usize], Vec::new());
        let (mut now, mut saved) = (zeros(), zeros());
        let mut file = memfd();
        let mut keeper = Some(host(&store, &file));
        let mut client = Some(writer(&file, depth));
        for step in steps {
            match step {
                Step::Commit(writes, tail) => {
                    apply(&mut now.0, &writes);
                    now.1 = tail;
                    prop_assert!(put(client.as_mut().expect("one byte"), &now.1, &writes, false));
                }
                Step::GiveUp(writes) => {
                    prop_assert!(!put(client.as_mut().expect("one byte"), &[], &writes, true));
                }
                Step::NewClient => {
                    drop(client.take());
                    client = Some(writer(&file, depth));
                }
                Step::Snapshot => {
                    let client = client.as_ref().expect("one byte");
                    match keeper.as_mut().expect("one byte").snapshot().expect("a snapshot") {
                        SnapshotOutcome::Persisted { generation, aux: tail, .. } => {
                            prop_assert_eq!(Some(generation), client.generation());
                            prop_assert_eq!(&tail, &now.1);
                            saved = now.clone();
                        }
                        SnapshotOutcome::Unchanged => prop_assert_eq!(&saved, &now),
                        other => prop_assert!(false, "{:?}", other),
                    }
                    prop_assert_eq!(client.last_persisted(), client.generation());
                }
                Step::NewHost => {
                    drop(keeper.take());
                    keeper = Some(host(&store, &file));
                }
                Step::NewMemfd => {
                    drop((client.take(), keeper.take()));
                    file = memfd();
                    keeper = Some(host(&store, &file));
                    client = Some(writer(&file, depth));
                    now = saved.clone();
                }
            }
            let client = client.as_ref().expect("one byte");
            prop_assert_eq!(&state(client), &now.0);
            prop_assert_eq!(&client.aux(), &now.1);
        }
    }
}

/// Whatever a client writes into its pages, the host reports it or takes no snapshot, and the last
/// good state is preserved.
#[test]
fn i31_a_hostile_client_destroys_no_stored_state() {
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    let file = memfd();
    let mut keeper = host(&store, &file);
    let mut client = writer(&file, 3);
    let good = fill(&mut client, 3);
    keeper.snapshot().expect("one byte");
    let mut outcomes = std::collections::BTreeMap::<String, u32>::new();
    let protocol_bytes = file.len().expect("a length") - 3 * STATE;
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let raw = File::from(fd(&file));
    let mut header = vec![0; PAGE as usize];
    raw.read_exact_at(&mut header, 0).expect("the header");
    for round in 0..600 {
        // Mostly the ring and the stamps, because nothing after a bad header is read.
        raw.write_all_at(&header, 0).expect("the write succeeds");
        let (from, end) = match round % 10 {
            9 => (0, 10),
            _ => (RING_AT / 8, protocol_bytes / 8),
        };
        // A few words at random positions, with meaningful values: marks, offsets, lengths, huge
        // numbers.
        for _ in 0..1 + next() % 6 {
            let at = (from + next() % (end - from)) * 8;
            let value = match next() % 6 {
                0 => u64::MAX,
                1 => next() % 64,
                2 => (good.get() + next() % 9) * 2 + 1,
                3 => STATE,
                4 => 1 << (next() % 64),
                _ => next(),
            };
            raw.write_all_at(&value.to_le_bytes(), at)
                .expect("the write succeeds");
        }
        // An entry that is valid except for one word, or completely valid.
        if round % 2 == 0 {
            let at = RING_AT + next() % 3 * 128;
            let generation = good.get() + 1 + round;
            let buffer = file.len().expect("a length") - (3 - (at - RING_AT) / 128) * STATE;
            let mut entry = [generation * 2 + 1, generation, buffer, STATE, 5, 0, 0, 0];
            if round % 4 == 0 {
                entry[1 + (next() % 7) as usize] = next() >> (next() % 64);
            }
            let bytes: Vec<u8> = entry.iter().flat_map(|word| word.to_le_bytes()).collect();
            raw.write_all_at(&bytes, at).expect("the write succeeds");
        }
        // Also a new host, which reads the header again.
        if round % 5 == 4 {
            drop(keeper);
            keeper = host(&store, &file);
        }
        let what = match keeper.snapshot() {
            Ok(SnapshotOutcome::Persisted { .. }) => "persisted".to_owned(),
            Ok(other) => format!("{other:?}").chars().take(7).collect(),
            Err(error) => error.to_string().chars().take(24).collect(),
        };
        *outcomes.entry(what).or_default() += 1;
    }
    assert!(outcomes.len() >= 3, "{outcomes:?}");
    drop(keeper);
    // A new client of the same memfd may refuse it, but does not crash either.
    drop(client);
    drop(Client::open(fd(&file), options(3)));
    let fresh = memfd();
    let keeper = host(&store, &fresh);
    assert!(keeper.persisted() >= Some(good));
    let client = Client::open_existing(fd(&fresh)).expect("a queue");
    assert!(client.is_some(), "the stored state can be restored");
}
