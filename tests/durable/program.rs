//! The built example.

use std::process::{Command, Output};

use crate::support::example;

/// The program, ready for arguments.
pub(crate) fn durable() -> Command {
    Command::new(example::example("durable"))
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
