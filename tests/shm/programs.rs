//! The programs.

use std::path::Path;
use std::process::{Command, Output};

use crate::left::Left;
use crate::support::example::example;

pub(crate) fn shm_fd() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_shm-fd"))
}

pub(crate) fn primes() -> std::path::PathBuf {
    example("primes")
}

/// A command without the variables and descriptors of whoever runs the tests.
pub(crate) fn clean(program: impl AsRef<Path>) -> Command {
    Left::default().command(program)
}

/// Runs it, expects an exit code, and gives what it said on both outputs.
#[track_caller]
pub(crate) fn expect(code: i32, command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
    said
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
