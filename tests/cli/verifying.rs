//! `flatspan verify`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::damage;
use crate::fixture::{Made, PART, closed, crashed, expect, json, json_lines, stderr, stdout};
use crate::support;

/// Verifies a store and returns its only problem, which must have this file and kind.
fn only_problem(made: &Made, file: &str, kind: &str) -> Value {
    let found = json(1, "verify", &[&made.path]);
    let problems = found["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), 1, "{found}");
    assert_eq!(
        (&problems[0]["file"], &problems[0]["kind"]),
        (&file.into(), &kind.into()),
        "{found}"
    );
    assert_eq!(found["ok"], false);
    let text = stdout(&expect(1, "verify", &[&made.path]));
    assert!(
        text.contains(problems[0]["message"].as_str().expect("text")),
        "{text}"
    );
    problems[0].clone()
}

#[test]
fn intact_stores_have_no_problem() {
    for made in [crashed(), closed()] {
        let found = json(0, "verify", &[&made.path]);
        assert_eq!(
            (&found["ok"], &found["complete"]),
            (&true.into(), &true.into()),
            "{found}"
        );
        assert_eq!(found["heaps"].as_array().map(Vec::len), Some(2));
        assert_eq!(found["verified_pages"], 80);
        assert!(found["verified_records"].as_u64() >= Some(1), "{found}");
    }
}

#[test]
fn several_stores_are_reported_separately() {
    let (good, bad) = (crashed(), crashed());
    damage::flip_page(&bad.path, "heap-b", 3);
    let none = good.path.with_file_name("none");
    let found = json_lines(3, "verify", &[&bad.path, &none, &good.path]);
    assert_eq!(found.len(), 3);
    assert_eq!(
        (&found[0]["ok"], &found[2]["ok"]),
        (&false.into(), &true.into())
    );
    assert_eq!(found[1]["exit_code"], 3);
    json_lines(1, "verify", &[&bad.path, &good.path]);
}

#[test]
fn corrupt_pages_are_reported_in_ranges() {
    let made = crashed();
    damage::flip_page(&made.path, "heap-a", 5);
    let problem = only_problem(&made, "heap-a", "pages");
    assert_eq!(
        (&problem["first_page"], &problem["last_page"]),
        (&5.into(), &5.into())
    );
    damage::flip_page(&made.path, "heap-a", 6);
    damage::flip_page(&made.path, "heap-a", 30);
    damage::flip_page(&made.path, "heap-b", 30);
    let found = json(1, "verify", &[&made.path]);
    let ranges: Vec<_> = found["problems"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    let ranges: Vec<_> = ranges
        .iter()
        .map(|problem| {
            (
                problem["file"].as_str(),
                problem["first_page"].as_u64(),
                problem["last_page"].as_u64(),
            )
        })
        .collect();
    let (a, b) = (Some("heap-a"), Some("heap-b"));
    let expected = [
        (a, Some(5), Some(6)),
        (a, Some(30), Some(30)),
        (b, Some(30), Some(30)),
    ];
    assert_eq!(ranges, expected);
    assert_eq!(found["verified_pages"], 80, "the rest is verified");
}

#[test]
fn corrupt_tree_blocks_are_reported_with_their_pages() {
    for (block, level) in [(0, "level 3"), (3, "level 0")] {
        let made = crashed();
        damage::flip(&made.path, "table-a", block * 4096 + 16);
        let problem = only_problem(&made, "table-a", "tree_block");
        assert!(
            problem["message"].as_str().expect("text").contains(level),
            "{problem}"
        );
        assert_eq!(
            (&problem["first_page"], &problem["last_page"]),
            (&0.into(), &39.into())
        );
    }
}

#[test]
fn corrupt_metadata_copies_are_reported() {
    for (copy, at) in damage::COPIES.into_iter().enumerate() {
        let made = crashed();
        damage::flip(&made.path, "heap-a", at + 40);
        let problem = only_problem(&made, "heap-a", "metadata");
        let text = format!("copy {copy} of METADATA");
        assert!(
            problem["message"].as_str().expect("text").contains(&text),
            "{problem}"
        );
    }
}

#[test]
fn a_heap_without_metadata_is_reported_and_the_other_verified() {
    let made = crashed();
    damage::randomize(&made.path, "heap-a", 0);
    let found = json(1, "verify", &[&made.path]);
    assert_eq!(
        found["problems"].as_array().map(Vec::len),
        Some(2),
        "{found}"
    );
    assert_eq!(
        (&found["heaps"], &found["verified_pages"]),
        (&serde_json::json!(["b"]), &40.into())
    );
    damage::randomize(&made.path, "heap-b", 0);
    let found = json(1, "verify", &[&made.path]);
    let kinds: Vec<_> = found["problems"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|problem| &problem["kind"])
        .collect();
    assert_eq!(
        kinds,
        [
            "metadata",
            "metadata",
            "metadata",
            "metadata",
            "heap_selection"
        ]
    );
}

#[test]
fn corrupt_journal_records_are_reported() {
    let made = crashed();
    let journal = damage::last_journal(&made.path);
    // The first record: later ones show that it was durable.
    damage::flip(&made.path, &journal, 4096 + 500);
    let problem = only_problem(&made, &journal, "journal");
    assert!(
        problem["message"]
            .as_str()
            .expect("text")
            .contains("was durable"),
        "{problem}"
    );

    let made = crashed();
    damage::flip(&made.path, &journal, 40);
    let problem = only_problem(&made, &journal, "journal");
    assert!(
        problem["message"]
            .as_str()
            .expect("text")
            .contains("checksum"),
        "{problem}"
    );
}

#[test]
fn an_ignored_tail_is_a_note() {
    let made = crashed();
    let journal = damage::last_journal(&made.path);
    damage::flip(&made.path, &journal, 4096 + 2 * (64 + 32 + 4096) + 500);
    let found = json(0, "verify", &[&made.path]);
    let notes = found["notes"].to_string();
    assert!(
        notes.contains(&journal) && notes.contains("never acknowledged"),
        "{notes}"
    );
}

#[test]
fn short_and_missing_parts_are_reported_and_the_rest_verified() {
    let made = crashed();
    damage::truncate(&made.path, "heap-a", 2, PART - 4096);
    let problem = only_problem(&made, "heap-a", "part_files");
    assert!(
        problem["message"]
            .as_str()
            .expect("text")
            .contains("heap-a.00002"),
        "{problem}"
    );

    let made = crashed();
    damage::delete(&made.path, "heap-a", 1);
    damage::flip_page(&made.path, "heap-b", 7);
    let found = json(1, "verify", &[&made.path]);
    let problems = found["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), 2, "{found}");
    assert!(
        problems[0]["message"]
            .as_str()
            .expect("text")
            .contains("heap-a.00001"),
        "{found}"
    );

    // The last part: only METADATA shows that it is missing.
    let made = crashed();
    damage::delete(&made.path, "heap-a", 3);
    damage::flip_page(&made.path, "heap-a", 2);
    let found = json(1, "verify", &[&made.path]);
    let kinds: Vec<_> = found["problems"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|problem| &problem["kind"])
        .collect();
    assert_eq!(kinds, ["part_files", "pages"]);
    assert_eq!(found["verified_pages"], 32 + 40);

    let made = crashed();
    damage::delete(&made.path, "table-a", 0);
    only_problem(&made, "table-a", "part_files");
}

#[test]
fn swapped_parts_are_reported() {
    let made = crashed();
    damage::swap(&made.path, "heap-a", [1, 2]);
    let problem = only_problem(&made, "heap-a", "pages");
    assert_eq!(problem["first_page"], 0);
}

#[test]
fn an_unsupported_version_is_reported() {
    let made = crashed();
    damage::rewrite_metadata(&made.path, "heap-a", |block| block[8] = 2);
    for command in ["verify", "info", "journal", "diff"] {
        let output = expect(3, command, &[&made.path]);
        let said = stderr(&output) + &stdout(&output);
        assert!(said.contains("version 2"), "{command}: {said}");
    }
    let found = json(3, "verify", &[&made.path]);
    assert_eq!(found["exit_code"], 3);
}

#[test]
fn a_path_without_a_store_is_an_error() {
    let dir = support::temp_dir();
    let none = dir.path().join("none");
    assert!(stderr(&expect(3, "verify", &[&none])).contains("none"));
    assert!(stderr(&expect(3, "verify", &[dir.path()])).contains("not a store"));
    let file = dir.path().join("file");
    fs::write(&file, "text").expect("a file");
    expect(3, "verify", &[&file]);
    assert!(stderr(&expect(3, "verify", &[dir.path()])).contains("not a store"));
    expect(2, "verify", &[]);
    expect(2, "verify", &[Path::new("--no-such-option")]);
}
