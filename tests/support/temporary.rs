//! Temporary directories with a name that identifies leftovers.

use tempfile::TempDir;

/// Prefix of every temporary directory, mount and control group of the tests.
pub(crate) const PREFIX: &str = "flatspan-test-";

/// Creates a directory in `TMPDIR`, removed on drop.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir()
        .expect("a temporary directory")
}
