//! `flatspan verify`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::damage;
use crate::fixture::{Made, PART, closed, crashed, expect, json, json_lines, stderr, stdout};
use crate::support;

/// Verifies a store and gives its only fault, by array and kind.
fn only_fault(made: &Made, array: &str, kind: &str) -> Value {
    let found = json(1, "verify", &[&made.path]);
    let faults = found["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), 1, "{found}");
    assert_eq!(
        (&faults[0]["array"], &faults[0]["kind"]),
        (&array.into(), &kind.into()),
        "{found}"
    );
    assert_eq!(found["ok"], false);
    let text = stdout(&expect(1, "verify", &[&made.path]));
    assert!(
        text.contains(faults[0]["text"].as_str().expect("text")),
        "{text}"
    );
    faults[0].clone()
}

#[test]
fn good_stores_are_good() {
    for made in [crashed(), closed()] {
        let found = json(0, "verify", &[&made.path]);
        assert_eq!(
            (&found["ok"], &found["complete"]),
            (&true.into(), &true.into()),
            "{found}"
        );
        assert_eq!(found["heaps"].as_array().map(Vec::len), Some(2));
        assert_eq!(found["pages"], 80);
        assert!(found["records"].as_u64() >= Some(1), "{found}");
    }
}

#[test]
fn several_stores_are_told_apart() {
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
fn pages_are_named_and_neighbours_put_together() {
    let made = crashed();
    damage::flip_page(&made.path, "heap-a", 5);
    let fault = only_fault(&made, "heap-a", "pages");
    assert_eq!(
        (&fault["first_page"], &fault["last_page"]),
        (&5.into(), &5.into())
    );
    damage::flip_page(&made.path, "heap-a", 6);
    damage::flip_page(&made.path, "heap-a", 30);
    damage::flip_page(&made.path, "heap-b", 30);
    let found = json(1, "verify", &[&made.path]);
    let ranges: Vec<_> = found["faults"].as_array().expect("a list").iter().collect();
    let ranges: Vec<_> = ranges
        .iter()
        .map(|fault| {
            (
                fault["array"].as_str(),
                fault["first_page"].as_u64(),
                fault["last_page"].as_u64(),
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
    assert_eq!(found["pages"], 80, "the rest was looked at");
}

#[test]
fn blocks_of_the_table_are_named_with_the_pages_beneath() {
    for (block, level) in [(0, "level 3"), (3, "level 0")] {
        let made = crashed();
        damage::flip(&made.path, "table-a", block * 4096 + 16);
        let fault = only_fault(&made, "table-a", "block");
        assert!(
            fault["text"].as_str().expect("text").contains(level),
            "{fault}"
        );
        assert_eq!(
            (&fault["first_page"], &fault["last_page"]),
            (&0.into(), &39.into())
        );
    }
}

#[test]
fn copies_of_metadata_are_named() {
    for (copy, at) in damage::COPIES.into_iter().enumerate() {
        let made = crashed();
        damage::flip(&made.path, "heap-a", at + 40);
        let fault = only_fault(&made, "heap-a", "metadata");
        let text = format!("copy {copy} of METADATA");
        assert!(
            fault["text"].as_str().expect("text").contains(&text),
            "{fault}"
        );
    }
}

#[test]
fn a_heap_without_a_header_is_named_and_the_other_one_verified() {
    let made = crashed();
    damage::randomize(&made.path, "heap-a", 0);
    let found = json(1, "verify", &[&made.path]);
    assert_eq!(found["faults"].as_array().map(Vec::len), Some(2), "{found}");
    assert_eq!(
        (&found["heaps"], &found["pages"]),
        (&serde_json::json!(["b"]), &40.into())
    );
    damage::randomize(&made.path, "heap-b", 0);
    let found = json(1, "verify", &[&made.path]);
    let kinds: Vec<_> = found["faults"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|fault| &fault["kind"])
        .collect();
    assert_eq!(
        kinds,
        ["metadata", "metadata", "metadata", "metadata", "headers"]
    );
}

#[test]
fn records_of_the_journal_are_named() {
    let made = crashed();
    let journal = damage::last_journal(&made.path);
    // In the first one, which those behind it say was durable.
    damage::flip(&made.path, &journal, 4096 + 500);
    let fault = only_fault(&made, &journal, "journal");
    assert!(
        fault["text"]
            .as_str()
            .expect("text")
            .contains("was durable"),
        "{fault}"
    );

    let made = crashed();
    damage::flip(&made.path, &journal, 40);
    let fault = only_fault(&made, &journal, "journal");
    assert!(
        fault["text"].as_str().expect("text").contains("checksum"),
        "{fault}"
    );
}

#[test]
fn a_journal_that_is_cut_in_its_last_record_is_a_note() {
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
fn parts_that_are_cut_or_gone_are_named_and_what_is_left_verified() {
    let made = crashed();
    damage::cut(&made.path, "heap-a", 2, PART - 4096);
    let fault = only_fault(&made, "heap-a", "files");
    assert!(
        fault["text"]
            .as_str()
            .expect("text")
            .contains("heap-a.00002"),
        "{fault}"
    );

    let made = crashed();
    damage::delete(&made.path, "heap-a", 1);
    damage::flip_page(&made.path, "heap-b", 7);
    let found = json(1, "verify", &[&made.path]);
    let faults = found["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), 2, "{found}");
    assert!(
        faults[0]["text"]
            .as_str()
            .expect("text")
            .contains("heap-a.00001"),
        "{found}"
    );

    // The last one: only the header says that it is missing.
    let made = crashed();
    damage::delete(&made.path, "heap-a", 3);
    damage::flip_page(&made.path, "heap-a", 2);
    let found = json(1, "verify", &[&made.path]);
    let kinds: Vec<_> = found["faults"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|fault| &fault["kind"])
        .collect();
    assert_eq!(kinds, ["files", "pages"]);
    assert_eq!(found["pages"], 32 + 40);

    let made = crashed();
    damage::delete(&made.path, "table-a", 0);
    only_fault(&made, "table-a", "files");
}

#[test]
fn parts_that_were_swapped_are_found() {
    let made = crashed();
    damage::swap(&made.path, "heap-a", [1, 2]);
    let fault = only_fault(&made, "heap-a", "pages");
    assert_eq!(fault["first_page"], 0);
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let made = crashed();
    damage::rewrite_metadata(&made.path, "heap-a", |block| block[8] = 2);
    for command in ["verify", "info", "log", "diff"] {
        let output = expect(3, command, &[&made.path]);
        let said = stderr(&output) + &stdout(&output);
        assert!(said.contains("version 2"), "{command}: {said}");
    }
    let found = json(3, "verify", &[&made.path]);
    assert_eq!(found["exit_code"], 3);
}

#[test]
fn what_is_no_store_is_an_error() {
    let folder = support::temp_dir();
    let none = folder.path().join("none");
    assert!(stderr(&expect(3, "verify", &[&none])).contains("none"));
    assert!(stderr(&expect(3, "verify", &[folder.path()])).contains("not a store"));
    let file = folder.path().join("file");
    fs::write(&file, "text").expect("a file");
    expect(3, "verify", &[&file]);
    assert!(stderr(&expect(3, "verify", &[folder.path()])).contains("not a store"));
    expect(2, "verify", &[]);
    expect(2, "verify", &[Path::new("--no-such-option")]);
}
