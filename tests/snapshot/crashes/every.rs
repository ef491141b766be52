//! Every image of every workload.

use super::crash::{Counts, Limits, crash_everywhere};
use super::judge::judge;
use super::workloads::{
    COPYING, COPYING_WRITERS, FRUGAL, RESIZING, TRANSACTIONS, WRITERS, Way, recorded,
};

fn all_images(way: Way, steps: u64, closes: bool) -> Counts {
    let disk = recorded(way, steps, closes);
    let limits = Limits::default();
    let counts = crash_everywhere(&disk, &limits, &|image| judge(way, image));
    let counts = counts.unwrap_or_else(|error| panic!("{way:?}: {error}"));
    println!("{way:?}, {steps} steps: {counts:?}, 0 forbidden");
    counts
}

#[test]
fn no_crash_of_transactions_and_bases_leaves_a_forbidden_state() {
    all_images(TRANSACTIONS, 10, false);
}

#[test]
fn no_crash_of_a_region_that_grows_and_shrinks_leaves_a_forbidden_state() {
    all_images(RESIZING, 10, false);
}

#[test]
fn no_crash_of_deltas_and_bases_leaves_a_forbidden_state() {
    all_images(WRITERS, 10, false);
}

#[test]
fn no_crash_of_closing_and_opening_leaves_a_forbidden_state() {
    all_images(TRANSACTIONS, 3, true);
    all_images(WRITERS, 3, true);
    all_images(FRUGAL, 3, true);
}

#[test]
fn no_crash_of_making_the_second_heap_leaves_a_forbidden_state() {
    all_images(COPYING, 3, true);
    all_images(COPYING_WRITERS, 3, true);
}
