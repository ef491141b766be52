//! Temporary folders with a name by which leftovers are found.

use tempfile::TempDir;

/// How every temporary folder, mount and control group of the tests begins.
pub(crate) const PREFIX: &str = "flatspan-test-";

/// A new folder below `TMPDIR`, removed on drop.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir()
        .expect("a temporary folder")
}
