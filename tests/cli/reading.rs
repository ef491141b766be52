//! `flatspan info` and `flatspan log`.

use std::path::Path;

use flatspan::snapshot::{History, Store};

use crate::damage;
use crate::fixture::{closed, crashed, expect, fill, json, json_lines, options, program, stdout};

#[test]
fn info_tells_what_opening_would_do() {
    let made = crashed();
    let found = json(0, "info", &[&made.path]);
    assert_eq!(found["opens"]["heap"], "a");
    assert_eq!(found["opens"]["second"], "b");
    assert_eq!(
        (&found["part_bytes"], &found["format"]),
        (&65536.into(), &1.into())
    );
    let heap = &found["heaps"][0];
    assert_eq!(
        (&heap["state"], &heap["copies"]),
        (&"released".into(), &serde_json::json!(["good", "good"]))
    );
    assert_eq!(heap["metadata"]["payload_bytes"], 40 * 4096);
    let text = stdout(&expect(0, "info", &[&made.path]));
    assert!(
        text.contains("opens from heap a, generation 3, not closed"),
        "{text}"
    );
    assert!(text.contains("3 journal records behind it"), "{text}");

    let text = stdout(&expect(0, "info", &[&closed().path]));
    assert!(
        text.contains("complete, closed") && text.contains("0 journal records"),
        "{text}"
    );
}

#[test]
fn info_names_damage() {
    let made = crashed();
    damage::randomize(&made.path, "heap-a", 0);
    let found = json(0, "info", &[&made.path]);
    assert_eq!(
        (&found["heaps"][0]["state"], &found["opens"]["heap"]),
        (&"damaged".into(), &"b".into())
    );
    damage::randomize(&made.path, "heap-b", 0);
    let found = json(1, "info", &[&made.path]);
    assert!(found["opens"].is_null(), "{found}");
    assert!(
        found["error"]
            .as_str()
            .expect("text")
            .contains("neither heap is complete"),
        "{found}"
    );
    expect(1, "info", &[&made.path]);
}

#[test]
fn log_has_a_line_for_each_record() {
    let made = crashed();
    let lines = json_lines(0, "log", &[&made.path]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, page) in lines.iter().zip(22..) {
        assert_eq!(line["kind"], "transaction");
        assert_eq!(
            line["changes"],
            serde_json::json!([[page * 4096, 4096, false]])
        );
    }
    let older = json_lines(0, "log", &[&made.path, Path::new("--older")]);
    let kinds: Vec<_> = older.iter().map(|line| &line["kind"]).collect();
    assert_eq!(
        kinds,
        [
            "transaction",
            "seal",
            "transaction",
            "transaction",
            "transaction"
        ]
    );
    let text = stdout(&expect(0, "log", &[&made.path]));
    assert_eq!(text.lines().count(), 4, "{text}");
    assert_eq!(json_lines(0, "log", &[&closed().path]).len(), 0);
}

#[test]
fn log_names_cuts_and_damage() {
    let made = crashed();
    let journal = damage::last_journal(&made.path);
    let record = 64 + 32 + 4096;
    damage::flip(&made.path, &journal, 4096 + 2 * record + 500);
    let lines = json_lines(0, "log", &[&made.path]);
    assert_eq!(
        (lines.len(), &lines[2]["cut"]["bytes"]),
        (3, &record.into()),
        "{lines:?}"
    );
    assert!(stdout(&expect(0, "log", &[&made.path])).contains("cut:"));

    // Now the last one, which is good, says that the one before was durable.
    let made = crashed();
    damage::flip(&made.path, &journal, 4096 + record + 500);
    let lines = json_lines(1, "log", &[&made.path]);
    assert_eq!(
        (lines.len(), &lines[1]["exit_code"]),
        (2, &1.into()),
        "{lines:?}"
    );
    assert!(
        lines[1]["error"].as_str().expect("text").contains(&journal),
        "{lines:?}"
    );
    expect(1, "log", &[&made.path]);
}

#[test]
fn help_names_the_exit_codes_and_there_is_a_version() {
    for command in [
        "info", "verify", "export", "import", "diff", "log", "doctor",
    ] {
        let help = stdout(&expect(0, command, &[Path::new("--help")]));
        assert!(
            help.contains("Exit codes:") && help.contains("130"),
            "{command}: {help}"
        );
    }
    let output = program()
        .arg("--version")
        .output()
        .expect("the program starts");
    assert!(stdout(&output).starts_with("flatspan "));
}

#[test]
fn history_names_what_is_kept_and_what_is_wrong_with_it() {
    let made = crashed();
    assert!(json_lines(0, "history", &[&made.path]).is_empty());
    let history = History::of(&made.path);
    let first = history.keep().expect("kept");
    fill(
        &Store::open(&made.path, options()).expect("a store"),
        30,
        30,
    );
    let second = history.keep().expect("kept");
    let lines = json_lines(0, "history", &[&made.path]);
    let names: Vec<_> = lines.iter().map(|line| line["name"].clone()).collect();
    assert_eq!(names, [first.name(), second.name()]);
    assert!(lines.iter().all(|line| line["bytes"] == 40 * 4096));
    assert!(lines[0]["sequence"].as_u64() < lines[1]["sequence"].as_u64());

    for heap in ["heap-a", "heap-b"] {
        let there = first.directory().join(format!("{heap}.00000")).exists();
        there.then(|| damage::randomize(first.directory(), heap, 0));
    }
    let lines = json_lines(1, "history", &[&made.path]);
    assert!(lines[0]["error"].is_string() && lines[0]["bytes"].is_null());
    assert!(
        lines[1]["error"].is_null(),
        "the others are listed all the same"
    );
    let text = stdout(&expect(1, "history", &[&made.path]));
    assert!(text.contains("2 kept states"), "{text}");
}
