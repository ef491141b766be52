//! Messages, standard streams, and the options that name trackers.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::bytes::{Scene, file, info, int, multi, paths, torrent as torrent_of};
use crate::program::{create, expect, json, noise, put, stderr, stdout, torrent};
use crate::support;

/// A torrent of two files of 4 bytes that share a piece, and of an empty one.
fn scene() -> Scene {
    let files = [
        file(&["a"], 4),
        file(&["sub", "b"], 4),
        file(&["sub", "empty"], 0),
    ];
    Scene::new(&multi(&files, b"12345678"))
}

fn complete() -> Scene {
    scene()
        .with("d/a", b"1234")
        .with("d/sub/b", b"5678")
        .with("d/sub/empty", b"")
}

#[test]
fn missing_empty_files_are_a_problem_only_with_strict() {
    let scene = complete();
    fs::remove_file(scene.directory.path().join("d/sub/empty")).expect("a file");
    let said = stdout(&scene.run_verify(0, &[]));
    assert!(
        said.contains("note        d/sub/empty: the file is empty and missing\n"),
        "{said}"
    );
    assert!(said.contains(": ok, 3 files"), "{said}");
    assert_eq!(scene.verify(0)["files"][2]["status"], "missing");
    let said = stdout(&scene.run_verify(1, &["--strict"]));
    assert!(
        said.contains("missing     d/sub/empty: 0 bytes\n"),
        "{said}"
    );
    assert!(said.contains("1 of 3 files with problems"), "{said}");
}

#[test]
fn a_file_that_is_too_long_is_so_even_if_it_shares_a_bad_piece() {
    let scene = complete().with("d/a", b"1234!").with("d/sub/b", b"bad!");
    let report = scene.verify(1);
    assert_eq!(report["files"][0]["status"], "too_long");
    assert_eq!(report["files"][1]["status"], "undecided");
}

#[test]
fn an_unreadable_file_is_reported_with_the_reason_of_the_system() {
    // Root passes every permission check, but cannot open a name that is too long.
    let scene = Scene::new(&multi(&[file(&[&"n".repeat(300)], 4)], b"1234"));
    fs::create_dir(scene.directory.path().join("d")).expect("a directory");
    let reason = "cannot open: File name too long";
    let said = stdout(&scene.run_verify(1, &[]));
    assert!(said.contains(reason), "{said}");
    let error = &scene.verify(1)["files"][0]["error"];
    assert!(
        error.as_str().is_some_and(|error| error.contains(reason)),
        "{error}"
    );
}

#[test]
fn a_symbolic_link_in_a_path_is_named_once_with_follow_symlinks() {
    let scene = scene().with("d/a", b"1234").with("elsewhere/b", b"5678");
    let scene = scene.with("elsewhere/empty", b"");
    let target = scene.directory.path().join("elsewhere");
    symlink(&target, scene.directory.path().join("d/sub")).expect("a link");
    let said = stdout(&scene.run_verify(1, &[]));
    let line =
        "unreadable  d/sub/b: d/sub is a symbolic link; use --follow-symlinks to follow it\n";
    assert!(said.contains(line), "{said}");
    assert_eq!(said.matches("symbolic link").count(), 1, "{said}");
    assert_eq!(
        stdout(&scene.run_verify(1, &["-v"]))
            .matches("is a symbolic link")
            .count(),
        2
    );
    let error = scene.verify(1)["files"][2]["error"].to_string();
    assert!(error.contains("d/sub is a symbolic link"), "{error}");
    scene.run_verify(0, &["--follow-symlinks"]);
}

