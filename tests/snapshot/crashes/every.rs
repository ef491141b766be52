//! Every image of every workload.

use super::crash::{Counts, Limits, crash_everywhere};
use super::judge::judge;
use super::workloads::{
    COPIED_TO_LONGER_PARTS, COPYING, COPYING_WRITERS, FRUGAL, LONGER_PARTS, RESIZING, TRANSACTIONS,
    WRITERS, Way, recorded,
};
use crate::support::campaign;

fn all_images(way: Way, steps: u64, closes: bool) -> Counts {
    images(way, steps, closes, &all())
}

/// Makes all images of the workload, and of some of its recoveries.
fn most_images(way: Way, steps: u64, closes: bool) -> Counts {
    images(way, steps, closes, &fewer())
}

/// The default limits at full length; otherwise fewer subsets and recoveries.
fn all() -> Limits {
    let limits = Limits::default();
    if campaign::is_full() {
        return limits;
    }
    Limits {
        subsets_max: 6,
        sectors_max: 3,
        again_every: 64,
        random_subsets: campaign::scaled(limits.random_subsets as u64) as usize,
        again_max: campaign::scaled(limits.again_max),
        ..limits
    }
}

fn fewer() -> Limits {
    let limits = all();
    Limits {
        again_max: limits.again_max.min(3000),
        ..limits
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
fn crash_of_transactions_and_bases_leaves_a_valid_state() {
    all_images(TRANSACTIONS, 10, false);
}

#[test]
fn crash_of_a_resizing_store_leaves_a_valid_state() {
    all_images(RESIZING, 10, false);
}

#[test]
fn crash_of_deltas_and_bases_leaves_a_valid_state() {
    all_images(WRITERS, 10, false);
}

#[test]
fn crash_of_closing_and_opening_leaves_a_valid_state() {
    all_images(TRANSACTIONS, 3, true);
    all_images(WRITERS, 3, true);
    all_images(FRUGAL, 3, true);
}

#[test]
fn crash_while_creating_the_second_heap_leaves_a_valid_state() {
    most_images(COPYING, 3, true);
    most_images(COPYING_WRITERS, 3, true);
}

#[test]
fn crash_while_converting_the_part_length_leaves_a_valid_state() {
    most_images(LONGER_PARTS, 7, false);
    most_images(COPIED_TO_LONGER_PARTS, 4, true);
    // Also without continuing the conversion.
    let disk = recorded(LONGER_PARTS, 7, false);
    let limits = fewer();
    let counts = crash_everywhere(&disk, &limits, &|image| judge(RESIZING, image));
    counts.unwrap_or_else(|error| panic!("{error}"));
}
