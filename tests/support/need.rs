//! Requirements of a test on the machine, and the visible skip if the machine lacks one.
//!
//! `FLATSPAN_REQUIRE` (a comma list of `loom`, `uffd`, `fuse`, `tools`, `long`) turns the skip into
//! a failure: continuous integration names all but `long`. Mounts, loop devices, control groups and
//! programs belong to `tools`.

use std::{
    env, fmt,
    fs::OpenOptions,
    os::unix::fs::PermissionsExt as _,
    panic::Location,
    path::{Path, PathBuf},
};

use super::{skips, user};

/// Requirement of a test that not every machine meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Model checking: built with `--cfg loom`.
    Loom,
    /// userfaultfd(2).
    Uffd,
    /// `/dev/fuse`, and the right to mount it.
    Fuse,
    /// A program, a mount, a loop device, a control group.
    Tools,
    /// Minutes of time and gigabytes of space: requested by `FLATSPAN_LONG=1`.
    Long,
}

/// Variable that requests long runs.
const LONG_VARIABLE: &str = "FLATSPAN_LONG";

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loom => "loom",
            Self::Uffd => "uffd",
            Self::Fuse => "fuse",
            Self::Tools => "tools",
            Self::Long => "long",
        })
    }
}

/// Returns whether the need is met; records a skip if not, and the caller returns.
///
/// `detail` is the name of the program for [`Need::Tools`] and the cost for [`Need::Long`]. Other
/// needs ignore it.
///
/// # Panics
///
/// Panics if `FLATSPAN_REQUIRE` names a need that is not met.
#[track_caller]
pub(crate) fn need(need: Need, detail: &str) -> bool {
    match missing(need, detail) {
        None => true,
        Some(why) => {
            skip(need, &why);
            false
        }
    }
}

/// Records that the running test is skipped.
///
/// # Panics
///
/// Panics if `FLATSPAN_REQUIRE` names the need.
#[track_caller]
pub(crate) fn skip(need: Need, why: &str) {
    assert!(
        !is_required(need),
        "FLATSPAN_REQUIRE names {need}, but {why}"
    );
    skips::record(&test_name(Location::caller()), &format!("{why} ({need})"));
}

/// Returns whether `FLATSPAN_REQUIRE` names the need.
pub(crate) fn is_required(need: Need) -> bool {
    env::var("FLATSPAN_REQUIRE").is_ok_and(|list| names(&list, need))
}

/// Returns whether a comma list names the need.
pub(crate) fn names(list: &str, need: Need) -> bool {
    list.split(',')
        .any(|name| name.trim().eq_ignore_ascii_case(&need.to_string()))
}

/// Returns the path of a program, searched on `PATH` and in the usual directories of administration
/// programs.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn missing(need: Need, detail: &str) -> Option<String> {
    match need {
        Need::Loom => (!cfg!(loom)).then(|| "not built with --cfg loom".to_owned()),
        // The sysctl table of the kernel shows CONFIG_USERFAULTFD without a further system call.
        Need::Uffd => (!Path::new("/proc/sys/vm/unprivileged_userfaultfd").exists())
            .then(|| "the kernel has no userfaultfd".to_owned()),
        Need::Fuse => missing_fuse(),
        Need::Tools => program(detail)
            .is_none()
            .then(|| format!("`{detail}` is not installed")),
        Need::Long => env::var_os(LONG_VARIABLE)
            .is_none_or(|asked| asked != "1")
            .then(|| format!("{LONG_VARIABLE}=1 requests it: {detail}")),
    }
}

fn missing_fuse() -> Option<String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse does not open: {error}"));
    }
    (!user::is_root() && program("fusermount3").is_none())
        .then(|| "neither root nor `fusermount3`".to_owned())
}

/// Returns the name of the running test. With `--test-threads=1`, libtest runs tests on the main
/// thread, so the source location is used.
fn test_name(place: &Location<'_>) -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => place.to_string(),
    }
}
