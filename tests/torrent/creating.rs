//! `torrent create` and `torrent show`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use crate::program::{create, expect, json, noise, put, stderr, stdout, torrent, verify};
use crate::support;

/// Empty files, odd sizes, spaces, names beyond ASCII, and an order that differs from that of plain
/// strings.
fn content(root: &Path) {
    put(&root.join("a b/ünï/文件"), &noise(1, 100_001));
    put(&root.join("a b/empty"), b"");
    put(&root.join("a/c"), &noise(2, 16_384));
    put(&root.join("a-b"), &noise(3, 1));
    put(&root.join("z"), &noise(4, 16_383));
}

fn paths(shown: &serde_json::Value) -> Vec<String> {
    let files = shown["files"].as_array().expect("files");
    files
        .iter()
        .map(|file| file["path"].as_str().expect("a path").to_owned())
        .collect()
}

fn show(path: &Path) -> serde_json::Value {
    json(&expect(0, &[Path::new("show"), path, Path::new("--json")]))
}

#[test]
fn created_torrents_verify() {
    let directory = support::temp_dir();
    let (root, out) = (
        directory.path().join("näme"),
        directory.path().join("x.torrent"),
    );
    content(&root);
    for (more, padding) in [
        (&[][..], 0),
        (&["--pad"][..], 4 - 2),
        (&["--threads", "1", "--budget", "1M"][..], 0),
    ] {
        create(&root, &out, &[more, &["--force", "--json"]].concat());
        assert_eq!(
            show(&out)["files"].as_array().map(Vec::len),
            Some(5 + padding)
        );
        let report = verify(0, &out, directory.path(), &["--budget", "1M"]);
        assert_eq!(
            (&report["ok"], &report["complete"]),
            (&true.into(), &true.into())
        );
        assert_eq!(report["files"].as_array().map(Vec::len), Some(5));
    }
    assert!(!root.join(".pad").exists());
}

#[test]
fn a_single_file_verifies() {
    let directory = support::temp_dir();
    let out = directory.path().join("x.torrent");
    for bytes in [1, 16_384, 100_001] {
        put(&directory.path().join("a file"), &noise(5, bytes));
        create(
            &directory.path().join("a file"),
            &out,
            &["--force", "--pad"],
        );
        assert_eq!(verify(0, &out, directory.path(), &[])["total_bytes"], bytes);
        assert_eq!(show(&out)["multi_file"], false);
    }
}

#[test]
fn files_are_sorted_by_path_components() {
    let directory = support::temp_dir();
    content(&directory.path().join("d"));
    let out = directory.path().join("x.torrent");
    create(&directory.path().join("d"), &out, &[]);
    assert_eq!(
        paths(&show(&out)),
        ["d/a/c", "d/a b/empty", "d/a b/ünï/文件", "d/a-b", "d/z"]
    );
}