#[test]
fn a_wrong_root_is_reported_once() {
    let files: Vec<_> = (0..100).map(|i| file(&[&i.to_string()], 1)).collect();
    let scene = Scene::new(&multi(&files, &[b'x'; 100]));
    let said = stdout(&scene.run_verify(1, &[]));
    let root = scene.directory.path().display();
    assert!(
        said.starts_with(&format!("missing     d is not below {root}\n")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    assert_eq!(paths(&scene.verify(1)).len(), 100);
    let problem = &scene.verify(1)["directory_problem"];
    assert!(
        problem
            .as_str()
            .is_some_and(|text| text.starts_with("d is not below ")),
        "{problem}"
    );
    assert_eq!(stdout(&scene.run_verify(1, &["-v"])).lines().count(), 102);

    let directory = scene.directory.path().join("d");
    put(&directory, b"a file");
    let said = stdout(&scene.run_verify(1, &[]));
    assert!(said.contains("is not a directory\n"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");

    // With the directory, each file is listed.
    fs::remove_file(&directory).expect("a file");
    fs::create_dir(&directory).expect("a directory");
    assert_eq!(stdout(&scene.run_verify(1, &[])).lines().count(), 101);
}

#[test]
fn skipped_files_are_counted_and_listed_with_v() {
    let directory = support::temp_dir();
    let (root, out) = (
        directory.path().join("d"),
        directory.path().join("x.torrent"),
    );
    put(&root.join("f"), b"content");
    for i in 0..5 {
        symlink("f", root.join(format!("link{i}"))).expect("a link");
    }
    let made = Command::new("mkfifo").arg(root.join("fifo")).status();
    assert!(made.is_ok_and(|status| status.success()));
    let said = stderr(&create(&root, &out, &["--piece-length", "16K"]));
    let counted = "torrent: symbolic links skipped: 5 (-v lists them)\ntorrent: special files skipped: 1 (-v lists them)\n";
    assert_eq!(said, counted);
    let said = stderr(&create(
        &root,
        &out,
        &["--piece-length", "16K", "-v", "--force"],
    ));
    assert_eq!(said.lines().count(), 8, "{said}");
    assert!(
        said.contains("d/link3\n") && said.contains("d/fifo\n"),
        "{said}"
    );
}

/// A stream that fails.
#[derive(Clone, Copy, Debug)]
enum Broken {
    /// Each write fails with `ENOSPC`.
    Full,
    /// Each write fails with `EPIPE`.
    Pipe,
    /// The program is started without the descriptor.
    Closed,
}

/// Runs a command with broken streams, by the shell.
fn run_broken(command: &Command, stdout: Option<Broken>, stderr: Option<Broken>) -> Output {
    let quoted = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = quoted.map(|word| format!("'{}'", word.to_str().expect("UTF-8")));
    let redirection = |number: u8, broken: Option<Broken>| match broken {
        None => String::new(),
        Some(Broken::Full) => format!(" {number}>/dev/full"),
        Some(Broken::Pipe) => format!(" {number}>&9"),
        Some(Broken::Closed) => format!(" {number}>&-"),
    };
    let line = format!(
        "{}{}{}",
        quoted.collect::<Vec<_>>().join(" "),
        redirection(1, stdout),
        redirection(2, stderr)
    );
    // Descriptor 9 is a FIFO whose reader is gone.
    let directory = support::temp_dir();
    let fifo = directory.path().join("fifo");
    let script = format!(
        "mkfifo '{0}'; exec 8<>'{0}' 9>'{0}' 8>&-; {line}",
        fifo.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env_remove("SOURCE_DATE_EPOCH");
    shell.stdin(Stdio::null()).output().expect("sh starts")
}

const BROKEN: [Broken; 3] = [Broken::Full, Broken::Pipe, Broken::Closed];

fn assert_no_panic(output: &Output) {
    assert!(
        output.status.code().is_some_and(|code| code < 100),
        "{output:?}"
    );
    assert!(!stderr(output).contains("panicked"), "{output:?}");
}

#[test]
fn standard_error_that_cannot_be_written_never_loses_the_torrent() {
    for broken in BROKEN {
        let directory = support::temp_dir();
        let (root, out) = (
            directory.path().join("d"),
            directory.path().join("x.torrent"),
        );
        put(&root.join("f"), b"content");
        symlink("f", root.join("link")).expect("a link");
        let mut command = torrent();
        command.arg("create").arg(&root).arg("-o").arg(&out);
        let output = run_broken(&command, None, Some(broken));
        assert_eq!(output.status.code(), Some(0), "{broken:?}: {output:?}");
        expect(
            0,
            &[
                Path::new("verify"),
                &out,
                Path::new("--root"),
                directory.path(),
            ],
        );
    }
}

#[test]
fn standard_output_that_cannot_be_written_never_loses_the_torrent() {
    for broken in BROKEN {
        for more in [&[][..], &["--json"]] {
            let directory = support::temp_dir();
            let (root, out) = (
                directory.path().join("d"),
                directory.path().join("x.torrent"),
            );
            put(&root.join("f"), b"content");
            let mut command = torrent();
            command
                .arg("create")
                .arg(&root)
                .arg("-o")
                .arg(&out)
                .args(more);
            let output = run_broken(&command, Some(broken), None);
            assert_no_panic(&output);
            if matches!(broken, Broken::Full) {
                let said = stderr(&output);
                assert!(
                    said.contains("the torrent was written, but not the report"),
                    "{said}"
                );
            }
            expect(
                0,
                &[
                    Path::new("verify"),
                    &out,
                    Path::new("--root"),
                    directory.path(),
                ],
            );
        }
    }
}

#[test]
fn broken_streams_never_cause_a_panic() {
    let scene = complete();
    let bad = scene.directory.path().join("bad.torrent");
    put(&bad, b"x");
    for broken in BROKEN {
        for (stdout, stderr) in [
            (Some(broken), None),
            (None, Some(broken)),
            (Some(broken), Some(broken)),
        ] {
            for words in [
                &["show"][..],
                &["show", "--json"],
                &["verify"],
                &["verify", "--json", "-v"],
            ] {
                for path in [&scene.torrent, &bad] {
                    let mut command = torrent();
                    command.args(words).arg(path);
                    if words[0] == "verify" {
                        command.arg("--root").arg(scene.directory.path());
                    }
                    assert_no_panic(&run_broken(&command, stdout, stderr));
                }
            }
        }
    }
}

/// Runs a command with this standard input.
fn with_input(args: &[&Path], input: &[u8]) -> Output {
    let mut child = torrent()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input)
        .expect("the program reads");
    child.wait_with_output().expect("the program ends")
}

#[test]
fn a_torrent_goes_to_standard_output_and_comes_from_standard_input() {
    let scene = complete();
    let content = scene.directory.path().join("d");
    for more in [&[][..], &["--json"]] {
        let args = ["create", "-o", "-", "--no-creation-date"].map(Path::new);
        let more: Vec<_> = more.iter().map(Path::new).collect();
        let made = expect(0, &[&args[..], &more, &[&content]].concat());
        assert!(stderr(&made).contains("info"), "{}", stderr(&made));
        let shown = json(&with_input(
            &["show", "-", "--json"].map(Path::new),
            &made.stdout,
        ));
        assert_eq!(paths(&shown), ["d/a", "d/sub/b", "d/sub/empty"]);
        let args = ["verify", "-", "--root"].map(Path::new);
        let verified = with_input(
            &[&args[..], &[scene.directory.path()]].concat(),
            &made.stdout,
        );
        assert!(stdout(&verified).contains("ok, 3 files"), "{verified:?}");
    }
    let refused = with_input(&["show", "-"].map(Path::new), b"x");
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        stderr(&refused).contains("standard input: not bencode"),
        "{refused:?}"
    );
    assert!(!scene.directory.path().join("-").exists());
}

#[test]
fn a_torrent_for_standard_output_that_cannot_be_written_is_a_failure() {
    let scene = complete();
    let mut command = torrent();
    command
        .arg("create")
        .arg(scene.directory.path().join("d"))
        .args(["-o", "-"]);
    for broken in BROKEN {
        let output = run_broken(&command, Some(broken), None);
        assert_eq!(output.status.code(), Some(4), "{broken:?}: {output:?}");
        assert_no_panic(&output);
    }
}

#[test]
fn the_file_behind_standard_output_is_excluded() {
    let directory = support::temp_dir();
    put(&directory.path().join("d/f"), b"content");
    let out = directory.path().join("d/x.torrent");
    let args = ["create", "d", "-o", "-"];
    let made = torrent()
        .args(args)
        .current_dir(&directory)
        .stdout(File::create(&out).expect("a file"))
        .output()
        .expect("the program starts");
    assert!(made.status.success(), "{made:?}");
    let shown = json(&expect(0, &[Path::new("show"), &out, Path::new("--json")]));
    assert_eq!(paths(&shown), ["d/f"]);
}

/// Creates a torrent with these values of `--tracker`.
fn with_trackers(values: &[&str]) -> (Output, Option<serde_json::Value>) {
    let directory = support::temp_dir();
    let (content, out) = (
        directory.path().join("f"),
        directory.path().join("x.torrent"),
    );
    put(&content, &noise(1, 5));
    let mut command = torrent();
    command.arg("create").arg(&content).arg("-o").arg(&out);
    for value in values {
        command.args(["--tracker", value]);
    }
    let output = command.output().expect("the program starts");
    let shown = out
        .exists()
        .then(|| json(&expect(0, &[Path::new("show"), &out, Path::new("--json")])));
    (output, shown)
}

#[test]
fn commas_in_tracker_urls_do_not_split_them() {
    let (output, shown) = with_trackers(&[
        "http://a/announce?x=1,2",
        "udp://b:80,https://c/x,y, wss://d",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        shown.expect("a torrent")["trackers"],
        serde_json::json!([
            ["http://a/announce?x=1,2"],
            ["udp://b:80", "https://c/x,y", "wss://d"]
        ])
    );
}

#[test]
fn trackers_that_are_not_urls_are_refused() {
    for value in [
        "",
        "tracker.example.org",
        "http:/a",
        "http://",
        "http:///announce",
        "ftp://a/",
        "http://a b/",
        "http://a,b",
        "http://a,,udp://b",
        ",http://a",
        "http://a,",
        "javascript://a",
    ] {
        let (output, shown) = with_trackers(&[value]);
        assert_eq!(output.status.code(), Some(2), "{value:?}: {output:?}");
        assert!(shown.is_none(), "{value}");
    }
}

#[test]
fn units_of_sizes_are_those_of_the_other_programs() {
    let directory = support::temp_dir();
    put(&directory.path().join("f"), b"content");
    let run = |code, size: &str| {
        let out = directory.path().join(size);
        let content = directory.path().join("f");
        let option = [Path::new("--piece-length"), Path::new(size)];
        expect(
            code,
            &[
                &[Path::new("create"), &content, Path::new("-o"), &out],
                &option[..],
            ]
            .concat(),
        )
    };
    run(0, "64K");
    for size in ["64k", "64KiB", "64 K", "1T"] {
        assert!(stderr(&run(2, size)).contains("is not a size such as 4096, 64K or 1G"));
    }
}

#[test]
fn a_single_file_that_is_missing_is_reported_as_missing() {
    let scene = Scene::new(&torrent_of(info(&[("length", int(4))], b"1234")));
    let said = stdout(&scene.run_verify(1, &[]));
    assert!(said.starts_with("missing     d: 4 bytes\n"), "{said}");
}
