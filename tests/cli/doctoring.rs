//! `flatspan doctor`.

use std::fs;

use crate::fixture::{expect, json, stdout};
use crate::support;

#[test]
fn doctor_reports_findings_and_leaves_no_file() {
    let dir = support::temp_dir();
    let found = json(0, "doctor", &[dir.path()]);
    let findings = found["findings"].as_array().expect("a list");
    for name in [
        "page size",
        "tracker hash-compare",
        "flock",
        "blind spots of trackers",
        "vm.max_map_count",
        "fallocate",
    ] {
        let finding = findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.unwrap_or_else(|| panic!("{name} in {found}"));
        assert!(!finding["explanation"].as_str().expect("text").is_empty());
    }
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 0);
    assert!(stdout(&expect(0, "doctor", &[dir.path()])).contains("page size: 4096"));
    expect(3, "doctor", &[&dir.path().join("none")]);
}
