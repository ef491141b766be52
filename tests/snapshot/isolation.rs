//! Visibility and order of transactions [I23].

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use flatspan::mapping_cache::Access;
use flatspan::snapshot::{
    DirectoryBackend, Sequence, Store, StoreError, StoreOptions, Transaction,
};

use crate::crash::{Limits, Recorder, crash_everywhere};
use crate::crashes::workloads::{TRANSACTIONS, Way};
use crate::support;
use crate::watched_backend::{Call, Watch, WatchedBackend};

const PAGE: u64 = 4096;
const PAGES: u64 = 40;
const PART_BYTES: u64 = 64 << 10;
/// A wait that lasts this long is considered endless.
const SOON: Duration = Duration::from_millis(50);
/// Longer than any operation here takes, so that a failing test ends.
const TIMEOUT: Duration = Duration::from_secs(20);

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(64 << 20)
        .part_bytes(PART_BYTES)
        .initial_bytes(PAGES * PAGE)
        .lock_timeout(SOON)
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = support::temp_dir();
    let store = Store::open(dir.path().join("store"), options()).expect("a store");
    (dir, store)
}

fn put(store: &Store, byte: u8) -> Result<(), StoreError> {
    store.transaction(|tx| tx.write_at(0, &[byte]))
}

fn first(store: &Store) -> Result<u8, StoreError> {
    store.view(|bytes| bytes[0])
}

#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers pass the result of a call"
)]
fn assert_lock_timeout<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::LockTimeout { .. })),
        "{result:?}"
    );
}

#[test]
fn i23_transactions_exclude_each_other_until_sequence_or_rollback() {
    let (_dir, store) = store();
    let store = &store;
    for gives_up in [false, true] {
        put(store, 1).expect("a transaction");
        let before = store.durable_sequence();
        std::thread::scope(|scope| {
            let (inside, entered) = sync_channel(0);
            let (leave, left) = sync_channel::<()>(0);
            let writer = scope.spawn(move || {
                store.transaction(|tx| {
                    tx.write_at(0, &[7])?;
                    inside.send(()).expect("the test waits");
                    let _ = left.recv();
                    if gives_up {
                        tx.write_at(u64::MAX, &[1])
                    } else {
                        Ok(())
                    }
                })
            });
            entered.recv_timeout(TIMEOUT).expect("writer enters");
            assert_lock_timeout(put(store, 8));
            assert_lock_timeout(first(store));
            assert_lock_timeout(store.transaction(|_| Ok(())));
            leave.send(()).expect("receiver exists");
            let result = writer.join().expect("no panic");
            assert_eq!(result.is_err(), gives_up);
        });
        let now = if gives_up { 1 } else { 7 };
        assert_eq!(first(store).expect("free"), now);
        let given = store.durable_sequence().get() - before.get();
        assert_eq!(given, u64::from(!gives_up));
    }
}

