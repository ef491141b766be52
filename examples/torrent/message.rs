//! Messages on standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Prints a line. A closed pipe or a full disk behind standard error does not stop the program.
pub(crate) fn print(text: impl Display) {
    let line = format!("torrent: {text}\n");
    drop(io::stderr().lock().write_all(line.as_bytes()));
}
