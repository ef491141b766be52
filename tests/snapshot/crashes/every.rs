//! Every image of every workload.

use super::crash::{Counts, Limits, crash_everywhere};
use super::judge::judge;
use super::workloads::{
    COPIED_TO_LONGER_PARTS, COPYING, COPYING_WRITERS, FRUGAL, LONGER_PARTS, RESIZING, TRANSACTIONS,
    WRITERS, Way, recorded,
};

fn all_images(way: Way, steps: u64, closes: bool) -> Counts {
    images(way, steps, closes, &Limits::default())
}

/// All of the workload, and some of its recoveries.
fn most_images(way: Way, steps: u64, closes: bool) -> Counts {
    images(way, steps, closes, &fewer())
}

fn fewer() -> Limits {
    Limits {
        again_max: 3000,
        ..Limits::default()
    }
}

fn images(way: Way, steps: u64, closes: bool, limits: &Limits) -> Counts {
    let disk = recorded(way, steps, closes);
    let counts = crash_everywhere(&disk, limits, &|image| judge(way, image));
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
    most_images(COPYING, 3, true);
    most_images(COPYING_WRITERS, 3, true);
}

#[test]
fn no_crash_of_changing_the_length_of_parts_leaves_a_forbidden_state() {
    most_images(LONGER_PARTS, 7, false);
    most_images(COPIED_TO_LONGER_PARTS, 4, true);
    // And where nobody goes on with the change.
    let disk = recorded(LONGER_PARTS, 7, false);
    let limits = fewer();
    let counts = crash_everywhere(&disk, &limits, &|image| judge(RESIZING, image));
    counts.unwrap_or_else(|error| panic!("{error}"));
}
