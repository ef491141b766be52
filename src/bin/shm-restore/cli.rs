//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use flatspan::shm::SHARED_FD_NAME;

use crate::bytes::parse_bytes;

const AFTER_HELP: &str = "\
COMMAND finds the memory as with shm-fd: by LISTEN_FDS and LISTEN_FDNAMES. A descriptor of that name that shm-restore itself was
given is used instead of a new one. The state is restored into it if, and only if, it has no seal against shrinking; then it
gets one. With that seal its content is live, and is kept.

A state has whole pages of 4096 bytes: a memory that ends within a page comes back with the rest of that page, zeros.

Snapshots
  exit   one, when COMMAND has ended. Nothing is lost as long as this program lives. Descendants that are
         left are stopped for the instant, as with stop
  stop   every --interval, and when COMMAND has ended. COMMAND and all its descendants are stopped for the instant, by
         ptrace, for as long as it takes to compare all of the memory with the last snapshot. It may be in the middle of a change: an
         instant is what a program finds that was killed then
  queue  every --interval, of what a program commits that uses flatspan::shm::queue, and when it has ended. It never waits.
         What it has not committed does not count. A memory that is used and has no queue in the end is an error

When a COMMAND that is kept by exit or stop was killed by a signal, nobody knows whether its memory is good (--on-crash). The same
when its exit code says, as a shell's does, that ILL, TRAP, ABRT, BUS, FPE, KILL, SEGV or SYS killed what it waited for (128 and the signal):
  rollback  the last snapshot stays the newest. The memory is saved as the file STORE/crash-TIME, and the next start with the
            same memory restores the snapshot into it
  discard   the same, and nothing is saved
  keep      the memory becomes the newest state
The same at the next start with the same memory if COMMAND is gone by then and its end was not seen, as this program was
killed too; until its end is seen the file STORE/memories names it. While it still runs, its memory is taken as it is.

With --keep N, snapshots are kept in STORE/kept, by the names NUMBER-GENERATION (`flatspan history STORE` lists them; to go back, see its
--help). Where the filesystem shares storage (xfs, btrfs) each costs next to nothing, elsewhere a copy of the state, beside
the snapshots that follow; of those that are taken meanwhile the newest is kept. Behind the last one, INT, TERM, HUP and QUIT end the copying.

COMMAND gets a process group of its own, and the terminal, if it is ours. When it is stopped there (Ctrl-Z) this program stops
too, and both go on together; elsewhere a stopped COMMAND is left alone. TERM, INT, HUP, QUIT, USR2, WINCH and CONT that this
program gets are passed on; a COMMAND that ignores them is waited for. USR1 prints statistics. Descendants that outlive
COMMAND are not waited for; those that still have the memory are named.

With --json, standard error has one object a line, each with `event`: restored, fell_back, started, snapshot, starved, failed,
recovered, forwarded, statistics, ended, crashed, not_marked, not_unmarked, remaining, no_queue, not_closed, dropped, last, kept,
not_kept. Lines that nobody reads in time are dropped.

Exit codes: those of COMMAND, 128 and the number of the signal that ended it, and
  125  the state could not be restored or kept (also if only the last snapshot failed), or wrong usage
  126  COMMAND cannot be executed
  127  COMMAND is not found";

/// Runs a command on memory whose state outlives it, in a store on disk
#[derive(Clone, Debug, Parser)]
#[command(name = "shm-restore", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// When the state is kept
    #[arg(long, value_enum, default_value_t = How::Exit)]
    pub(crate) snapshot: How,
    /// Time between snapshots in seconds, from 0.01 on
    #[arg(long, value_name = "SECONDS", value_parser = parse_interval, default_value = "1")]
    pub(crate) interval: Duration,
    /// Length of the files of the store, a multiple of 64K (units K, M, G); a store with others gets it
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) part_len: Option<u64>,
    /// Keep so many states, the newest included, as stores of their own in STORE/kept; remove older ones [default: leave them alone]
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,
    /// What becomes of the memory of a command that was killed by a signal [default: rollback]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) on_crash: Option<OnCrash>,
    /// Take one snapshot of the live memory that was handed over, run nothing, and end
    #[arg(long, conflicts_with_all = ["command", "on_crash"])]
    pub(crate) once: bool,
    /// Tell events on standard error as JSON, one a line
    #[arg(long)]
    pub(crate) json: bool,
    /// The name of the descriptor in `LISTEN_FDNAMES`
    #[arg(long, value_name = "FD_NAME", default_value = SHARED_FD_NAME)]
    pub(crate) fd_name: String,
    /// The directory of the store, made if it is not there
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// The command and its arguments
    #[arg(
        required_unless_present = "once",
        value_name = "COMMAND",
        trailing_var_arg = true
    )]
    pub(crate) command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
    /// When the command has ended
    Exit,
    /// Every interval, while the command is stopped for an instant
    Stop,
    /// Every interval, what the command has committed
    Queue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnCrash {
    /// The last snapshot stays the newest, the memory is saved aside
    Rollback,
    /// The last snapshot stays the newest
    Discard,
    /// The memory becomes the newest state
    Keep,
}

impl Cli {
    /// What goes together and what does not, beyond what clap knows.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.snapshot {
            How::Queue if self.on_crash.is_some() => Err(
                "--on-crash is for exit and stop: with queue nothing counts but what was committed"
                    .to_owned(),
            ),
            How::Stop if self.once => {
                Err("--once stops nobody: take it of a queue, or with exit of memory that nobody writes".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is no number of seconds"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if interval >= Duration::from_millis(10) => Ok(interval),
        Ok(_) => Err("less than 0.01 would keep a processor busy".to_owned()),
        Err(_) => Err(format!("`{text}` is no time between snapshots")),
    }
}
