//! Context for errors of the system.

use std::io;
use std::path::Path;

/// Returns an error of the same kind that names the path and the operation.
pub(super) fn in_context(path: &Path, operation: &str, error: &io::Error) -> io::Error {
    let message = format!("{}: cannot {operation}: {error}", path.display());
    io::Error::new(error.kind(), message)
}
