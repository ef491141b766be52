//! `torrent verify` on files that differ from the torrent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{create, expect, json, noise, put, stderr, stdout, verify};
use crate::support;

const FILE_BYTES: usize = 100_000;

/// Nine files of 100,000 bytes and their torrent with pieces of 16 KiB.
struct Content {
    directory: TempDir,
    torrent: PathBuf,
}

impl Content {
    fn new() -> Self {
        let directory = support::temp_dir();
        for i in 1..=9 {
            put(
                &directory.path().join(format!("d/{i}")),
                &noise(i, FILE_BYTES),
            );
        }
        let torrent = directory.path().join("x.torrent");
        create(
            &directory.path().join("d"),
            &torrent,
            &["--piece-length", "16K"],
        );
        Self { directory, torrent }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("d").join(name)
    }

    fn open(&self, name: &str) -> File {
        File::options()
            .write(true)
            .open(self.path(name))
            .expect("a file")
    }

    fn verify(&self, code: i32) -> Value {
        verify(code, &self.torrent, self.directory.path(), &[])
    }

    /// Several kinds of damage: a changed byte, a missing file, one too short and one too long.
    fn damage(&self) {
        self.open("2")
            .write_all_at(b"!!!!", 50_000)
            .expect("a write");
        fs::remove_file(self.path("4")).expect("a file");
        self.open("6")
            .set_len(50_000)
            .expect("the truncation succeeds");
        self.open("8")
            .set_len(FILE_BYTES as u64 + 1)
            .expect("a longer file");
    }
}

fn files(report: &Value) -> BTreeMap<&str, &Value> {
    let files = report["files"].as_array().expect("files");
    files
        .iter()
        .map(|file| (file["path"].as_str().expect("a path"), file))
        .collect()
}

#[test]
fn each_kind_of_damage_is_reported() {
    let content = Content::new();
    content.damage();
    let report = content.verify(1);
    let files = files(&report);
    let status: Vec<_> = files
        .values()
        .map(|file| file["status"].as_str().expect("a status"))
        .collect();
    let expected = [
        "ok",
        "corrupt",
        "undecided",
        "missing",
        "undecided",
        "too_short",
        "undecided",
        "too_long",
        "ok",
    ];
    assert_eq!(status, expected);
    assert_eq!(files["d/2"]["corrupt_pieces"], serde_json::json!([[9, 9]]));
    assert_eq!(files["d/3"]["shared_with"], serde_json::json!(["d/4"]));
    assert_eq!(files["d/7"]["shared_with"], serde_json::json!(["d/6"]));
    assert_eq!(files["d/6"]["actual_bytes"], 50_000);
    assert_eq!(files["d/8"]["actual_bytes"], FILE_BYTES + 1);
    assert_eq!(
        (&report["ok"], &report["complete"]),
        (&false.into(), &true.into())
    );
    assert_eq!(report["pieces"]["mismatched"], 1);
}

