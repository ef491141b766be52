//! Torrents that must be refused: by verify, with exit code 3 and a message that names the field.

use std::path::Path;

use crate::bencode_writer::Node;
use crate::metainfo::Metainfo;
use crate::program::{expect, put, stderr, stdout};
use crate::support;

/// A multi-file torrent of two files of 3 bytes, with some keys of `info` replaced or, by `None`,
/// removed.
fn info(changes: Vec<(&str, Option<Node>)>) -> Node {
    let defaults = [
        (
            "files",
            Some(Node::List(vec![file(&["a"], 3), file(&["b", "c"], 3)])),
        ),
        ("name", Some(Node::text("n"))),
        ("piece length", Some(Node::Int(16_384))),
        ("pieces", Some(Node::Bytes(vec![0; 20]))),
    ];
    let mut entries: std::collections::BTreeMap<_, _> = defaults.into_iter().collect();
    entries.extend(changes);
    Node::dict([(
        "info",
        Node::dict(
            entries
                .into_iter()
                .filter_map(|(key, node)| Some((key, node?))),
        ),
    )])
}

fn file(path: &[&str], bytes: i64) -> Node {
    let path = Node::List(path.iter().map(|component| Node::text(component)).collect());
    Node::dict([("length", Node::Int(bytes)), ("path", path)])
}

fn files(files: Vec<Node>) -> Node {
    info(vec![("files", Some(Node::List(files)))])
}

/// Torrents and the expected text of their refusal.
fn hostile() -> Vec<(Node, &'static str)> {
    let two = |path: &[&str], bytes| files(vec![file(&["a"], 3), file(path, bytes)]);
    let set = |key, node| info(vec![(key, Some(node))]);
    vec![
        (
            Node::List(vec![]),
            "torrent (byte 0): is a list instead of a dictionary",
        ),
        (Node::dict([]), "info (byte 0): is missing"),
        (
            Node::dict([("info", Node::Int(1))]),
            "info (byte 7): is an integer instead of a dictionary",
        ),
        (
            two(&[], 3),
            "info.files[1].path (byte 58): is an empty path",
        ),
        (
            two(&[""], 3),
            "info.files[1].path[0] (byte 59): is not a valid file name: \"\"",
        ),
        (two(&["x", "."], 3), "info.files[1].path[1]"),
        (
            two(&["..", "etc", "passwd"], 3),
            "info.files[1].path[0] (byte 59): is not a valid file name: \"..\"",
        ),
        (
            two(&["/etc/passwd"], 3),
            "not a valid file name: \"/etc/passwd\"",
        ),
        (two(&["x/../../y"], 3), "info.files[1].path[0]"),
        (two(&["nul\0"], 3), "not a valid file name: \"nul\\u{0}\""),
        (two(&[&"/".repeat(10_000)], 3), "////\"..."),
        (
            two(&["b"], -1),
            "info.files[1].length (byte 49): is negative: -1",
        ),
        (
            two(&["b"], i64::MAX),
            "info.files[1].length (byte 49): makes the sum of all lengths exceed",
        ),
        (
            two(&["a"], 3),
            "info.files[1].path (byte 40): names the same file as info.files[0]",
        ),
        (
            two(&["a", "b"], 3),
            "info.files[0].path (byte 16): is a file, but a directory in the path of info.files[1]",
        ),
        (files(vec![]), "info.files (byte 15): has no files"),
        (
            files(vec![Node::Int(3)]),
            "info.files[0] (byte 16): is an integer instead of a dictionary",
        ),
        (
            set("files", Node::text("x")),
            "info.files (byte 15): is a string instead of a list",
        ),
        (
            info(vec![("files", None)]),
            "info.length (byte 7): is missing",
        ),
        (
            info(vec![("files", None), ("length", Some(Node::Int(-5)))]),
            "info.length (byte 16): is negative: -5",
        ),
        (info(vec![("name", None)]), "info.name (byte 7): is missing"),
        (
            set("name", Node::text("..")),
            "info.name (byte 74): is not a valid file name",
        ),
        (
            set("name", Node::text("a/b")),
            "info.name (byte 74): is not a valid file name",
        ),
        (
            set("name", Node::text("")),
            "info.name (byte 74): is not a valid file name",
        ),
        (
            set("name", Node::Int(1)),
            "info.name (byte 74): is an integer instead of a string",
        ),
        (
            set("piece length", Node::Int(0)),
            "info.piece length (byte 92): is 0, which is not a valid piece length",
        ),
        (
            set("piece length", Node::Int(1 << 40)),
            "info.piece length (byte 92): is 1099511627776",
        ),
        (
            info(vec![("piece length", None)]),
            "info.piece length (byte 7): is missing",
        ),
        (
            set("pieces", Node::Bytes(vec![0; 21])),
            "info.pieces (byte 107): has 21 bytes, which is not a multiple of 20",
        ),
        (
            set("pieces", Node::Bytes(vec![0; 40])),
            "info.pieces (byte 107): has 2 pieces, but 6 bytes need 1",
        ),
        (
            set("pieces", Node::Bytes(vec![])),
            "info.pieces (byte 107): has 0 pieces",
        ),
        (
            info(vec![("pieces", None)]),
            "info.pieces (byte 7): is missing",
        ),
        (
            info(vec![("pieces", None), ("meta version", Some(Node::Int(2)))]),
            "is of version 2 only",
        ),
    ]
}

#[test]
fn the_unmodified_torrent_is_accepted() {
    Metainfo::parse(&info(vec![]).encode()).expect("a torrent");
}

#[test]
fn hostile_torrents_are_refused_naming_the_field() {
    for (torrent, message) in hostile() {
        let refused = Metainfo::parse(&torrent.encode())
            .expect_err(message)
            .to_string();
        assert!(
            refused.contains(message),
            "{refused:?} does not contain {message:?}"
        );
        assert!(refused.len() < 300, "{refused}");
    }
}

#[test]
fn verify_refuses_hostile_torrents_with_exit_code_3_and_show_prints_the_reason() {
    let directory = support::temp_dir();
    let path = directory.path().join("x.torrent");
    for (torrent, message) in hostile() {
        put(&path, &torrent.encode());
        let said = stderr(&expect(3, &[Path::new("verify"), &path]));
        assert!(
            said.contains(message),
            "{said:?} does not contain {message:?}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        // Without a dictionary `info`, nothing can be shown.
        if message.starts_with("torrent (") || message.starts_with("info (") {
            let said = stderr(&expect(3, &[Path::new("show"), &path]));
            assert!(said.contains(message), "{said}");
        } else {
            let shown = stdout(&expect(0, &[Path::new("show"), &path]));
            assert!(shown.contains(message), "{shown}");
        }
    }
}

#[test]
fn bytes_that_are_not_bencode_are_refused_by_show_too() {
    let directory = support::temp_dir();
    let path = directory.path().join("x.torrent");
    put(&path, b"d4:info");
    for command in ["verify", "show"] {
        let said = stderr(&expect(3, &[Path::new(command), &path]));
        let message = "not bencode: byte 7: unexpected end of input";
        assert!(said.contains(message), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_torrent_above_64_mib_is_refused_with_exit_code_3() {
    let directory = support::temp_dir();
    let path = directory.path().join("x.torrent");
    std::fs::File::create(&path)
        .and_then(|file| file.set_len(1 << 40))
        .expect("a sparse file");
    let said = stderr(&expect(3, &[Path::new("show"), &path]));
    assert!(said.contains("more than the accepted 67108864"), "{said}");
}
