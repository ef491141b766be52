//! `shm-restore`: runs a command with a memfd whose content survives in a store.
//!
//! The main thread waits for messages: signals and the exit of the command. Two threads produce
//! these messages, one takes snapshots, one maintains the history, and one writes events. Only the
//! main thread starts processes and waits for them.

mod child;
mod cli;
mod crash_file;
mod events;
mod exec_barrier;
#[path = "../common/exit_code.rs"]
mod exit_code;
#[path = "../common/failure.rs"]
mod failure;
mod final_snapshot;
mod find_executable;
mod freeze_command;
mod history_thread;
mod host;
mod job_control;
mod main_loop;
mod memfd;
mod memory_state;
#[path = "../common/parse_size.rs"]
mod parse_size;
#[path = "../common/progress.rs"]
mod progress;
#[path = "../common/received_memfd.rs"]
mod received_memfd;
mod restore;
mod single_snapshot;
mod snapshot_thread;
mod startup_check;
mod statistics;
mod store_path;
mod supervise;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;

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
    let outcome = match cli.check() {
        Err(usage) => Err(anyhow::Error::msg(usage).into()),
        Ok(()) if cli.once => single_snapshot::run(&cli),
        Ok(()) => supervise::run(&cli),
    };
    let code = outcome.unwrap_or_else(|failure| {
        events::print(&format!("{:#}", failure.error));
        failure.code
    });
    events::flush();
    ExitCode::from(code)
}
