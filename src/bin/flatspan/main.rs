//! `flatspan`: inspects, verifies, exports, imports and rolls back stores.
//!
//! All commands but `import` and `rollback` only read; they work while a writer has the store open.

mod atomic_output;
mod cli;
mod content_length;
mod diff;
mod doctor;
mod doctor_filesystem;
mod doctor_kernel;
#[path = "../common/exit_code.rs"]
mod exit_code;
mod export;
mod finding;
mod format;
mod generate;
mod history;
mod import;
mod info;
mod journal;
mod output;
#[path = "../common/parse_size.rs"]
mod parse_size;
#[path = "../common/progress.rs"]
mod progress;
mod rollback;
#[path = "../shm-fd/cli.rs"]
mod shm_fd_cli;
#[path = "../shm-restore/cli.rs"]
#[expect(
    dead_code,
    reason = "only the command line is used; its checks are of shm-restore"
)]
mod shm_restore_cli;
mod signals;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Info(args) => info::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Journal(args) => journal::run(&args),
        Command::History(args) => history::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Man(args) => generate::man(&args),
        Command::Completions(args) => generate::completions(&args),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        // A closed pipe needs no message: the process that closed it wanted no more output.
        if !output::is_broken_pipe(&error) {
            eprintln!("flatspan: {error:#}");
        }
        output::exit_code(&error)
    }))
}
