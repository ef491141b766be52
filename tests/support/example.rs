//! Path of a built example.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

/// Returns the path of the program. `cargo test` builds examples, but `cargo test --test NAME` does
/// not, so this function rebuilds an outdated program.
pub(crate) fn find_or_build(example: &str) -> PathBuf {
    let this = env::current_exe().expect("the path of the tests");
    let profile = this
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/NAME");
    let program = profile.join("examples").join(example);
    if !is_fresh(&program) {
        let name = profile.file_name().and_then(|name| name.to_str());
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", example, "--profile"])
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
    assert!(program.exists(), "{} does not exist", program.display());
    program
}

/// Returns whether the program is newer than every file in its dep-info.
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
