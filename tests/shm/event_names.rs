//! The events of `shm-restore` and their list in `--help`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::programs::{clean, expect};

/// The names of the events in a source file.
fn told(source: &str) -> BTreeSet<String> {
    // The formatter may break a call over several lines.
    let source: String = source.split_whitespace().collect();
    ["events.tell(\"", "events.note(\"", "object(\""]
        .iter()
        .flat_map(|call| source.split(call).skip(1))
        .filter_map(|rest| rest.split_once('"'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The names of the events in the help text.
fn listed(help: &str) -> BTreeSet<String> {
    let list = help.split_once("each with `event`:").expect("a list").1;
    let list = list.split_once('.').expect("the process ends").0;
    list.split(',').map(|name| name.trim().to_owned()).collect()
}

#[test]
fn the_help_lists_all_events() {
    let planted =
        "self.events\n    .tell(\n \"one\", x); events.note(\"two\", y); object(\"three\"";
    let names = ["one", "three", "two"].map(str::to_owned);
    assert_eq!(told(planted), names.clone().into());
    assert_eq!(
        listed("each with `event`: one,\ntwo, three. Lines"),
        names.into()
    );

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/shm-restore");
    let told: BTreeSet<String> = folder
        .read_dir()
        .expect("sources")
        .map(|entry| fs::read_to_string(entry.expect("a file").path()).expect("a source"))
        .flat_map(|source| told(&source))
        .collect();
    assert!(told.len() > 10, "{told:?}");
    let help = expect(0, clean(env!("CARGO_BIN_EXE_shm-restore")).arg("--help"));
    assert_eq!(listed(&help), told);
}