/// Backend on which a record longer than the preallocated space blocks while the transaction is
/// still inside.
#[derive(Debug)]
struct Waiting {
    /// The next preallocation of at least this many bytes blocks.
    at_least: u64,
    armed: AtomicBool,
    /// The blocked call was not released in time.
    gave_up: AtomicBool,
    reached: SyncSender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Waiting {
    fn over(
        store: &std::path::Path,
        at_least: u64,
    ) -> (Arc<WatchedBackend<Self>>, Receiver<()>, SyncSender<()>) {
        let (reached, is_reached) = sync_channel(0);
        let (go, go_on) = sync_channel(1);
        let disk = DirectoryBackend::open(store, PART_BYTES, Access::ReadWrite).expect("its disk");
        let waiting = Self {
            at_least,
            armed: AtomicBool::new(false),
            gave_up: AtomicBool::new(false),
            reached,
            go_on: Mutex::new(go_on),
        };
        (
            Arc::new(WatchedBackend::over(disk, waiting)),
            is_reached,
            go,
        )
    }
}

impl Watch for Waiting {
    fn before(&self, call: Call) -> io::Result<()> {
        if let Call::Reserve(range) = call
            && range.end - range.start >= self.at_least
            && self.armed.swap(false, Ordering::Relaxed)
        {
            self.reached.send(()).expect("the test waits");
            let received = self.go_on.lock().expect("a lock").recv_timeout(TIMEOUT);
            self.gave_up.store(received.is_err(), Ordering::Relaxed);
        }
        Ok(())
    }
}

#[test]
fn i23_no_transaction_starts_between_the_last_change_and_its_sequence() {
    const LONG: u64 = 9 << 20;
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    drop(Store::open(&path, options()).expect("a store"));
    let (disk, reached, go_on) = Waiting::over(&path, LONG);
    let store = Store::open_with_backend(Arc::<WatchedBackend<_>>::clone(&disk), options())
        .expect("a store");
    put(&store, 1).expect("a transaction");
    disk.watch.armed.store(true, Ordering::Relaxed);
    let store = &store;
    std::thread::scope(|scope| {
        let go_on = go_on;
        let writer = scope.spawn(|| {
            store.transaction(|tx| {
                tx.resize(LONG + PAGE)?;
                tx.bytes_mut(0..LONG)?.fill(7);
                Ok(())
            })
        });
        reached.recv_timeout(TIMEOUT).expect("the closure is over");
        assert_lock_timeout(put(store, 8));
        assert_lock_timeout(first(store));
        // The journal is free for other threads.
        assert_eq!(store.durable_sequence(), 1);
        let _ = go_on.send(());
        writer.join().expect("no panic").expect("a transaction");
        assert!(
            !disk.watch.gave_up.load(Ordering::Relaxed),
            "a thread waited for it"
        );
    });
    assert_eq!(
        (first(store).expect("free"), store.durable_sequence()),
        (7, Sequence::new(2))
    );
}

#[test]
fn i24_journal_is_preallocated_outside_the_access_lock_and_the_journal_lock() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    drop(Store::open(&path, options()).expect("a store"));
    let (disk, reached, go_on) = Waiting::over(&path, 0);
    let store = Store::open_with_backend(Arc::<WatchedBackend<_>>::clone(&disk), options())
        .expect("a store");
    disk.watch.armed.store(true, Ordering::Relaxed);
    let store = &store;
    std::thread::scope(|scope| {
        let go_on = go_on;
        let writer = scope.spawn(|| put(store, 7));
        reached.recv_timeout(TIMEOUT).expect("preallocation starts");
        let seen = first(store);
        let durable = seen.is_ok().then(|| store.durable_sequence());
        let second = put(store, 9);
        let _ = go_on.send(());
        writer.join().expect("no panic").expect("a transaction");
        assert!(
            !disk.watch.gave_up.load(Ordering::Relaxed),
            "a thread waited for it"
        );
        assert_eq!(seen.expect("access lock is free"), 0);
        assert_eq!(durable, Some(Sequence::new(0)));
        second.expect("access lock is free");
    });
    assert_eq!(
        (first(store).expect("free"), store.durable_sequence()),
        (7, Sequence::new(2))
    );
}

