//! `--help`, man pages and docs/cli.md describe what the programs do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use flatspan::snapshot::History;
use serde_json::Value;

use crate::damage;
use crate::fixture::{crashed, expect, json, json_lines, program, stdout};
use crate::support;

const COMMANDS: [&str; 11] = [
    "info",
    "verify",
    "export",
    "import",
    "diff",
    "journal",
    "history",
    "rollback",
    "doctor",
    "man",
    "completions",
];

/// Keys that do not say what they contain.
const VAGUE_KEYS: [&str; 7] = ["bytes", "took", "at", "why", "text", "end", "last"];

fn documentation() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    fs::read_to_string(path).expect("docs/cli.md is readable")
}

/// `--help` of every program and command, by its name.
fn helps() -> Vec<(String, String)> {
    let help = |name: String, command: &mut Command| {
        let output = command.arg("--help").output().expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{name}");
        (name, stdout(&output))
    };
    let mut helps = vec![
        help("flatspan".to_owned(), &mut program()),
        help(
            "shm-fd".to_owned(),
            &mut Command::new(env!("CARGO_BIN_EXE_shm-fd")),
        ),
        help(
            "shm-restore".to_owned(),
            &mut Command::new(env!("CARGO_BIN_EXE_shm-restore")),
        ),
    ];
    helps.extend(
        COMMANDS.map(|command| help(format!("flatspan {command}"), program().arg(command))),
    );
    helps
}

