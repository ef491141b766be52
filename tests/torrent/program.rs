//! The built example and what the tests run it on.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::Value;

/// The program, ready for arguments.
pub(crate) fn torrent() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(PROGRAM.get_or_init(find_or_build));
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Runs the program on arguments and expects an exit code.
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

/// `create` of `content` with more arguments; it must work.
pub(crate) fn create(content: &Path, out: &Path, more: &[&str]) -> Output {
    let mut args = vec![Path::new("create"), content, Path::new("--out"), out];
    args.extend(more.iter().map(Path::new));
    expect(0, &args)
}

/// `verify --json` of one torrent with the expected exit code.
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

/// Bytes without a pattern, but the same for the same seed.
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

/// Writes a file and the folders on its path.
pub(crate) fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file in a folder")).expect("folders");
    fs::write(path, content).expect("a file");
}

/// `cargo test` builds examples, `cargo test --test torrent` does not: then an old program would be tested.
fn find_or_build() -> PathBuf {
    let this = env::current_exe().expect("the path of the tests");
    let profile = this
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/NAME");
    let program = profile.join("examples/torrent");
    if !is_fresh(&program) {
        let name = profile.file_name().and_then(|name| name.to_str());
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", "torrent", "--profile"])
            .arg(if name == Some("release") {
                "release"
            } else {
                "test"
            })
            .arg("--target-dir")
            .arg(profile.parent().expect("target"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(
            status.expect("cargo starts").success(),
            "the example does not build"
        );
    }
    assert!(program.exists(), "{} is not there", program.display());
    program
}

/// Whether the program is newer than everything in its dep-info.
fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| {
        path.metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let Ok(sources) = fs::read_to_string(program.with_extension("d")) else {
        return false;
    };
    let sources = sources.split_whitespace().skip(1);
    let newest = sources
        .map(|source| modified(Path::new(source)).unwrap_or_else(SystemTime::now))
        .max();
    modified(program) >= newest
}
