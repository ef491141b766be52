//! The built example.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The program, ready for arguments.
pub(crate) fn durable() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PROGRAM.get_or_init(find_or_build))
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `cargo test` builds examples, `cargo test --test durable` does not: then an old program would be tested.
fn find_or_build() -> PathBuf {
    let this = env::current_exe().expect("the path of the tests");
    let profile = this
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/NAME");
    let program = profile.join("examples/durable");
    if !is_fresh(&program) {
        let name = profile.file_name().and_then(|name| name.to_str());
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", "durable", "--profile"])
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
