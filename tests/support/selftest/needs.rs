//! Skips are visible, listed once, and fail where required.

use crate::support::{
    child::Child,
    need::{Need, names, need, program},
    skips, temp_dir,
};

const ABSENT: &str = "no-such-program-anywhere";

#[test]
fn skips_are_printed_listed_and_fail_where_required() {
    let name = "selftest::needs::skips_are_printed_listed_and_fail_where_required";
    if crate::support::child::is_me(name) {
        assert!(!need(Need::Tools, ABSENT));
        assert!(need(Need::Tools, "sh"));
        return;
    }
    let directory = temp_dir();
    let list = directory.path().join("list");
    let child = || Child::new(name).env(skips::LIST_VARIABLE, &list);

    let done = child()
        .env("FLATSPAN_REQUIRE", "loom,uffd")
        .run()
        .expect("child needs nothing of the machine");
    done.assert_passed();
    let printed = done
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("SKIPPED "));
    let listed = std::fs::read_to_string(&list).expect("the list");
    assert_eq!(listed.lines().next(), printed);
    assert!(
        listed.contains(&format!("`{ABSENT}` is not installed (tools)")),
        "{listed:?}"
    );

    let done = child()
        .env("FLATSPAN_REQUIRE", "fuse, tools")
        .run()
        .expect("child needs nothing of the machine");
    assert!(!done.status.success());
    assert!(
        done.stderr.contains("FLATSPAN_REQUIRE names tools"),
        "{done}"
    );
}

#[test]
fn long_runs_need_the_variable() {
    let name = "selftest::needs::long_runs_need_the_variable";
    if crate::support::child::is_me(name) {
        let asked = std::env::var("FLATSPAN_LONG").is_ok_and(|asked| asked == "1");
        assert_eq!(need(Need::Long, "an hour"), asked);
        return;
    }
    let directory = temp_dir();
    for asked in ["0", "1"] {
        let list = directory.path().join(asked);
        let child = Child::new(name).env(skips::LIST_VARIABLE, &list);
        let child = child.env("FLATSPAN_REQUIRE", "loom");
        let done = child.env("FLATSPAN_LONG", asked).run();
        done.expect("child needs nothing of the machine")
            .assert_passed();
        let listed = std::fs::read_to_string(&list).unwrap_or_default();
        let is_listed = listed.contains("FLATSPAN_LONG=1 requests it: an hour (long)");
        assert_eq!(is_listed, asked == "0", "{listed:?}");
    }
}

#[test]
fn lists_of_needs_are_parsed() {
    assert!(names("loom,uffd, tools", Need::Tools));
    assert!(!names("loom,uffd", Need::Tools));
    assert!(!names("", Need::Loom));
    assert!(program("sh").is_some() && program(ABSENT).is_none());
}

#[test]
fn finished_runs_are_detected() {
    assert!(!skips::is_alive("1-1"), "process 1 did not start then");
    assert!(!skips::is_alive("rubbish"));
    let run = skips::list_path();
    let run = run
        .file_name()
        .and_then(|name| name.to_str())
        .expect("UTF-8");
    let run = run.strip_prefix("flatspan-skipped-").unwrap_or(run);
    assert!(skips::is_alive(run) || std::env::var_os(skips::LIST_VARIABLE).is_some());
}
