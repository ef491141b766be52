//! The process that has the memory. It says on standard output what it does.
#![expect(unsafe_code, reason = "a store that is restored by map")]

use std::env;
use std::io::{Read as _, Write as _, stdin};
use std::path::PathBuf;
use std::time::Instant;

use flatspan::snapshot::{Changes, CheckpointReport, Store, StoreOptions, Writing};

use super::content::{Hashing, compare, fill, is_written, round_of};
use super::process::{BYTES, JOB, PART_BYTES, RESTORE, STORE, TEST, say};
use crate::fixture::PAGE;
use crate::support::{child, memory};

/// So much is filled, compared and hashed at a time.
const STEP_BYTES: u64 = 1 << 20;

/// What the process is to do.
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
        report.replayed_records, report.verified
    ));
    let job = variable(JOB);
    match job.as_str() {
        "compare" => say_content(&store),
        kinds => kinds.chars().for_each(|kind| round(&store, kind)),
    }
    say(&format!("ready peak {}", memory::peak_rss() >> 20));
    // Killed here, or ended when nobody listens any more.
    let _end = stdin().read(&mut [0]);
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
        .changes(Changes::Writers)
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

/// The first page names the round; it is zeros before the first.
fn present_round(inside: &Writing<'_>) -> u64 {
    let mut page = [0; PAGE as usize];
    inside.read(0, &mut page).expect("read");
    round_of(&page)
}

/// Writes what the next round writes, and makes it durable by a checkpoint: `b` a base, `d` a delta.
fn round(store: &Store, kind: char) {
    let inside = store.enter().expect("the gate");
    let round = present_round(&inside) + 1;
    say(&format!("begun {round}"));
    write(&inside, round);
    drop(inside);
    let done = match kind {
        'b' => store.checkpoint_base(),
        'd' => store.checkpoint_delta(),
        other => panic!("no kind of checkpoint: {other}"),
    };
    say_done(round, kind, &done.expect("a checkpoint"));
}

fn write(inside: &Writing<'_>, round: u64) {
    let pages = inside.len() / PAGE;
    let step_pages = match round {
        1 => STEP_BYTES / PAGE,
        _ => 1,
    };
    let mut buf = vec![0; (step_pages * PAGE) as usize];
    let firsts = (0..pages).step_by(step_pages as usize);
    for first in firsts.filter(|page| is_written(*page, round)) {
        fill(&mut buf, first, round);
        inside.write(first * PAGE, &buf).expect("written");
    }
}

fn say_done(round: u64, kind: char, report: &CheckpointReport) {
    let took = report.took.as_secs_f64();
    let pause = report.pause.as_secs_f64();
    say(&format!(
        "done {round} {kind} generation {} pages {} bytes {} took {took:.2} pause {pause:.4}",
        report.generation, report.pages, report.bytes
    ));
}

/// Compares every page with what the round has there, and says the hash of all.
fn say_content(store: &Store) {
    let inside = store.enter().expect("the gate");
    let round = present_round(&inside);
    let mut hash = Hashing::default();
    let mut buf = vec![0; STEP_BYTES as usize];
    let mut scratch = [0; PAGE as usize];
    for offset in (0..inside.len()).step_by(STEP_BYTES as usize) {
        inside.read(offset, &mut buf).expect("read");
        compare(&buf, offset / PAGE, round, &mut scratch);
        hash.write_all(&buf).expect("hashed");
    }
    say(&format!("holds {round} {}", hash.finish()));
}
