//! `shm-fd`: runs a command with a memfd.
//!
//! The process becomes the command by execve(2). No parent remains that would have to wait for it
//! or forward signals.

mod cli;
#[path = "../common/exit_code.rs"]
mod exit_code;
#[path = "../common/failure.rs"]
mod failure;
mod memfd;
#[path = "../common/parse_size.rs"]
mod parse_size;
#[path = "../common/received_memfd.rs"]
mod received_memfd;

use std::process::{Command, ExitCode};

use clap::Parser as _;
use flatspan::shm::{ListenFds, ShmError};

use cli::Cli;
use failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(if error.use_stderr() {
                exit_code::WRAPPER_FAILED
            } else {
                exit_code::OK
            });
        }
    };
    let failure = Failure::from(run(&cli).unwrap_or_else(|error| error));
    eprintln!("shm-fd: {:#}", failure.error);
    ExitCode::from(failure.code)
}

/// Returns only if the command could not be executed; both variants are that error.
fn run(cli: &Cli) -> Result<ShmError, ShmError> {
    // Receive first: a descriptor opened before could occupy the number of a received one.
    let received = ListenFds::from_env()?;
    let placed = memfd::gather(cli, received)?.place_fds()?;
    let mut command = Command::new(&cli.command[0]);
    Ok(placed.exec(command.args(&cli.command[1..])))
}
