//! An example, built.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// As [`find_or_build`], once for all tests of this process.
pub(crate) fn example(name: &'static str) -> PathBuf {
    static FOUND: Mutex<Option<HashMap<&str, PathBuf>>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let known = found.get_or_insert_default();
    known
        .entry(name)
        .or_insert_with(|| find_or_build(name))
        .clone()
}

/// The program. `cargo test` builds examples, `cargo test --test NAME` does not: then an old program would be tested, so it
/// is built here.
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
