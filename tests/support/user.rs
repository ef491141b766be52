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

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// As root: runs the tests of this target that match `filter` (a part of their names) again, as an
/// ordinary user with a temporary folder of its own. Otherwise they run as such anyway.
///
/// # Panics
///
/// When one fails, or none matches.
#[track_caller]
pub(crate) fn as_ordinary_user(filter: &str) {
    if !is_root() {
        return;
    }
    let folder = temp_dir();
    let temporary = folder.path().join("tmp");
    let binary = folder.path().join("tests");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::create_dir(&temporary).expect("mkdir");
    chown(&temporary, Some(NOBODY), Some(NOBODY)).expect("chown");
    // The folder of the build may be closed to others.
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
        // Giving up root, std drops the supplementary groups as well.
        .uid(NOBODY);
    let finished = child::finish(command, Duration::from_secs(300));
    skips::record_from(&finished.stderr);
    assert!(finished.status.success(), "as uid {NOBODY}: {finished}");
    assert!(
        finished.tests_passed() > 0,
        "no test matches {filter:?}: {finished}"
    );
}
