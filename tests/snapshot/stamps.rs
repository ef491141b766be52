//! Writers stamp pages while checkpoints run; the restored state is of one point in time.
//!
//! Each writer owns some pages and stamps batches of them under the access lock. It writes the
//! number of the batch to the first and the last word of every page. So a restored state shows
//! which batches it contains: all up to some number, complete, and every page has the stamp of its
//! last batch.
#![expect(unsafe_code, reason = "writers store into memory, as programs do")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use flatspan::snapshot::{CaptureMode, Store, StoreOptions, WriteMode};

use crate::support;

const PAGE_BYTES: usize = 4096;
const PAGES: u64 = 8 << 10;
const WRITERS: u64 = 2;
const BATCH_PAGES: u64 = 13;

fn options(strategy: CaptureMode) -> StoreOptions {
    StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .capture_mode(strategy)
        .reserve_bytes(PAGES * PAGE_BYTES as u64)
        .initial_bytes(PAGES * PAGE_BYTES as u64)
        .journal_bytes_max(24 << 20)
}

/// Batches of one writer since the store was opened.
#[derive(Default)]
struct Writer {
    /// Pages of each batch.
    batches: BTreeMap<u64, Vec<u64>>,
    begun: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Stamps one page, the last word first.
fn stamp(store: &Store, page: u64, number: u64) {
    let start = store
        .as_ptr()
        .as_ptr()
        .wrapping_add(page as usize * PAGE_BYTES);
    let word = |at: usize| start.wrapping_add(at).cast::<AtomicU64>();
    for at in [PAGE_BYTES - 8, 0] {
        // SAFETY: the word is within the region, which the store keeps mapped. The access is
        // atomic, so concurrent loads do not race.
        unsafe { (*word(at)).store(number, Ordering::Relaxed) };
    }
}

/// Stamps until the end flag is set. Without the access lock a capture may fall in the middle of a
/// batch.
fn write(store: &Store, writer: &mut Writer, id: u64, end: &AtomicBool, with_access_lock: bool) {
    let mut state = 77 + id;
    let mut number = writer.done.load(Ordering::Relaxed);
    while !end.load(Ordering::Relaxed) {
        number += 1;
        let pages: Vec<u64> = (0..BATCH_PAGES)
            .map(|_| random(&mut state) % (PAGES / WRITERS) * WRITERS + id)
            .collect();
        writer.batches.insert(number, pages.clone());
        let inside = with_access_lock.then(|| store.write_guard().expect("access lock is free"));
        writer.begun.store(number, Ordering::SeqCst);
        for page in &pages {
            stamp(store, *page, number);
            if !with_access_lock {
                thread::yield_now();
            }
        }
        writer.done.store(number, Ordering::SeqCst);
        drop(inside);
        if with_access_lock {
            // 26 pages per millisecond from both writers.
            thread::sleep(Duration::from_micros(900));
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    pages: u64,
    /// Number of pages with two stamps, and of partial batches.
    torn: u64,
    /// Number of pages without a batch that was complete before the checkpoint began.
    stale: u64,
}

/// Returns the stamps of all pages, and counts those with two.
fn stamps(store: &Store, found: &mut Found) -> Vec<u64> {
    let mut memory = vec![0; store.len() as usize];
    store
        .write_guard()
        .and_then(|inside| inside.read_at(0, &mut memory))
        .expect("read");
    let word = |page: &[u8], at: usize| {
        u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"))
    };
    let pages = memory.chunks_exact(PAGE_BYTES).map(|page| {
        let (first, last) = (word(page, 0), word(page, PAGE_BYTES - 8));
        found.torn += u64::from(first != last);
        first
    });
    pages.collect()
}

/// Runs writers and checkpoints, crashes, and checks the restored state.
fn round(path: &Path, strategy: CaptureMode, with_access_lock: bool, found: &mut Found) {
    let store = Store::open(path, options(strategy)).expect("a store");
    let before = stamps(&store, found);
    let end = AtomicBool::new(false);
    let mut writers: Vec<_> = (0..WRITERS).map(|_| Writer::default()).collect();
    for (id, writer) in writers.iter_mut().enumerate() {
        let own = before.iter().skip(id).step_by(WRITERS as usize);
        let last = own.copied().max().unwrap_or(0);
        writer.done.store(last, Ordering::SeqCst);
        writer.begun.store(last, Ordering::SeqCst);
    }
    // Batches that were complete when the last checkpoint began.
    let floors = thread::scope(|scope| {
        let done: Vec<_> = writers
            .iter()
            .map(|writer| Arc::clone(&writer.done))
            .collect();
        for (id, writer) in writers.iter_mut().enumerate() {
            let (store, end) = (&store, &end);
            scope.spawn(move || write(store, writer, id as u64, end, with_access_lock));
        }
        let mut floors = Vec::new();
        for checkpoint in 0..4 {
            thread::sleep(Duration::from_millis(15));
            let now = done.iter().map(|done| done.load(Ordering::SeqCst));
            floors = now.collect();
            match checkpoint {
                1 => store.checkpoint_base(),
                _ => store.checkpoint(),
            }
            .expect("a checkpoint");
        }
        end.store(true, Ordering::Relaxed);
        floors
    });
    // Simulates a crash.
    drop(store);
    let store = Store::open(path, options(strategy)).expect("restored");
    let after = stamps(&store, found);
    found.pages += PAGES;
    for (id, writer) in writers.iter().enumerate() {
        judge(id, writer, floors[id], &before, &after, found);
    }
}

fn judge(id: usize, writer: &Writer, floor: u64, before: &[u64], after: &[u64], found: &mut Found) {
    let own = |pages: &[u64]| -> Vec<u64> {
        let own = pages.iter().skip(id).step_by(WRITERS as usize);
        own.copied().collect()
    };
    let mut expected = own(before);
    let after = own(after);
    let last = after.iter().copied().max().unwrap_or(0);
    assert!(
        last <= writer.begun.load(Ordering::SeqCst),
        "{last} was never begun"
    );
    found.stale += u64::from(last < floor);
    for (number, pages) in writer.batches.range(..=last) {
        for page in pages {
            expected[*page as usize / WRITERS as usize] = *number;
        }
    }
    for (found_stamp, expected) in after.iter().zip(&expected) {
        found.torn += u64::from(found_stamp != expected);
    }
}

fn page_count() -> u64 {
    support::campaign::count("FLATSPAN_STAMPED_PAGES", 1_000_000)
}

#[test]
fn restored_pages_are_neither_torn_nor_stale() {
    let dir = support::temp_dir();
    let mut found = Found::default();
    while found.pages < page_count() {
        let strategy = match found.pages / PAGES % 4 {
            3 => CaptureMode::StopAndCopy,
            _ => CaptureMode::PreCopy,
        };
        round(&dir.path().join("store"), strategy, true, &mut found);
    }
    println!("{found:?}");
    assert_eq!((found.torn, found.stale), (0, 0), "{found:?}");
}

#[test]
fn without_the_access_lock_torn_pages_are_found() {
    let dir = support::temp_dir();
    let mut found = Found::default();
    for _ in 0..40 {
        round(
            &dir.path().join("store"),
            CaptureMode::PreCopy,
            false,
            &mut found,
        );
        if found.torn > 0 {
            break;
        }
    }
    assert!(found.torn > 0, "{found:?}");
}
