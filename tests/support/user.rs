//! Tests as an ordinary user: root passes every permission check.

use std::{
    env, fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    process::Command,
    time::Duration,
};

use super::{child, skips, temp_dir};

const NOBODY: u32 = 65534;

/// Returns whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// As root, runs the tests of this target whose names contain `filter` again as an ordinary user.
///
/// That user gets a temporary directory of its own. Without root the tests already run as an
/// ordinary user.
///
/// # Panics
///
/// Panics if a test fails, or none matches.
#[track_caller]
pub(crate) fn as_ordinary_user(filter: &str) {
    if !is_root() {
        return;
    }
    let directory = temp_dir();
    let temporary = directory.path().join("tmp");
    let binary = directory.path().join("tests");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::create_dir(&temporary).expect("mkdir");
    chown(&temporary, Some(NOBODY), Some(NOBODY)).expect("chown");
    // The build directory may not be accessible to other users.
    fs::copy(env::current_exe().expect("this binary"), &binary).expect("copy");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("chmod");

    let mut command = Command::new(&binary);
    command
        .arg(filter)
        .env("TMPDIR", &temporary)
        .env("HOME", &temporary)
        .env_remove(child::NAME_VARIABLE)
        .env(skips::LIST_VARIABLE, skips::list_path())
        .current_dir(&temporary)
        .gid(NOBODY)
        // std drops the supplementary groups as well when it changes the user.
        .uid(NOBODY);
    let finished = child::finish(command, Duration::from_secs(300));
    skips::record_from(&finished.stderr);
    assert!(finished.status.success(), "as uid {NOBODY}: {finished}");
    assert!(
        finished.tests_passed() > 0,
        "no test matches {filter:?}: {finished}"
    );
}