#[test]
fn i23_sequences_follow_the_order_of_changes() {
    const EACH: u64 = 200;
    let (_dir, store) = store();
    let seen = Mutex::new(Vec::new());
    let count = || -> Result<(u64, u64), StoreError> {
        let mut tx = store.begin()?;
        let (word, _) = tx.bytes().split_first_chunk().expect("8 bytes");
        let next = u64::from_le_bytes(*word) + 1;
        tx.write_at(0, &next.to_le_bytes())?;
        Ok((next, tx.commit_deferred()?.get()))
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                while done < EACH {
                    match count() {
                        Ok(pair) => {
                            seen.lock().expect("a lock").push(pair);
                            done += 1;
                        }
                        Err(StoreError::LockTimeout { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let mut seen = seen.into_inner().expect("a lock");
    seen.sort_unstable();
    let expected: Vec<_> = (1..=4 * EACH).map(|number| (number, number)).collect();
    assert!(seen == expected, "{seen:?}");
}

/// Changes memory in one of the possible ways, selected by arbitrary numbers.
fn change(tx: &mut Transaction<'_>, random: &mut impl FnMut(u64) -> u64) -> Result<(), StoreError> {
    let len = tx.len();
    let start = random(len);
    let end = (start + random(3 * PAGE)).min(len);
    match random(5) {
        0 => tx.resize(PAGE * (1 + random(2 * PAGES))),
        1 => tx.discard(start..end),
        2 => tx.write_at(start, &vec![random(256) as u8; (end - start) as usize]),
        _ => {
            tx.bytes_mut(start..end)?.fill(random(256) as u8);
            Ok(())
        }
    }
}

#[test]
fn i23_rollback_restores_every_kind_of_change() {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below.max(1)
    };
    let (dir, store) = store();
    for round in 0..150 {
        let before = store.view(<[u8]>::to_vec).expect("a view");
        let sequence = store.durable_sequence();
        let panics = round % 2 == 0;
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.transaction(|tx| {
                for _ in 0..1 + random(12) {
                    change(tx, &mut random)?;
                }
                // Not by `panic!`, which would print a message each time.
                if panics {
                    std::panic::resume_unwind(Box::new(()))
                } else {
                    tx.bytes_mut(0..u64::MAX).map(drop)
                }
            })
        }));
        assert_eq!(tried.is_err(), panics);
        assert!(tried.is_err() || matches!(tried, Ok(Err(StoreError::OutOfBounds { .. }))));
        let now = store.view(<[u8]>::to_vec).expect("a view");
        assert!(now == before, "round {round}");
        assert_eq!(store.durable_sequence(), sequence);
        if round % 10 == 0 {
            store
                .transaction(|tx| (0..5).try_for_each(|_| change(tx, &mut random)))
                .expect("a transaction");
        }
        if round % 25 == 0 {
            store.checkpoint().expect("a checkpoint");
        }
    }
    let before = store.view(<[u8]>::to_vec).expect("a view");
    drop(store);
    let store = Store::open(dir.path().join("store"), options().initial_bytes(0)).expect("a store");
    let now = store.view(<[u8]>::to_vec).expect("a view");
    assert!(now == before, "rolled back data is in the journal");
}

#[test]
fn i23_transactional_store_rejects_other_changes() {
    let (_dir, store) = store();
    for refused in [
        store.write_guard().map(drop),
        store.resize(3 * PAGE),
        store.checkpoint_delta().map(drop),
    ] {
        assert!(
            matches!(refused, Err(StoreError::WrongMode { .. })),
            "{refused:?}"
        );
    }
}

/// Data seen in a view may be published after `wait_durable` has returned, not before.
#[test]
fn i23_viewed_data_is_durable_after_wait_durable() {
    let way: Way = TRANSACTIONS;
    let disk = Recorder::unpublished(PART_BYTES);
    let store = way.open(&disk).expect("a store");
    for round in 1..=5_u64 {
        let mut tx = store.begin().expect("no transaction is open");
        tx.write_at(0, &round.to_le_bytes())
            .expect("the word is in the region");
        let sequence = tx.commit_deferred().expect("the journal is intact");
        assert_eq!(word(&store), round);
        assert!(store.durable_sequence() < sequence);
        store.wait_durable(sequence).expect("durable");
        assert!(store.durable_sequence() >= sequence);
        disk.mark(round);
    }
    drop(store);
    let seen_only = std::cell::Cell::new(0);
    let limits = Limits {
        depth: 0,
        ..Limits::default()
    };
    let check = |image: &Recorder| {
        let waited = image.marks().last().copied().unwrap_or(0);
        if !image.is_published() {
            return Ok(());
        }
        let found = word(&way.open(image).expect("a store"));
        seen_only.set(seen_only.get() + u32::from(found > waited));
        if found >= waited {
            Ok(())
        } else {
            Err(format!("{found} after {waited}"))
        }
    };
    crash_everywhere(&disk, &limits, &check).expect("waited data is durable");
    assert!(seen_only.get() > 0, "without waiting both outcomes occur");
}

fn word(store: &Store) -> u64 {
    let word = store.view(|bytes| *bytes.first_chunk().expect("8 bytes"));
    u64::from_le_bytes(word.expect("a view"))
}
