//! The events of `shm-restore --json`: names and fields are those of docs/cli.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The names of the events in a source file.
fn emitted(source: &str) -> BTreeSet<String> {
    // The formatter may break a call over several lines.
    let source: String = source.split_whitespace().collect();
    ["events.report(\"", "events.emit(\"", "object(\""]
        .iter()
        .flat_map(|call| source.split(call).skip(1))
        .filter_map(|rest| rest.split_once('"'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| is_key(name))
        .collect()
}

/// The keys of JSON objects in a source file: `"key": `.
fn keys(source: &str) -> BTreeSet<String> {
    source
        .split("\": ")
        .filter_map(|text| Some(text.rsplit_once('"')?.1.to_owned()))
        .filter(|name| is_key(name))
        .collect()
}

fn is_key(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter == '_')
}

/// The fields of each event in the table of the documentation; an event may have several rows.
fn documented(documentation: &str) -> BTreeMap<String, BTreeSet<String>> {
    let table = documentation
        .split_once("| event | fields | meaning |\n")
        .expect("the documentation has the table")
        .1;
    let mut events = BTreeMap::<_, BTreeSet<String>>::new();
    for row in table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
    {
        let mut cells = row.trim_matches('|').split(" | ");
        let name = cells.next().expect("a name").trim().trim_matches('`');
        let fields = cells.next().expect("fields").split(", ");
        let fields = fields.map(|field| field.trim().trim_matches('`').to_owned());
        events.entry(name.to_owned()).or_default().extend(fields);
    }
    events
}

fn documentation() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    fs::read_to_string(path).expect("docs/cli.md is readable")
}

fn sources() -> Vec<String> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/bin/shm-restore")
        .read_dir()
        .expect("the sources are a directory")
        .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("a source"))
        .collect()
}

/// Checks an event that the program has emitted.
#[track_caller]
pub(crate) fn assert_documented(event: &Value) {
    let events = documented(&documentation());
    let name = event["event"].as_str().expect("a name");
    let fields = events.get(name).expect("the event is documented");
    for key in event.as_object().expect("an object").keys() {
        assert!(key == "event" || fields.contains(key), "{key} of {event}");
    }
}

#[test]
fn the_checks_find_planted_names() {
    let planted =
        "self.events\n    .report(\n \"one\", x); events.emit(\"two\", y); object(\"three\", z)";
    let names = ["one", "three", "two"].map(str::to_owned);
    assert_eq!(emitted(planted), names.into());
    let planted = "json!({ \"key\": 1, \"Other\": 2, \"second_key\": json!({}) }) \"no key\"";
    assert_eq!(
        keys(planted),
        ["key", "second_key"].map(str::to_owned).into()
    );
    let planted = "text\n| event | fields | meaning |\n| --- | --- | --- |\n| `one` | `a`, `b` | x |\n| `one` | `c` | y |\n\nend";
    let fields = ["a", "b", "c"].map(str::to_owned).into();
    assert_eq!(documented(planted), [("one".to_owned(), fields)].into());
}

#[test]
fn the_documentation_lists_all_events() {
    let emitted: BTreeSet<_> = sources().iter().flat_map(|text| emitted(text)).collect();
    assert!(emitted.len() > 10, "{emitted:?}");
    let listed: BTreeSet<_> = documented(&documentation()).into_keys().collect();
    assert_eq!(listed, emitted);
}

#[test]
fn the_documentation_lists_all_fields() {
    let keys: BTreeSet<_> = sources().iter().flat_map(|text| keys(text)).collect();
    let mut listed: BTreeSet<_> = documented(&documentation())
        .into_values()
        .flatten()
        .collect();
    listed.insert("event".to_owned());
    assert_eq!(listed, keys);
}