/// The lines of `--help` for arguments, options and commands that have no description in that line.
fn undescribed(help: &str) -> Vec<String> {
    let sections = help.split("\n\n").filter(|section| {
        let title = section.lines().next().unwrap_or_default();
        ["Arguments:", "Options:", "Commands:"].contains(&title)
    });
    sections
        .flat_map(|section| section.lines().skip(1))
        .filter(|line| {
            let (_, description) = line.trim_start().split_once("  ").unwrap_or_default();
            let description = description.trim_start();
            description.is_empty() || description.starts_with('[')
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_option_has_a_description() {
    let planted = "Usage: x\n\nArguments:\n  <A>  The first\n  <B>\n\nOptions:\n      --json\n  -f, --force  Replace\n      --interval <S>  [default: 1]\n\nExamples:\n  x";
    let found = [
        "  <B>",
        "      --json",
        "      --interval <S>  [default: 1]",
    ];
    assert_eq!(undescribed(planted), found);
    for (name, help) in helps() {
        assert!(help.contains("\nOptions:\n"), "{name}: {help}");
        assert_eq!(undescribed(&help), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn every_help_has_examples_and_fits() {
    for (name, help) in helps() {
        assert!(help.contains("\nExamples:\n"), "{name}: {help}");
        assert!(help.lines().count() < 60, "{name}: {help}");
    }
    let output = program().arg("--version").output();
    let version = stdout(&output.expect("the program starts"));
    assert!(version.starts_with("flatspan "), "{version}");
}

/// The rows of the table of exit codes: code and meaning.
fn exit_codes_in_help(help: &str) -> BTreeSet<(String, String)> {
    let table = help.split_once("\nExit codes:\n").expect("exit codes").1;
    let rows = table.lines().filter_map(|row| row.trim().split_once("  "));
    rows.map(|(code, meaning)| (code.to_owned(), meaning.trim().to_owned()))
        .collect()
}

fn exit_codes_in_documentation(text: &str, program: &str) -> BTreeSet<(String, String)> {
    let table = text
        .split_once("| code | program | meaning |\n")
        .expect("a table")
        .1;
    let rows = table.lines().skip(1).take_while(|row| row.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .filter(|cells: &Vec<_>| cells[1].split(", ").any(|name| name == program))
        .map(|cells| (cells[0].to_owned(), cells[2].to_owned()))
        .collect()
}

#[test]
fn the_documentation_and_every_help_list_the_same_exit_codes() {
    let planted = "x\nExit codes:\n  0      success\n  128+N  killed\n";
    let rows = [("0", "success"), ("128+N", "killed")];
    let rows: BTreeSet<_> = rows.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(exit_codes_in_help(planted), rows);
    let planted = "| code | program | meaning |\n| --- | --- | --- |\n| 0 | a | success |\n| 128+N | a, b | killed |\n| 9 | b | x |\n\n";
    assert_eq!(exit_codes_in_documentation(planted, "a"), rows);
    let text = documentation();
    for (name, help) in helps() {
        let program = name.split(' ').next().unwrap_or_default();
        let documented = exit_codes_in_documentation(&text, program);
        assert!(documented.len() >= 5, "{documented:?}");
        assert_eq!(exit_codes_in_help(&help), documented, "{name}");
    }
}

/// All keys of an object, with the keys that lead to them; arrays have those of their elements.
fn collect_keys(value: &Value, prefix: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = format!("{prefix}{key}");
                collect_keys(value, &format!("{path}."), keys);
                keys.insert(path);
            }
        }
        Value::Array(values) => {
            for value in values {
                collect_keys(value, prefix, keys);
            }
        }
        _ => {}
    }
}

/// The keys in the tables of a section of the documentation.
fn documented_keys(text: &str, command: &str) -> BTreeSet<String> {
    let section = text
        .split("\n### ")
        .find(|section| section.lines().next() == Some(command))
        .expect("the documentation has the section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect()
}

/// Outputs with `--json` that have all keys between them.
fn outputs(command: &str) -> Vec<Value> {
    let made = crashed();
    let (path, journal) = (&made.path, damage::last_journal(&made.path));
    let record = 64 + 32 + 4096;
    match command {
        "info" => vec![json(0, "info", &[path])],
        "verify" => {
            damage::flip_page(path, "heap-b", 3);
            let missing = path.with_file_name("missing");
            json_lines(3, "verify", &[path, &missing])
        }
        "diff" => vec![json(1, "diff", &[path])],
        "journal" => {
            damage::flip(path, &journal, 4096 + 2 * record + 500);
            let mut lines = json_lines(0, "journal", &[path]);
            damage::flip(path, &journal, 4096 + 2 * record + 500);
            damage::flip(path, &journal, 4096 + record + 500);
            lines.extend(json_lines(1, "journal", &[path]));
            lines
        }
        "history" | "rollback" => {
            let snapshot = History::new(path).add().expect("a snapshot").name();
            match command {
                "history" => json_lines(0, "history", &[path]),
                _ => vec![json(0, "rollback", &[path, Path::new(&snapshot)])],
            }
        }
        "doctor" => vec![json(0, "doctor", &[path])],
        _ => Vec::new(),
    }
}

#[test]
fn the_documentation_lists_the_json_keys_that_occur() {
    let planted = serde_json::json!({ "a": [{ "b": 1 }, { "c": null }], "d": { "e": [[1]] } });
    let mut keys = BTreeSet::new();
    collect_keys(&planted, "", &mut keys);
    assert_eq!(
        keys,
        ["a", "a.b", "a.c", "d", "d.e"].map(str::to_owned).into()
    );
    let planted = "x\n### flatspan one\n\n| key | value |\n| --- | --- |\n| `a` | x |\n| `a.b` | y |\n\n### flatspan two\n\n| `c` | z |\n";
    let documented = ["a", "a.b"].map(str::to_owned).into();
    assert_eq!(documented_keys(planted, "flatspan one"), documented);

    let text = documentation();
    for command in [
        "info", "verify", "diff", "journal", "history", "rollback", "doctor",
    ] {
        let mut keys = BTreeSet::new();
        for output in outputs(command) {
            collect_keys(&output, "", &mut keys);
        }
        let documented = documented_keys(&text, &format!("flatspan {command}"));
        assert_eq!(keys, documented, "{command}");
    }
}

/// Names in code style, without the keys that lead to them, that do not say what they contain.
fn vague_keys(text: &str) -> Vec<&str> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2))
        .filter_map(|name| name.rsplit('.').next())
        .filter(|key| VAGUE_KEYS.contains(key))
        .collect()
}

#[test]
fn json_keys_say_what_they_contain() {
    let planted = "| `len_bytes` | x |\n| `a.bytes` | y |\n| `event` | `took`, `pid` | z |";
    assert_eq!(vague_keys(planted), ["bytes", "took"]);
    assert_eq!(vague_keys(&documentation()), Vec::<&str>::new());
}

#[test]
fn man_pages_and_completions_are_generated_for_all_programs() {
    let dir = support::temp_dir();
    let pages = dir.path().join("man/man1");
    expect(0, "man", &[&pages]);
    for name in ["flatspan", "shm-fd", "shm-restore"] {
        let page = fs::read_to_string(pages.join(format!("{name}.1"))).expect("a page");
        assert!(
            page.contains(".TH ") && page.contains("Exit codes:"),
            "{page}"
        );
    }
    for command in COMMANDS {
        let page = pages.join(format!("flatspan-{command}.1"));
        assert!(page.exists(), "{command}");
    }
    for (program, option) in [
        ("flatspan", "--allow-page-cache"),
        ("shm-fd", "--memfd-name"),
        ("shm-restore", "--keep-last"),
    ] {
        let args = ["--program", program, "bash"].map(Path::new);
        let script = stdout(&expect(0, "completions", &args));
        assert!(script.contains(option), "{program}");
    }
}