#[test]
fn the_text_lists_problems_and_all_files_with_v() {
    let content = Content::new();
    content.damage();
    let args = [
        Path::new("verify"),
        &content.torrent,
        Path::new("--root"),
        content.directory.path(),
    ];
    let text = stdout(&expect(1, &args));
    assert_eq!(text.lines().count(), 8, "{text}");
    for part in [
        "corrupt     d/2: damaged, corrupt pieces 9\n",
        "undecided   d/3: shares bad pieces with d/4\n",
        "missing     d/4: 100000 bytes",
        "too short   d/6: 50000 of 100000 bytes",
        "undecided   d/7: shares bad pieces with d/6\n",
        "too long    d/8: 100001 bytes instead of 100000\n",
        "x.torrent: 7 of 9 files with problems; pieces: ",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let all = stdout(&expect(1, &[&args[..], &[Path::new("-v")]].concat()));
    assert!(
        all.contains("ok          d/1\n") && all.contains("ok          d/9\n"),
        "{all}"
    );
}

#[test]
fn a_pipe_gets_only_the_report() {
    let content = Content::new();
    let args = [
        Path::new("verify"),
        &content.torrent,
        Path::new("--root"),
        content.directory.path(),
    ];
    let output = expect(0, &args);
    assert_eq!(stderr(&output), "");
    assert!(!output.stdout.contains(&0x1b));
    assert_eq!(stdout(&output).lines().count(), 1);
}

#[test]
fn links_are_followed_only_on_request() {
    let content = Content::new();
    let elsewhere = content.directory.path().join("elsewhere");
    fs::rename(content.path("5"), &elsewhere).expect("a rename");
    symlink(&elsewhere, content.path("5")).expect("a link");
    let report = content.verify(1);
    assert_eq!(files(&report)["d/5"]["status"], "unreadable", "{report}");
    assert_eq!(
        verify(
            0,
            &content.torrent,
            content.directory.path(),
            &["--follow-symlinks"]
        )["ok"],
        true
    );
}

#[test]
fn a_directory_in_place_of_a_file_is_unreadable() {
    let content = Content::new();
    fs::remove_file(content.path("5")).expect("a file");
    fs::create_dir(content.path("5")).expect("a directory");
    let report = content.verify(1);
    assert_eq!(files(&report)["d/5"]["status"], "unreadable", "{report}");
    assert!(files(&report)["d/5"]["error"].is_string());
}

#[test]
fn without_any_download_all_files_are_missing() {
    let content = Content::new();
    let empty = support::temp_dir();
    let report = verify(1, &content.torrent, empty.path(), &[]);
    assert!(
        files(&report)
            .values()
            .all(|file| file["status"] == "missing"),
        "{report}"
    );
    assert_eq!(report["pieces"]["ok"], 0);
    let args = ["verify", "--root", "/no/such/directory"].map(Path::new);
    let output = expect(4, &[&args[..], &[&content.torrent]].concat());
    assert!(stderr(&output).contains("--root /no/such/directory"));
}

#[test]
fn the_exit_code_is_that_of_the_worst_torrent() {
    let content = Content::new();
    let bad = content.directory.path().join("bad.torrent");
    put(&bad, b"d4:infode");
    let root = [
        Path::new("--root"),
        content.directory.path(),
        Path::new("--json"),
    ];
    let run = |code, torrents: &[&Path]| {
        let output = expect(
            code,
            &[&[Path::new("verify")], &root[..], torrents].concat(),
        );
        let lines = stdout(&output);
        lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("one JSON object per line"))
            .collect::<Vec<Value>>()
    };
    assert_eq!(run(0, &[&content.torrent, &content.torrent]).len(), 2);
    let objects = run(3, &[&bad, &content.torrent]);
    assert_eq!(
        (&objects[0]["exit_code"], &objects[1]["ok"]),
        (&3.into(), &true.into())
    );
    assert_eq!(
        run(4, &[&content.torrent, &bad, Path::new("/missing.torrent")]).len(),
        3
    );
    content.damage();
    assert_eq!(run(1, &[&content.torrent]).len(), 1);
    assert_eq!(run(3, &[&content.torrent, &bad]).len(), 2);
}

#[test]
fn a_budget_below_one_window_is_refused_by_name() {
    let content = Content::new();
    let args = ["verify", "x.torrent", "--budget", "1"].map(Path::new);
    let output = expect(4, &[&args[..1], &[&content.torrent], &args[2..]].concat());
    assert!(stderr(&output).contains("budget"), "{}", stderr(&output));
}

#[test]
fn symlink_entries_of_a_torrent_are_ignored() {
    let directory = support::temp_dir();
    put(&directory.path().join("d/a"), b"1234");
    let digest: [u8; 20] = <sha1::Sha1 as sha1::Digest>::digest(b"1234").into();
    let files = b"d4:infod5:filesld4:attr1:l6:lengthi0e4:pathl4:linke12:symlink pathl1:aeed6:lengthi4e4:pathl1:aeee4:name1:d";
    let torrent = [
        &files[..],
        b"12:piece lengthi16384e6:pieces20:",
        &digest,
        b"ee",
    ]
    .concat();
    put(&directory.path().join("x.torrent"), &torrent);
    let args = [
        Path::new("verify"),
        &directory.path().join("x.torrent"),
        Path::new("--root"),
        directory.path(),
    ];
    let report = json(&expect(0, &[&args[..], &[Path::new("--json")]].concat()));
    assert_eq!(files_of(&report), ["d/a"]);
}

fn files_of(report: &Value) -> Vec<&str> {
    files(report).into_keys().collect()
}
