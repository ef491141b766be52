//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use flatspan::shm::SHARED_FD_NAME;

use crate::exit_code::{self, Program};
use crate::parse_size::parse_size;

const AFTER_HELP: &str = "\
Modes:
  exit    one snapshot, after COMMAND has exited
  freeze  also every --interval, with COMMAND and its descendants stopped by ptrace(2)
  queue   every --interval, of the updates that COMMAND commits by flatspan::shm::queue

After a crash (COMMAND, or a process a shell waited for, was killed by a signal):
  rollback  save the memory as STORE/crash-TIME; the next start restores the last snapshot
  discard   as rollback, without saving the memory
  accept    the memory becomes the newest state

Signals: USR1 prints statistics. TERM, INT, HUP, QUIT, USR2, WINCH and CONT are forwarded.

Examples:
  shm-restore /var/lib/counter ./counter
  shm-restore --mode freeze --interval 0.5 --keep-last 24 /var/lib/counter ./counter
  shm-restore --once /var/lib/counter          from the service manager's copy of the memfd

JSON events, memory of killed programs, and terminals: docs/cli.md
";

/// Run a command with a memfd whose content survives in a store on disk.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "shm-restore",
    version,
    after_help = format!("{AFTER_HELP}\n{}", exit_code::help(Program::Wrapper))
)]
pub(crate) struct Cli {
    /// When to take snapshots.
    #[arg(long, value_enum, default_value_t = Mode::Exit)]
    pub(crate) mode: Mode,
    /// Time between two snapshots in seconds, at least 0.01.
    #[arg(long, value_name = "SECONDS", value_parser = parse_interval, default_value = "1")]
    pub(crate) interval: Duration,
    /// Length of the store's part files, a multiple of 64K (units K, M, G); converts an existing
    /// store.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) part_size: Option<u64>,
    /// Keep the last N snapshots in STORE/history and remove older ones [default: change nothing].
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<usize>,
    /// Action on the memory after a crash [default: rollback].
    #[arg(long, value_enum, value_name = "ACTION")]
    pub(crate) on_crash: Option<OnCrash>,
    /// Take one snapshot of the restored memfd that was passed, run no command, and exit.
    #[arg(long, conflicts_with_all = ["command", "on_crash"])]
    pub(crate) once: bool,
    /// Print events on standard error as JSON, one object per line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Name of the descriptor in `LISTEN_FDNAMES`.
    #[arg(long, value_name = "FD_NAME", default_value = SHARED_FD_NAME)]
    pub(crate) fd_name: String,
    /// Directory of the store, created if missing.
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Command to run, with its arguments.
    #[arg(
        required_unless_present = "once",
        value_name = "COMMAND",
        trailing_var_arg = true
    )]
    pub(crate) command: Vec<OsString>,
}

// The variants have no doc comments: clap would print each option in several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Exit,
    Freeze,
    Queue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnCrash {
    Rollback,
    Discard,
    Accept,
}

impl Cli {
    /// Refuses combinations of options that clap cannot express.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.mode == Mode::Queue && self.on_crash.is_some() {
            return Err(
                "--on-crash needs --mode=exit or freeze; --mode=queue restores committed updates only"
                    .to_owned(),
            );
        }
        if self.mode == Mode::Freeze && self.once {
            return Err(
                "--once does not freeze programs; use --mode=queue, or --mode=exit if no program writes to the memory"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_not_a_number| format!("`{text}` is not a number of seconds"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if interval >= Duration::from_millis(10) => Ok(interval),
        Ok(_) => Err("the minimum is 0.01, below which snapshots occupy a processor".to_owned()),
        Err(_) => Err(format!("`{text}` is out of range")),
    }
}
