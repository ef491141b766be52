//! `flatspan info`, `flatspan journal` and `flatspan history`.

use std::path::Path;

use flatspan::snapshot::{History, Store, WriteMode};

use crate::damage;
use crate::fixture::{
    PAGE, closed, crashed, expect, fill, json, json_lines, of_pages, options, stderr, stdout,
};

#[test]
fn info_reports_the_open_plan() {
    let made = crashed();
    let found = json(0, "info", &[&made.path]);
    assert_eq!(found["open_plan"]["heap"], "a");
    assert_eq!(found["open_plan"]["fallback_heap"], "b");
    assert_eq!(
        (&found["part_bytes"], &found["format"]),
        (&65536.into(), &1.into())
    );
    let heap = &found["heaps"][0];
    assert_eq!(
        (&heap["state"], &heap["metadata_copies"]),
        (&"complete".into(), &serde_json::json!(["ok", "ok"]))
    );
    assert_eq!(heap["metadata"]["payload_bytes"], 40 * 4096);
    let text = stdout(&expect(0, "info", &[&made.path]));
    assert!(
        text.contains("restore heap a, generation 3 (unclean shutdown"),
        "{text}"
    );
    assert!(text.contains("replay 3 journal records"), "{text}");

    let text = stdout(&expect(0, "info", &[&closed().path]));
    assert!(
        text.contains("complete, clean shutdown") && text.contains("0 journal records"),
        "{text}"
    );
}

#[test]
fn info_reports_corrupt_heaps() {
    let made = crashed();
    damage::randomize(&made.path, "heap-a", 0);
    let found = json(0, "info", &[&made.path]);
    assert_eq!(
        (&found["heaps"][0]["state"], &found["open_plan"]["heap"]),
        (&"corrupt".into(), &"b".into())
    );
    damage::randomize(&made.path, "heap-b", 0);
    let found = json(1, "info", &[&made.path]);
    assert!(found["open_plan"].is_null(), "{found}");
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
fn journal_prints_a_line_for_each_record() {
    let made = crashed();
    let lines = json_lines(0, "journal", &[&made.path]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, page) in lines.iter().zip(22..) {
        assert_eq!(line["kind"], "transaction");
        assert_eq!(
            line["changes"],
            serde_json::json!([{ "offset_bytes": page * 4096, "len_bytes": 4096, "zero": false }])
        );
    }
    let fallback = json_lines(0, "journal", &[&made.path, Path::new("--from-fallback")]);
    let kinds: Vec<_> = fallback.iter().map(|line| &line["kind"]).collect();
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
    let text = stdout(&expect(0, "journal", &[&made.path]));
    assert_eq!(text.lines().count(), 4, "{text}");
    assert_eq!(json_lines(0, "journal", &[&closed().path]).len(), 0);
}

#[test]
fn journal_reports_ignored_tails_and_corruption() {
    let made = crashed();
    let journal = damage::last_journal(&made.path);
    let record = 64 + 32 + 4096;
    damage::flip(&made.path, &journal, 4096 + 2 * record + 500);
    let lines = json_lines(0, "journal", &[&made.path]);
    assert_eq!(
        (lines.len(), &lines[2]["ignored_tail"]["len_bytes"]),
        (3, &record.into()),
        "{lines:?}"
    );
    assert!(stdout(&expect(0, "journal", &[&made.path])).contains("ignored tail:"));

    // Here the last record is valid and shows that the one before it was durable.
    let made = crashed();
    damage::flip(&made.path, &journal, 4096 + record + 500);
    let lines = json_lines(1, "journal", &[&made.path]);
    assert_eq!(
        (lines.len(), &lines[1]["exit_code"]),
        (2, &1.into()),
        "{lines:?}"
    );
    assert!(
        lines[1]["error"].as_str().expect("text").contains(&journal),
        "{lines:?}"
    );
    expect(1, "journal", &[&made.path]);
}

#[test]
fn history_lists_snapshots_and_their_errors() {
    let made = crashed();
    assert!(json_lines(0, "history", &[&made.path]).is_empty());
    let history = History::new(&made.path);
    let first = history.add().expect("kept");
    fill(
        &Store::open(&made.path, options()).expect("a store"),
        30,
        30,
    );
    let second = history.add().expect("kept");
    let lines = json_lines(0, "history", &[&made.path]);
    let names: Vec<_> = lines.iter().map(|line| line["name"].clone()).collect();
    assert_eq!(names, [first.name(), second.name()]);
    assert!(lines.iter().all(|line| line["region_bytes"] == 40 * 4096));
    assert!(lines[0]["sequence"].as_u64() < lines[1]["sequence"].as_u64());

    for heap in ["heap-a", "heap-b"] {
        let there = first.path().join(format!("{heap}.00000")).exists();
        there.then(|| damage::randomize(first.path(), heap, 0));
    }
    let lines = json_lines(1, "history", &[&made.path]);
    assert!(lines[0]["error"].is_string() && lines[0]["region_bytes"].is_null());
    assert!(
        lines[1]["error"].is_null(),
        "the other snapshots are listed"
    );
    let text = stdout(&expect(1, "history", &[&made.path]));
    assert!(text.contains("2 snapshots"), "{text}");
}

#[test]
fn rollback_returns_to_a_snapshot_and_can_be_undone() {
    let made = of_pages(&[(1, 1)]);
    let history = History::new(&made.path);
    let first = history.add().expect("a snapshot").name();
    let change = |byte: u8| {
        let options = options().write_mode(WriteMode::Tracked);
        let store = Store::open(&made.path, options).expect("a store");
        let guard = store.write_guard().expect("the access lock");
        guard
            .write_at(PAGE, &[byte; PAGE as usize])
            .expect("written");
        drop(guard);
        store.close().expect("closed");
    };
    let first_byte = || expect(0, "export", &[&made.path, Path::new("-")]).stdout[PAGE as usize];
    change(2);
    let done = json(0, "rollback", &[&made.path, Path::new(&first)]);
    assert_eq!(
        (&done["snapshot"], first_byte()),
        (&first.as_str().into(), 1)
    );
    let replaced = done["replaced_snapshot"].as_str().expect("a name");
    expect(0, "rollback", &[&made.path, Path::new(replaced)]);
    assert_eq!(first_byte(), 2);
    let count = json_lines(0, "history", &[&made.path]).len();
    let args = [
        &made.path,
        Path::new(&first),
        Path::new("--discard-current"),
    ];
    assert!(json(0, "rollback", &args)["replaced_snapshot"].is_null());
    assert_eq!(json_lines(0, "history", &[&made.path]).len(), count);

    let said = stderr(&expect(3, "rollback", &[&made.path, Path::new("9-9")]));
    assert!(said.contains("no snapshot 9-9"), "{said}");
    let store = Store::open(&made.path, options().write_mode(WriteMode::Tracked)).expect("a store");
    let said = stderr(&expect(3, "rollback", &[&made.path, Path::new(&first)]));
    assert!(said.contains("in use"), "{said}");
    drop(store);
}
