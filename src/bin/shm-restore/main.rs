//! `shm-restore`: runs a command on memory whose state outlives it.
//!
//! The main thread waits for messages: signals, the end of the command. A second one takes snapshots. Two more turn signals,
//! and the end of the command, into messages, and one writes what is told. Nobody but the main thread starts or waits for processes.

#[path = "../common/bytes.rs"]
mod bytes;
mod child;
mod cli;
mod crash;
mod events;
mod failure;
mod gate;
mod history;
mod keeper;
mod last;
mod marks;
mod memory;
mod messages;
mod once;
mod program;
#[path = "../common/progress.rs"]
mod progress;
mod restoring;
mod run;
mod settle;
mod snapshots;
mod standing;
mod statistics;
mod store_place;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;
use failure::exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) => {
            let _best_effort = asked.print();
            return ExitCode::from(if asked.use_stderr() { exit::FAILED } else { 0 });
        }
    };
    let outcome = match cli.check() {
        Err(wrong) => Err(anyhow::Error::msg(wrong).into()),
        Ok(()) if cli.once => once::run(&cli),
        Ok(()) => run::run(&cli),
    };
    let code = outcome.unwrap_or_else(|failure| {
        events::say(&format!("{:#}", failure.error));
        failure.code
    });
    events::flush();
    ExitCode::from(code)
}
