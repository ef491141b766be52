//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::fault::FaultKind;
use crate::phase::Phase;

const EXIT_CODES: &str = "\
Exit codes:
    0  success, no problem found
    1  count: the store does not hold a count
       crash-test: a problem was found, or a phase of writing was not hit often enough
    2  wrong usage
    4  an I/O error or another failure
  130  crash-test: interrupted
       count: ended by a second signal before the store was closed";

const COUNT_HELP: &str = "\
Each step is a transaction on 16 words: the counter and a ring of its last 15 values. Ctrl-C closes
the store cleanly. After kill -9 the next run continues at the last printed number or a later one.";

const CRASH_TEST_HELP: &str = "\
A child runs random transactions over a few MiB, with checkpoints, resizes, discards, closing and
reopening. It reports on a pipe each transaction that begins and each acknowledgement. The parent
kills it by SIGKILL, and the next child checks the store:
  lost                  an acknowledged transaction is missing
  unexpected            the store holds a transaction that was never begun
  torn                  the memory differs from the result of all transactions up to the last one
  generation_regressed  the generation is lower than one that was durable
  fallback              the newer heap could not be used, which a kill must never cause
  open_failed           the store does not open
  child_exited          the child ended by itself
The first problem ends the test; the store is then kept if --dir was given. A kill counts for the
phase of writing that it hits:
  lock      from METADATA that marks the heap as incomplete until its sync has returned
  pages     from the first page or table block until METADATA that marks the heap as complete
  header    from METADATA that marks the heap as complete until its sync has returned; closing too
  rotation  a journal file is created, sealed or removed
  journal   records are written and synced
  restore   from the first access to the files until the store is open
  idle      none of these
The phases lock, pages, header, rotation and restore need 10 kills of 200 each.

kill -9 keeps the data in the page cache. So this test proves that the store survives the death of
its process at any moment, and NOT that it survives a power cut. Other tests cover power cuts: they
replay every crash of a backend that loses data that was not synced.

With --json, one object on standard output:
  seed, kills, seconds, transactions, checkpoints, reopened, replayed_records
  phases          a list of {phase, kills, needed}
  lost, unexpected, torn, generation_regressed, fallback, open_failed, child_exited
  fault           description of the first problem, or null
  open_us         {median, max} duration of opening the store again
  ok";

/// Memory that outlives its process: a counter, and a crash test.
#[derive(Debug, Parser)]
#[command(name = "durable", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Count in memory and continue where the last run ended.
    #[command(after_help = format!("{COUNT_HELP}\n\n{EXIT_CODES}"))]
    Count(CountArgs),
    /// Kill a writing process repeatedly and check what it stored.
    #[command(after_help = format!("{CRASH_TEST_HELP}\n\n{EXIT_CODES}"))]
    CrashTest(CrashTestArgs),
    /// Child process of `crash-test`; reports on standard output.
    #[command(hide = true)]
    Child(ChildArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CountArgs {
    /// Directory of the store; created if missing.
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Number of steps [default: until a signal].
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CrashTestArgs {
    /// Number of kills.
    #[arg(long, value_name = "N", default_value = "200")]
    pub(crate) kills: u64,
    /// Seed of transactions and planned kills; the timing still varies [default: random].
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Directory in which the store is created [default: a temporary directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// End after this many seconds, possibly with fewer kills.
    #[arg(long, value_name = "N")]
    pub(crate) max_seconds: Option<u64>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Inject a fault that the test must detect.
    #[arg(long, value_name = "FAULT", hide = true)]
    pub(crate) fault: Option<FaultKind>,
}

#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// Directory of the crash test.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) seed: u64,
    /// Number of this child; selects options and work.
    #[arg(long)]
    pub(crate) run: u64,
    /// The last transaction that was begun.
    #[arg(long)]
    pub(crate) begun: u64,
    /// Report a call of this phase.
    #[arg(long)]
    pub(crate) target: Option<Phase>,
    /// Number of the reported call in its phase.
    #[arg(long, default_value = "1")]
    pub(crate) call: u64,
    /// Delay before the reported call, in microseconds.
    #[arg(long, default_value = "0")]
    pub(crate) linger_micros: u64,
    /// Check the store, close it and exit.
    #[arg(long)]
    pub(crate) last: bool,
    #[arg(long)]
    pub(crate) fault: Option<FaultKind>,
}
