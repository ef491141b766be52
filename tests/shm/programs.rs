//! The programs under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::inherited_fds::Left;
use crate::support::example;

pub(crate) fn shm_fd() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_shm-fd"))
}

pub(crate) fn primes() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM
        .get_or_init(|| example::find_or_build("primes"))
        .clone()
}

/// A command without the variables and descriptors of the test run's environment.
pub(crate) fn clean(program: impl AsRef<Path>) -> Command {
    Left::default().command(program)
}

/// Runs the command, expects an exit code, and returns both outputs.
#[track_caller]
pub(crate) fn expect(code: i32, command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
    said
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
