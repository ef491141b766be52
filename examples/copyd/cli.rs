//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use flatspan::mapping_cache::{CacheOptions, MappingCache};
use flatspan::span::{Group, GroupBuilder};

const EXIT_CODES: &str = "\
Exit codes:
    0  done; serve: ended by SIGTERM or SIGINT, with everything on disk
    1  the content is not as expected
    2  wrong usage
    4  an I/O error or another failure
  130  serve: ended by a second signal, before everything was on disk";

const SERVE_HELP: &str = "\
The first line on standard output is the address it listens on. The last one, at the end, says what the cache
of mappings did; with --json as an object:
  budget_bytes, window_bytes, mapped_bytes_max, mapped_bytes, pinned, hits, misses, evictions, stalls,
  budget_exceeded, connections, gets, puts, refused, broken";

const LOAD_HELP: &str = "\
Each worker is a process with its share of the blocks, 16 KiB each, which it puts in random order and gets back
between the puts. With --kills, workers are killed by SIGKILL, at random instants, and started again with what
the server has not acknowledged yet.

With --json, one object on standard output:
  bytes, blocks, peers, puts, gets   what was acknowledged
  kills                              workers that were killed
  busy                               requests that were repeated because the range was busy
  mismatched                         blocks that came back with other content
  seconds, mib_per_second            both directions together";

const CHECK_HELP: &str = "\
With --json, one object on standard output:
  bytes, piece_bytes, pieces, ok
  mismatched   numbers of the pieces with other content
  unreadable   a list of {piece, error}";

/// Serves ranges of a group of files over TCP and receives blocks into it.
#[derive(Debug, Parser)]
#[command(name = "copyd", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a group
    #[command(after_help = format!("{SERVE_HELP}\n\n{EXIT_CODES}"))]
    Serve(ServeArgs),
    /// Put blocks of known content into a server and get them back
    #[command(after_help = format!("{LOAD_HELP}\n\n{EXIT_CODES}"))]
    Load(LoadArgs),
    /// Compare the content of a group with what load puts there, by pieces
    #[command(after_help = format!("{CHECK_HELP}\n\n{EXIT_CODES}"))]
    Check(CheckArgs),
    /// A process of load: work on standard input, what was done on standard output
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// The group: files of one length, named by their numbers, in a folder.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    /// The folder of the files
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// Length of each file
    #[arg(long, value_name = "N")]
    pub(crate) bytes_per_file: u64,
    /// How many files there are
    #[arg(long, value_name = "N")]
    pub(crate) files: usize,
    /// Map no more than this at once, but for what peers have borrowed
    #[arg(long, value_name = "MIB", default_value = "32")]
    pub(crate) budget_mib: NonZeroU64,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen, HOST:PORT; port 0 takes any
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// Let peers put; files that are missing are created
    #[arg(long)]
    pub(crate) receive: bool,
    /// How many peers may be connected
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) peers: NonZeroUsize,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The server, HOST:PORT
    #[arg(value_name = "ADDR")]
    pub(crate) server: String,
    /// Put and get this much, from the start of the group
    #[arg(long, value_name = "TOTAL")]
    pub(crate) bytes: u64,
    /// How many workers
    #[arg(long, value_name = "N")]
    pub(crate) peers: NonZeroUsize,
    /// What content, which order, which instants
    #[arg(long, value_name = "S")]
    pub(crate) seed: u64,
    /// Kill workers so many times
    #[arg(long, value_name = "K", default_value = "0")]
    pub(crate) kills: u64,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// The seed that was given to load
    #[arg(long, value_name = "S")]
    pub(crate) seed: u64,
    #[arg(long, value_name = "N", default_value = "262144")]
    pub(crate) piece_bytes: NonZeroU64,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[arg(value_name = "ADDR")]
    pub(crate) server: String,
    #[arg(long)]
    pub(crate) bytes: u64,
    #[arg(long)]
    pub(crate) seed: u64,
    /// For the order, which differs from life to life of a worker
    #[arg(long)]
    pub(crate) order: u64,
}

impl GroupArgs {
    /// The group, not yet open, and its cache.
    pub(crate) fn builder(&self) -> Result<(GroupBuilder, MappingCache)> {
        // Otherwise a mistyped root would look like files that are gone.
        let entries = std::fs::read_dir(&self.root);
        entries.with_context(|| format!("--root {}", self.root.display()))?;
        let budget_bytes = self.budget_bytes();
        let options = CacheOptions::default()
            .budget_bytes(budget_bytes)
            .window_bytes(window_bytes(budget_bytes));
        let cache = MappingCache::new(options).context("--budget-mib")?;
        let mut builder = Group::builder(&self.root).cache(&cache);
        for file in 0..self.files {
            builder = builder.file(Path::new(&format!("{file:06}")), self.bytes_per_file);
        }
        Ok((builder, cache))
    }

    pub(crate) fn budget_bytes(&self) -> u64 {
        self.budget_mib.get().saturating_mul(1 << 20)
    }
}

/// Small enough that a budget holds what some peers have borrowed, and others beside.
fn window_bytes(budget_bytes: u64) -> usize {
    const WINDOW_BYTES_MAX: u64 = 4 << 20;
    const WINDOW_BYTES_MIN: u64 = 64 << 10;
    let share = (budget_bytes / 32).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    1 << share.ilog2()
}
