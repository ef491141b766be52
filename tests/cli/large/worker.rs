//! The process that has the store open. It reports its progress on standard output.
#![expect(unsafe_code, reason = "a store that is restored by map")]

use std::env;
use std::io::{Read as _, Write as _, stdin};
use std::path::PathBuf;
use std::time::Instant;

use flatspan::snapshot::{CheckpointReport, Store, StoreOptions, WriteGuard, WriteMode};

use super::content::{Hashing, compare, fill, is_written, round_of};
use super::process::{BYTES, JOB, PART_BYTES, RESTORE, STORE, TEST, say};
use crate::fixture::PAGE;
use crate::support::{child, memory};

/// Bytes that are written, compared and hashed at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Runs the process.
#[test]
fn worker() {
    if !child::is_me(TEST) {
        return;
    }
    let begun = Instant::now();
    let store = open();
    let report = store.open_report();
    let took = begun.elapsed().as_secs_f64();
    say(&format!(
        "opened took {took:.1} records {} verified {}",
        report.replayed_records, report.fully_verified
    ));
    let job = variable(JOB);
    match job.as_str() {
        "compare" => say_content(&store),
        kinds => kinds.chars().for_each(|kind| round(&store, kind)),
    }
    say(&format!("ready peak {}", memory::peak_rss() >> 20));
    // The test kills the process here, or closes its input.
    drop(stdin().read(&mut [0]));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn number(name: &str) -> u64 {
    variable(name).parse().expect("a number")
}

fn open() -> Store {
    let bytes = number(BYTES);
    let options = StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .reserve_bytes(2 * bytes)
        .initial_bytes(bytes)
        .part_bytes(number(PART_BYTES));
    let options = match variable(RESTORE).as_str() {
        // SAFETY: the files of the store are this test's own, and used by one process at a time.
        "map" => unsafe { options.restore_by_map() },
        _ => options,
    };
    Store::open(PathBuf::from(variable(STORE)), options).expect("a store")
}

/// The round that the first page names; 0 before the first round.
fn present_round(guard: &WriteGuard<'_>) -> u64 {
    let mut page = [0; PAGE as usize];
    guard.read_at(0, &mut page).expect("read");
    round_of(&page)
}

/// Writes the pages of the next round, then makes a base (`b`) or delta (`d`) checkpoint.
fn round(store: &Store, kind: char) {
    let guard = store.write_guard().expect("the access lock");
    let round = present_round(&guard) + 1;
    say(&format!("begun {round}"));
    write(&guard, round);
    drop(guard);
    let done = match kind {
        'b' => store.checkpoint_base(),
        'd' => store.checkpoint_delta(),
        other => panic!("no kind of checkpoint: {other}"),
    };
    say_done(round, kind, &done.expect("a checkpoint"));
}

fn write(guard: &WriteGuard<'_>, round: u64) {
    let pages = guard.len() / PAGE;
    let step_pages = match round {
        1 => STEP_BYTES / PAGE,
        _ => 1,
    };
    let mut buf = vec![0; (step_pages * PAGE) as usize];
    let firsts = (0..pages).step_by(step_pages as usize);
    for first in firsts.filter(|page| is_written(*page, round)) {
        fill(&mut buf, first, round);
        guard.write_at(first * PAGE, &buf).expect("written");
    }
}

fn say_done(round: u64, kind: char, report: &CheckpointReport) {
    let took = report.duration.as_secs_f64();
    let pause = report.pause_duration.as_secs_f64();
    say(&format!(
        "done {round} {kind} generation {} pages {} bytes {} took {took:.2} pause {pause:.4}",
        report.generation, report.written_pages, report.written_bytes
    ));
}

/// Compares every page with the content of its round, and reports the hash of all pages.
fn say_content(store: &Store) {
    let guard = store.write_guard().expect("the access lock");
    let round = present_round(&guard);
    let mut hash = Hashing::default();
    let mut buf = vec![0; STEP_BYTES as usize];
    let mut scratch = [0; PAGE as usize];
    for offset in (0..guard.len()).step_by(STEP_BYTES as usize) {
        guard.read_at(offset, &mut buf).expect("read");
        compare(&buf, offset / PAGE, round, &mut scratch);
        hash.write_all(&buf).expect("hashed");
    }
    say(&format!("holds {round} {}", hash.finish()));
}
