//! `flatspan`: looks at stores, verifies them, and takes their bytes out and in.
//!
//! Everything but `import` reads only, and works while a writer has the store open.

#[path = "../common/bytes.rs"]
mod bytes;
mod cancel;
mod cli;
mod diff;
mod doctor;
mod doctor_disk;
mod doctor_system;
mod export;
mod history;
mod import;
mod info;
mod log;
mod out_file;
mod output;
#[path = "../common/progress.rs"]
mod progress;
mod text;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

/// Exit codes; of several stores the greatest counts. Usage errors (2) are clap's.
pub(crate) mod exit {
    pub(crate) const OK: u8 = 0;
    /// Damage, or a difference.
    pub(crate) const FOUND: u8 = 1;
    pub(crate) const FAILED: u8 = 3;
    pub(crate) const INTERRUPTED: u8 = 130;
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Info(args) => info::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Log(args) => log::run(&args),
        Command::History(args) => history::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        // Whoever closed the pipe knows why the output ends.
        if !output::is_broken_pipe(&error) {
            eprintln!("flatspan: {error:#}");
        }
        output::exit_code(&error)
    }))
}
