//! `shm-fd`: runs a command with a descriptor of shared memory.
//!
//! It becomes the command, so nothing of it is left to wait, forward signals, or fail.

#[path = "../common/bytes.rs"]
mod bytes;
mod cli;
mod memory;

use std::io;
use std::process::{Command, ExitCode};

use clap::Parser as _;
use flatspan::shm::{ListenFds, ShmError};

use cli::Cli;

/// Exit codes, as env(1) and timeout(1) have them.
mod exit {
    pub(crate) const FAILED: u8 = 125;
    pub(crate) const NOT_EXECUTABLE: u8 = 126;
    pub(crate) const NOT_FOUND: u8 = 127;
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) => {
            let _best_effort = asked.print();
            return ExitCode::from(if asked.use_stderr() { exit::FAILED } else { 0 });
        }
    };
    let error = run(&cli).unwrap_or_else(|error| error);
    let code = exit_code(&error);
    eprintln!("shm-fd: {:#}", anyhow::Error::from(error));
    ExitCode::from(code)
}

/// Comes back only with an error, of one kind or the other.
fn run(cli: &Cli) -> Result<ShmError, ShmError> {
    // First of all, as descriptors that are opened before might get the numbers of those that were left.
    let received = ListenFds::from_env()?;
    let placed = memory::gather(cli, received)?.place()?;
    let mut command = Command::new(&cli.command[0]);
    Ok(placed.exec(command.args(&cli.command[1..])))
}

fn exit_code(error: &ShmError) -> u8 {
    match error {
        ShmError::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            exit::NOT_FOUND
        }
        ShmError::Command { .. } => exit::NOT_EXECUTABLE,
        _ => exit::FAILED,
    }
}
