//! `durable`: memory that outlives its process, shown and shaken.
//!
//! `count` counts in the memory of a [`flatspan::snapshot::Store`] and goes on where it was, however it ended. `storm`
//! kills a process that works on a store, at random instants and in every phase of its writing, and looks each
//! time at what came back.
//!
//! ```text
//!   storm (parent)                          child, killed by SIGKILL and started again
//!   plans the next kill ---- arguments ---> opens the store, compares its memory with the model
//!   judges, counts <-- lines on a pipe ---- "found 41 ..", "begin 42", "done 42 ..", ..
//!   reads after the death <---- file ------ the phase of writing, noted at each call of its disk
//! ```

mod child;
mod cli;
mod count;
mod fault;
mod line;
mod model;
mod phase;
mod phases;
mod plan;
mod random;
mod recording_disk;
mod report;
mod storm;
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

/// Exit codes. Usage errors (2) are clap's.
pub(crate) mod exit {
    pub(crate) const OK: u8 = 0;
    pub(crate) const PROBLEMS: u8 = 1;
    pub(crate) const FAILED: u8 = 4;
    pub(crate) const INTERRUPTED: u8 = 130;
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Count(args) => count::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Child(args) => child::run(&args),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        eprintln!("durable: {error:#}");
        exit::FAILED
    }))
}

/// The first signal asks for an orderly end, the second one ends at once.
pub(crate) fn cancel_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, exit::INTERRUPTED.into(), Arc::clone(&cancel))
            .and_then(|_| flag::register(signal, Arc::clone(&cancel)))
            .context("cannot handle signals")?;
    }
    Ok(cancel)
}