#[test]
fn order_from_uses_the_order_of_another_torrent() {
    let directory = support::temp_dir();
    let (root, first, second) = (
        directory.path().join("d"),
        directory.path().join("1"),
        directory.path().join("2"),
    );
    put(&root.join("m"), b"m");
    create(&root, &first, &[]);
    content(&root);
    let order = ["--order-from", first.to_str().expect("UTF-8")];
    create(&root, &second, &order);
    assert_eq!(paths(&show(&second))[..2], ["d/m", "d/a/c"]);
    fs::remove_file(root.join("m")).expect("a file");
    let args = ["create", "d", "-o", "3", order[0], order[1]].map(Path::new);
    let output = torrent()
        .args(args)
        .current_dir(&directory)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(4));
    assert!(
        stderr(&output).contains("--order-from lists 1 files, but only 0"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_sparse_file_of_2_gib_verifies() {
    let directory = support::temp_dir();
    let sparse = directory.path().join("sparse");
    let file = fs::File::create(&sparse).expect("a file");
    file.set_len(2 << 30).expect("a long file");
    if file.metadata().expect("metadata").blocks() > 1024 {
        support::need::skip(
            support::need::Need::Tools,
            "sparse files are not supported here",
        );
        return;
    }
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 1 << 30).expect("a block");
    let out = directory.path().join("x.torrent");
    create(&sparse, &out, &[]);
    assert_eq!(
        verify(0, &out, directory.path(), &[])["pieces"]["total"],
        1024
    );
    assert!(
        file.metadata().expect("metadata").blocks() <= 1024,
        "reading filled the holes"
    );
}

#[test]
fn the_output_file_is_excluded_and_reproducible() {
    let directory = support::temp_dir();
    content(directory.path());
    let out = directory.path().join("a b/x.torrent");
    create(directory.path(), &out, &["--no-creation-date"]);
    let first = fs::read(&out).expect("a torrent");
    create(directory.path(), &out, &["--no-creation-date", "--force"]);
    assert_eq!(fs::read(&out).expect("a torrent"), first);
    assert_eq!(paths(&show(&out)).len(), 5);
    assert_eq!(
        fs::read_dir(directory.path().join("a b"))
            .expect("the directory")
            .count(),
        3,
        "a temporary file is left"
    );
}

#[test]
fn existing_files_are_overwritten_only_with_force() {
    let directory = support::temp_dir();
    let (file, out) = (
        directory.path().join("f"),
        directory.path().join("x.torrent"),
    );
    put(&file, b"content");
    put(&out, b"precious");
    let output = expect(4, &[Path::new("create"), &file, Path::new("-o"), &out]);
    assert!(stderr(&output).contains("--force"));
    assert_eq!(fs::read(&out).expect("a file"), b"precious");
    let output = expect(
        4,
        &[
            Path::new("create"),
            &file,
            Path::new("-o"),
            &file,
            Path::new("--force"),
        ],
    );
    assert!(stderr(&output).contains("cannot be both"));
    assert_eq!(fs::read(&file).expect("a file"), b"content");
}

#[test]
fn symbolic_links_are_skipped_with_a_message() {
    let directory = support::temp_dir();
    let (root, out) = (
        directory.path().join("d"),
        directory.path().join("x.torrent"),
    );
    put(&root.join("f"), b"content");
    symlink("f", root.join("link")).expect("a link");
    symlink("/", root.join("out")).expect("a link");
    let output = create(&root, &out, &[]);
    assert!(stderr(&output).contains("symbolic links skipped: 2"));
    assert_eq!(paths(&show(&out)), ["d/f"]);
}

#[test]
fn a_non_utf8_name_is_refused_by_name() {
    let directory = support::temp_dir();
    let (root, out) = (
        directory.path().join("d"),
        directory.path().join("x.torrent"),
    );
    put(&root.join(OsStr::from_bytes(b"bad\xffname")), b"content");
    let output = expect(4, &[Path::new("create"), &root, Path::new("-o"), &out]);
    assert!(
        stderr(&output).contains("bad\\xFFname"),
        "{}",
        stderr(&output)
    );
    assert!(!out.exists());
}

#[test]
fn all_options_appear_in_the_torrent() {
    let directory = support::temp_dir();
    let (file, out) = (
        directory.path().join("f"),
        directory.path().join("x.torrent"),
    );
    put(&file, b"content");
    let args = [
        "--tracker",
        "http://a,http://b",
        "--tracker",
        "udp://c",
        "--comment",
        "ü",
        "--source",
        "s",
    ];
    let mut command = torrent();
    command
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .arg("create")
        .arg(&file)
        .arg("-o")
        .arg(&out);
    let made = command
        .args(args)
        .args(["--private", "--piece-length", "1M"])
        .output()
        .expect("the program starts");
    assert!(made.status.success());
    let shown = show(&out);
    assert_eq!(
        shown["trackers"],
        serde_json::json!([["http://a", "http://b"], ["udp://c"]])
    );
    assert_eq!(
        (&shown["comment"], &shown["source"]),
        (&"ü".into(), &"s".into())
    );
    assert_eq!(
        (&shown["private"], &shown["piece_bytes"]),
        (&true.into(), &(1 << 20).into())
    );
    assert_eq!(shown["creation_date"], 1_000_000_000);
    let text = stdout(&expect(0, &[Path::new("show"), &out]));
    assert!(text.contains("2001-09-09 01:46:40 UTC"), "{text}");
}

#[test]
fn the_chosen_piece_length_is_reported() {
    let directory = support::temp_dir();
    let (file, out) = (
        directory.path().join("f"),
        directory.path().join("x.torrent"),
    );
    put(&file, b"content");
    assert!(
        stderr(&create(&file, &out, &[]))
            .contains("piece length 16.00 KiB, the shortest supported one")
    );
    assert_eq!(
        stderr(&create(&file, &out, &["--piece-length", "16K", "--force"])),
        ""
    );
}

#[test]
fn invalid_usage_exits_with_2_and_empty_content_with_4() {
    let directory = support::temp_dir();
    let out = directory.path().join("x.torrent");
    expect(2, &[Path::new("create"), directory.path()]);
    expect(
        2,
        &["create", "x", "-o", "y", "--piece-length", "5"].map(Path::new),
    );
    expect(2, &["verify"].map(Path::new));
    expect(
        4,
        &[Path::new("create"), directory.path(), Path::new("-o"), &out],
    );
    expect(
        4,
        &[
            Path::new("create"),
            &directory.path().join("missing"),
            Path::new("-o"),
            &out,
        ],
    );
    expect(
        4,
        &[
            Path::new("create"),
            directory.path(),
            Path::new("-o"),
            &directory.path().join("no/where"),
        ],
    );
    expect(4, &[Path::new("show"), &directory.path().join("missing")]);
    assert!(!out.exists());
}

#[test]
fn hashing_in_place_gives_the_same_torrent_and_report() {
    let directory = support::temp_dir();
    let content = directory.path().join("d");
    for i in 1..=5 {
        put(
            &content.join(format!("{i}")),
            &noise(i, 100_000 + i as usize),
        );
    }
    let torrents = [("copied", &[][..]), ("in-place", &["--in-place"][..])].map(|(name, more)| {
        let out = directory.path().join(name);
        let more = [&["--no-creation-date", "--piece-length", "16K"], more].concat();
        create(&content, &out, &more);
        out
    });
    let bytes = torrents.each_ref().map(|out| fs::read(out).unwrap());
    assert_eq!(bytes[0], bytes[1]);
    verify(0, &torrents[0], directory.path(), &["--in-place"]);
    let mut damaged = noise(3, 100_003);
    damaged[50_000] ^= 1;
    put(&content.join("3"), &damaged);
    let report = verify(1, &torrents[0], directory.path(), &["--in-place"]);
    assert_eq!(report["files"][2]["status"], "corrupt");
}
