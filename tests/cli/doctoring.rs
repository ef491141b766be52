//! `flatspan doctor`.

use std::fs;

use crate::fixture::{expect, json, stdout};
use crate::support;

#[test]
fn the_doctor_tells_what_is_here_and_leaves_nothing() {
    let folder = support::temp_dir();
    let found = json(0, "doctor", &[folder.path()]);
    let findings = found["findings"].as_array().expect("a list");
    for name in [
        "page size",
        "tracker compare",
        "flock",
        "blind spots of trackers",
        "vm.max_map_count",
        "fallocate",
    ] {
        let finding = findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.unwrap_or_else(|| panic!("{name} in {found}"));
        assert!(!finding["meaning"].as_str().expect("text").is_empty());
    }
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
    assert!(stdout(&expect(0, "doctor", &[folder.path()])).contains("page size: 4096"));
    expect(3, "doctor", &[&folder.path().join("none")]);
}
