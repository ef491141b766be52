//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::fault::FaultKind;
use crate::phase::Phase;

const EXIT_CODES: &str = "\
Exit codes:
    0  done, and nothing is wrong
    1  count: the store holds something else than a count; storm: something was lost, torn or refused, or a phase
       of writing was not hit often enough
    2  wrong usage
    4  an I/O error or another failure
  130  storm: interrupted; count: ended by a second signal, before the store was closed";

const COUNT_HELP: &str = "\
Each step is a transaction on 16 words: the counter and a ring of its last 15 values. Ctrl-C closes the store in order;
kill -9 may come at any time: the next run continues at the last number that was printed, or behind it.";

const STORM_HELP: &str = "\
A child runs random transactions over a few MiB, with checkpoints, resizes, discards, closing and reopening, and
tells on a pipe what it begins and what was acknowledged. It is killed by SIGKILL, and the next one looks at what is there:
  lost      an acknowledged transaction is not there
  unbegun   a transaction is there that was never begun
  torn      the memory is not what the transactions up to the last one make of it
  backward  the generation is lower than one that was durable
  fallback  the newer heap could not be used: a kill must never cause that
  refused   the store does not open
  ended     the child ended by itself
The first of these ends the storm; the store is kept then, if --dir was given. Kills count by the phase of writing in which
they hit:
  lock      from METADATA with the lock taken until its sync has returned
  pages     from the first page or table block until the METADATA that releases the lock
  header    METADATA released, until its sync has returned; closing too
  rotation  a journal file is made, sealed or removed
  journal   records are written and synced
  restore   from the first look at the disk until the store is open
  idle      none of these
lock, pages, header, rotation and restore need 10 kills of 200 each.

kill -9 keeps what was written to the page cache. So this proves that the store survives the death of its process at
any instant, and NOT that it survives a power cut: that is proved elsewhere, by the tests that replay every crash
of a disk that forgets what was not synced.

With --json, one object on standard output:
  seed, kills, seconds, transactions, checkpoints, reopened, replayed_records
  phases          a list of {phase, kills, needed}
  lost, unbegun, torn, backward, fallback, refused, ended
  fault           what was found first, or null
  open_micros     {median, max} of opening the store again
  ok";

/// Memory that outlives its process: a counter, and a storm of kills.
#[derive(Debug, Parser)]
#[command(name = "durable", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Count in memory, and go on where the last run ended
    #[command(after_help = format!("{COUNT_HELP}\n\n{EXIT_CODES}"))]
    Count(CountArgs),
    /// Kill a writing process again and again, and look at what comes back
    #[command(after_help = format!("{STORM_HELP}\n\n{EXIT_CODES}"))]
    Storm(StormArgs),
    /// A process of storm: what it does on standard output
    #[command(hide = true)]
    Child(ChildArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CountArgs {
    /// The directory of the store; made if it is not there
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Count so many steps [default: until a signal]
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// How many times to kill
    #[arg(long, value_name = "N", default_value = "200")]
    pub(crate) kills: u64,
    /// Which transactions, which plans of kills (the instants are the scheduler's) [default: random]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Make the store in this folder [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// End after so long, with fewer kills
    #[arg(long, value_name = "N")]
    pub(crate) seconds_max: Option<u64>,
    /// Report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Do something wrong, to see that it is found
    #[arg(long, value_name = "FAULT", hide = true)]
    pub(crate) fault: Option<FaultKind>,
}

#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// The folder of the storm
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) seed: u64,
    /// Which child it is: chooses options and work
    #[arg(long)]
    pub(crate) run: u64,
    /// The last transaction that was ever begun
    #[arg(long)]
    pub(crate) begun: u64,
    /// Tell when this phase ..
    #[arg(long)]
    pub(crate) target: Option<Phase>,
    /// .. makes its call of this number ..
    #[arg(long, default_value = "1")]
    pub(crate) call: u64,
    /// .. and wait there so long to be killed
    #[arg(long, default_value = "0")]
    pub(crate) linger_micros: u64,
    /// Look at the store, close it and end
    #[arg(long)]
    pub(crate) last: bool,
    #[arg(long)]
    pub(crate) fault: Option<FaultKind>,
}
