//! Storms pass, and find what is wrong.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::program::{durable, stdout};
use crate::support;

/// In a folder of its own, which must be empty behind a storm that passes.
fn storm(args: &[&str]) -> (Output, usize) {
    let folder = support::temp_dir();
    let output = durable()
        .args(["storm", "--dir"])
        .arg(folder.path())
        .args(args)
        .output()
        .expect("the program starts");
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    (output, left)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object on standard output")
}

#[test]
fn a_storm_of_kills_loses_and_tears_nothing() {
    let (output, left) = storm(&["--kills", "60", "--seed", "1", "--seconds-max", "55"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{output:?}");
    assert_eq!(left, 0, "something is left");
    assert!(text.contains("lost 0, unbegun 0, torn 0"), "{text}");
    for phase in ["lock", "pages", "header", "rotation", "restore"] {
        let row = text.lines().find(|line| line.starts_with(phase));
        let words = row.expect("a row").split_whitespace();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        // 3 of 60, fewer where the machine was too slow for 60.
        assert!(
            matches!(numbers[..], [kills, needed] if kills >= needed && needed > 0),
            "{text}"
        );
    }
}

#[test]
fn an_end_after_seconds_scales_what_is_needed() {
    let (output, left) = storm(&["--kills", "1000000", "--seconds-max", "1", "--json"]);
    let report = json(&output);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{report}");
    assert!(report["kills"].as_u64() < Some(10_000), "{report}");
    assert_eq!((&report["fault"], left), (&Value::Null, 0), "{report}");
}

/// A storm over a store with a fault must fail, by one of these counts.
fn assert_found(fault: &str, counts: &[&str]) {
    let (output, left) = storm(&["--kills", "200", "--json", "--seed", "3", "--fault", fault]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(report["ok"], false, "{report}");
    let found = counts.iter().any(|count| report[count] == 1);
    assert!(
        found,
        "{fault} was not found as one of {counts:?}: {report}"
    );
    // The store, to be looked at.
    assert_eq!(left, 1);
}

#[test]
fn a_journal_that_loses_acknowledged_records_is_found() {
    assert_found("drop-journal-writes", &["lost", "refused", "backward"]);
}

#[test]
fn a_header_that_precedes_its_pages_is_found() {
    assert_found("header-before-pages", &["fallback", "refused"]);
}

#[test]
fn a_transaction_that_is_there_in_part_is_found() {
    assert_found("split-transactions", &["torn"]);
}

#[test]
fn the_help_says_what_a_storm_does_not_prove() {
    let output = durable()
        .args(["storm", "--help"])
        .output()
        .expect("the program starts");
    let text = stdout(&output);
    assert!(text.contains("NOT that it survives a power cut"), "{text}");
    assert!(!text.contains("--fault"), "{text}");
}
