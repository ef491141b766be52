//! Everything that reads, while a writer is at work.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use flatspan::snapshot::{Changes, Store, StoreOptions};

use crate::fixture::{PAGE, PAGES, expect, json, json_lines, options};
use crate::support;

/// All pages are the same at every instant that counts.
fn write_all(store: &Store, byte: u8) {
    let done = store.transaction(|tx| {
        (0..PAGES).try_for_each(|page| tx.write(page * PAGE, &[byte; PAGE as usize]))
    });
    done.expect("a transaction");
}

/// Lets a writer work while `look` runs.
fn beside(options: StoreOptions, work: impl Fn(&Store, u8) + Sync, look: impl FnOnce(&Path)) {
    let folder = support::temp_dir();
    let path = folder.path().join("store");
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

/// Readers keep a checkpoint out of a heap for a while: that is no failure of the writer's.
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
            "of two instants"
        );
        let found = json(0, "verify", &[path]);
        assert_eq!(found["ok"], true, "{found}");
        let found = json(0, "info", &[path]);
        assert_eq!(found["writer"], std::process::id(), "{found}");
        json_lines(0, "log", &[path]);
    }
}

#[test]
fn h17_what_is_read_beside_transactions_is_of_one_instant() {
    let work = |store: &Store, byte: u8| {
        write_all(store, byte);
        if byte.is_multiple_of(3) {
            checkpoint(store);
        }
    };
    beside(options(), work, look_at_everything);
}

#[test]
fn h17_what_is_read_beside_writers_is_of_one_instant() {
    let work = |store: &Store, byte: u8| {
        let inside = store.enter().expect("the gate");
        for page in 0..PAGES {
            inside
                .write(page * PAGE, &[byte; PAGE as usize])
                .expect("written");
        }
        drop(inside);
        if byte.is_multiple_of(2) {
            checkpoint(store)
        } else {
            drop(store.checkpoint_delta().expect("a delta"))
        }
    };
    beside(
        options().changes(Changes::Writers),
        work,
        look_at_everything,
    );
}
