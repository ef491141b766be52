//! `crash-test` passes on a correct store, and detects deliberate faults.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::program::{durable, stdout};
use crate::support;

/// Runs a crash test in a new directory. Returns its output and the number of remaining files,
/// which is 0 if the test passes.
fn crash_test(args: &[&str]) -> (Output, usize) {
    let directory = support::temp_dir();
    let output = durable()
        .args(["crash-test", "--dir"])
        .arg(directory.path())
        .args(args)
        .output()
        .expect("program starts");
    let remaining = fs::read_dir(directory.path())
        .expect("the directory")
        .count();
    (output, remaining)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object on standard output")
}

#[test]
fn kills_lose_and_tear_nothing() {
    let (output, remaining) = crash_test(&["--kills", "60", "--seed", "1", "--max-seconds", "55"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{output:?}");
    assert_eq!(remaining, 0, "files remain");
    assert!(text.contains("lost 0, unexpected 0, torn 0"), "{text}");
    for phase in ["lock", "pages", "header", "rotation", "restore"] {
        let row = text.lines().find(|line| line.starts_with(phase));
        let words = row.expect("table has this row").split_whitespace();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        // 3 of 60; fewer if the machine was too slow for 60.
        assert!(
            matches!(numbers[..], [kills, needed] if kills >= needed && needed > 0),
            "{text}"
        );
    }
}

#[test]
fn max_seconds_scales_the_needed_kills() {
    let (output, remaining) = crash_test(&["--kills", "1000000", "--max-seconds", "1", "--json"]);
    let report = json(&output);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{report}");
    assert!(report["kills"].as_u64() < Some(10_000), "{report}");
    assert_eq!((&report["fault"], remaining), (&Value::Null, 0), "{report}");
}

/// Asserts that a crash test of a faulty store fails and counts one of these problems.
fn assert_found(fault: &str, counts: &[&str]) {
    let (output, remaining) =
        crash_test(&["--kills", "200", "--json", "--seed", "3", "--fault", fault]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(report["ok"], false, "{report}");
    let found = counts.iter().any(|count| report[count] == 1);
    assert!(
        found,
        "{fault} was not found as one of {counts:?}: {report}"
    );
    // The store is kept for inspection.
    assert_eq!(remaining, 1);
}

#[test]
fn lost_acknowledged_journal_records_are_detected() {
    assert_found(
        "drop-journal-writes",
        &["lost", "open_failed", "generation_regressed"],
    );
}

#[test]
fn header_written_before_its_pages_is_detected() {
    assert_found(
        "header-before-pages",
        &["fallback", "open_failed", "generation_regressed"],
    );
}

#[test]
fn partially_stored_transaction_is_detected() {
    assert_found("split-transactions", &["torn"]);
}

#[test]
fn help_states_that_power_cuts_are_not_covered() {
    let output = durable()
        .args(["crash-test", "--help"])
        .output()
        .expect("program starts");
    let text = stdout(&output);
    assert!(text.contains("NOT that it survives a power cut"), "{text}");
    assert!(!text.contains("--fault"), "{text}");
}
