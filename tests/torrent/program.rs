//! The built example and test data for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::example;

/// The program, ready for arguments.
pub(crate) fn torrent() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(PROGRAM.get_or_init(|| example::find_or_build("torrent")));
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Runs the program with arguments and expects an exit code.
pub(crate) fn expect(code: i32, args: &[&Path]) -> Output {
    let output = torrent().args(args).output().expect("the program starts");
    let streams = || (stdout(&output), stderr(&output));
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {:?}",
        streams()
    );
    output
}

/// Runs `create` of `content` with further arguments, which must succeed.
pub(crate) fn create(content: &Path, out: &Path, more: &[&str]) -> Output {
    let mut args = vec![Path::new("create"), content, Path::new("--out"), out];
    args.extend(more.iter().map(Path::new));
    expect(0, &args)
}

/// Runs `verify --json` of one torrent with the expected exit code.
pub(crate) fn verify(code: i32, torrent: &Path, root: &Path, more: &[&str]) -> Value {
    let mut args = vec![
        Path::new("verify"),
        Path::new("--json"),
        torrent,
        Path::new("--root"),
        root,
    ];
    args.extend(more.iter().map(Path::new));
    json(&expect(code, &args))
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object on standard output")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8 on standard output")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8 on standard error")
}

/// Bytes without a pattern, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..bytes).map(|_| next()).collect()
}

/// Writes a file and the directories on its path.
pub(crate) fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file in a directory")).expect("directories");
    fs::write(path, content).expect("a file");
}
