//! Ctrl-C: a partial report or no output file, and exit code 130.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::bencode_writer::Node;
use crate::program::{json, stderr, torrent};
use crate::support;
use crate::support::interrupt::interrupt;
use crate::support::need::{Need, skip};

const PIECE_BYTES: u64 = 64 << 20;
const PIECES: u64 = 4096;

/// A file of 256 GiB with a byte in each piece, so that no piece is one hole: at least a minute of
/// work.
fn long_file(path: &Path) -> bool {
    let made = File::create(path).and_then(|file| {
        file.set_len(PIECES * PIECE_BYTES)?;
        (0..PIECES).try_for_each(|piece| file.write_all_at(b"x", piece * PIECE_BYTES))
    });
    if made.is_err() {
        skip(
            Need::Tools,
            "a sparse file of 256 GiB is not supported here",
        );
    }
    made.is_ok()
}

#[test]
fn an_interrupted_verification_reports_partial_results() {
    let directory = support::temp_dir();
    if !long_file(&directory.path().join("long")) {
        return;
    }
    let digests = vec![0; usize::try_from(PIECES * 20).expect("the number is small")];
    let info = Node::dict([
        (
            "length",
            Node::Int(i64::try_from(PIECES * PIECE_BYTES).expect("256 GiB")),
        ),
        ("name", Node::text("long")),
        (
            "piece length",
            Node::Int(i64::try_from(PIECE_BYTES).expect("64 MiB")),
        ),
        ("pieces", Node::Bytes(digests)),
    ]);
    let path = directory.path().join("x.torrent");
    fs::write(&path, Node::dict([("info", info)]).encode()).expect("a torrent");
    let mut command = torrent();
    command
        .args(["verify", "--json", "--root"])
        .arg(directory.path())
        .arg(&path);

    let output = interrupt(command);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(
        (&report["complete"], &report["ok"]),
        (&false.into(), &false.into())
    );
    assert!(report["pieces"]["unchecked"].as_u64() > Some(0), "{report}");
    assert_eq!(report["pieces"]["total"], PIECES);
}

#[test]
fn an_interrupted_creation_leaves_no_file() {
    let directory = support::temp_dir();
    let long = directory.path().join("long");
    if !long_file(&long) {
        return;
    }
    let mut command = torrent();
    command
        .args(["create", "--piece-length", "64M", "-o"])
        .arg(directory.path().join("x.torrent"))
        .arg(&long);

    let output = interrupt(command);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted; no torrent was written"));
    assert_eq!(
        fs::read_dir(directory.path())
            .expect("the directory")
            .count(),
        1,
        "a temporary file is left"
    );
}
