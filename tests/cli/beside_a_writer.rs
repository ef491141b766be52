//! Commands that read, while a writer changes the store.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use flatspan::snapshot::{Store, StoreOptions, WriteMode};

use crate::fixture::{PAGE, PAGES, expect, json, json_lines, options};
use crate::support;

/// Fills all pages with one byte, so that every committed state has equal pages.
fn write_all(store: &Store, byte: u8) {
    let done = store.transaction(|tx| {
        (0..PAGES).try_for_each(|page| tx.write_at(page * PAGE, &[byte; PAGE as usize]))
    });
    done.expect("a transaction");
}

/// Runs `work` repeatedly while `look` runs.
fn beside(options: StoreOptions, work: impl Fn(&Store, u8) + Sync, look: impl FnOnce(&Path)) {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options).expect("a store");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1_u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                work(&store, (round % 255) as u8);
            }
        });
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&path)));
        done.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    store.close().expect("closed");
    expect(0, "verify", &[&path]);
}

/// Makes a checkpoint. Readers may delay it until its timeout, which is not a failure here.
fn checkpoint(store: &Store) {
    match store.checkpoint() {
        Err(error) if error.kind() != std::io::ErrorKind::ResourceBusy => panic!("{error}"),
        _ => {}
    }
}

fn look_at_everything(path: &Path) {
    for _ in 0..12 {
        let output = expect(0, "export", &[path, Path::new("-")]);
        assert_eq!(output.stdout.len() as u64, PAGES * PAGE);
        let first = output.stdout[0];
        assert!(
            output.stdout.iter().all(|byte| *byte == first),
            "the state mixes two points in time"
        );
        let found = json(0, "verify", &[path]);
        assert_eq!(found["ok"], true, "{found}");
        let found = json(0, "info", &[path]);
        assert_eq!(found["writer_pid"], std::process::id(), "{found}");
        json_lines(0, "journal", &[path]);
    }
}

#[test]
fn i17_commands_beside_transactions_read_one_committed_state() {
    let work = |store: &Store, byte: u8| {
        write_all(store, byte);
        if byte.is_multiple_of(3) {
            checkpoint(store);
        }
    };
    beside(options(), work, look_at_everything);
}

#[test]
fn i17_commands_beside_tracked_writers_read_one_committed_state() {
    let work = |store: &Store, byte: u8| {
        let guard = store.write_guard().expect("the access lock");
        for page in 0..PAGES {
            guard
                .write_at(page * PAGE, &[byte; PAGE as usize])
                .expect("written");
        }
        drop(guard);
        if byte.is_multiple_of(2) {
            checkpoint(store);
        } else {
            drop(store.checkpoint_delta().expect("a delta"));
        }
    };
    beside(
        options().write_mode(WriteMode::Tracked),
        work,
        look_at_everything,
    );
}
