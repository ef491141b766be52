//! SIGINT: partial results and exit code 130.

use std::fs::{self, File};
use std::path::Path;

use flatspan::snapshot::{Store, StoreOptions};

use crate::damage::rewrite_metadata;
use crate::fixture::{program, stderr, stdout};
use crate::support;
use crate::support::interrupt::interrupt;
use crate::support::need::{Need, skip};

const PART: u64 = 8 << 40;

/// A store of zeros with parts of 8 TiB, each seconds of work. No region has that length, so an
/// empty store is changed on disk.
fn long_store(path: &Path, parts: u64) -> bool {
    let options = StoreOptions::default().part_bytes(PART);
    drop(Store::open(path, options).expect("a store"));
    let last = PART / 2;
    rewrite_metadata(path, "heap-a", |block| {
        let payload_bytes = (parts - 1) * PART + last - (64 << 10);
        block[72..80].copy_from_slice(&payload_bytes.to_le_bytes());
    });
    let made = (0..parts).try_for_each(|part| {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false);
        let file = file.open(path.join(format!("heap-a.{part:05}")))?;
        file.set_len(if part + 1 == parts { last } else { PART })
    });
    if made.is_err() {
        skip(Need::Tools, "no sparse files of 8 TiB here");
    }
    made.is_ok()
}

#[test]
fn an_interrupted_verification_reports_partial_results() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    if !long_store(&path, 8) {
        return;
    }
    let mut command = program();
    command.args(["verify", "--json"]).arg(&path);
    let output = interrupt(command);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(
        (&found["complete"], &found["ok"]),
        (&false.into(), &false.into()),
        "{found}"
    );
    assert!(found["verified_pages"].as_u64() > Some(0), "{found}");
    assert_eq!(
        found["problems"].as_array().map(Vec::len),
        Some(0),
        "{found}"
    );
}

#[test]
fn an_interrupted_export_leaves_no_file() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    // ext4 limits files to 16 TiB.
    if !long_store(&path, 2) {
        return;
    }
    let mut command = program();
    command.arg("export").args([&path, &dir.path().join("out")]);
    let output = interrupt(command);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted, nothing written"));
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1);
}
