//! `durable`: memory that outlives its process.
//!
//! - `count` counts in the memory of a [`flatspan::snapshot::Store`] and continues at the stored
//!   number after any end of the process.
//! - `crash-test` kills a process that works on a store, at random moments and in every phase of
//!   writing, and checks after each kill that the store lost nothing.
//!
//! ```text
//!   crash-test (parent)                     child, killed by SIGKILL and started again
//!   plans the next kill ---- arguments ---> opens the store, compares its memory with the model
//!   checks, counts <---- lines on a pipe -- "found 41 ..", "begin 42", "done 42 ..", ..
//!   reads after the kill <---- file ------- the phase of writing, noted at each backend call
//! ```

mod child;
mod cli;
mod count;
mod crash_test;
mod fault;
mod line;
mod model;
mod phase;
mod phases;
mod plan;
mod random;
mod recording_backend;
mod report;
mod tally;
mod victim;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use clap::Parser as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use cli::{Cli, Command};

/// Exit codes. clap uses 2 for usage errors.
pub(crate) mod exit {
    pub(crate) const OK: u8 = 0;
    pub(crate) const PROBLEMS: u8 = 1;
    pub(crate) const FAILED: u8 = 4;
    pub(crate) const INTERRUPTED: u8 = 130;
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Count(args) => count::run(&args),
        Command::CrashTest(args) => crash_test::run(&args),
        Command::Child(args) => child::run(&args),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        eprintln!("durable: {error:#}");
        exit::FAILED
    }))
}

/// Sets a flag at the first signal; the second signal ends the process.
pub(crate) fn cancel_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, exit::INTERRUPTED.into(), Arc::clone(&cancel))
            .and_then(|_| flag::register(signal, Arc::clone(&cancel)))
            .context("cannot handle signals")?;
    }
    Ok(cancel)
}
