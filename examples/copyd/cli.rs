//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use flatspan::mapping_cache::{CacheOptions, MappingCache};
use flatspan::span::{Group, GroupBuilder};

use crate::parse_size::parse_size;

const EXIT_CODES: &str = "\
Exit codes:
    0  success; serve: ended by SIGTERM or SIGINT after syncing all files
    1  the content differs from the expected content
    2  invalid usage
    4  an I/O error or another failure
  130  serve: ended by a second signal before all files were synced";

const SERVE_HELP: &str = "\
The first line on standard output is the address that the server listens on. The last line has the
statistics of the mapping cache; with --json as an object:
  budget_bytes, window_bytes, mapped_bytes_max, mapped_bytes, pinned_mappings, hits, misses, evictions,
  waits, over_budget_mappings, connections, gets, puts, refused, broken";

const LOAD_HELP: &str = "\
Each worker is a process with its share of the blocks of 16 KiB. It puts them in random order and gets
them back between the puts. With --kills, workers are killed by SIGKILL at random times and started again
with the requests that the server has not acknowledged.

With --json, one object on standard output:
  total_bytes, blocks, peers
  puts, gets                numbers of acknowledged requests
  kills                     number of killed workers
  busy                      number of requests repeated because the range was busy
  mismatched                number of blocks with wrong content
  seconds, mib_per_second   of both directions together";

const CHECK_HELP: &str = "\
With --json, one object on standard output:
  total_bytes, piece_bytes, pieces, ok
  mismatched   list of the numbers of pieces with wrong content
  unreadable   list of {piece, error}";

/// Serves ranges of a group of files over TCP and receives blocks into it.
#[derive(Debug, Parser)]
#[command(name = "copyd", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a group.
    #[command(after_help = format!("{SERVE_HELP}\n\n{EXIT_CODES}"))]
    Serve(ServeArgs),
    /// Put blocks of known content into a server and get them back.
    #[command(after_help = format!("{LOAD_HELP}\n\n{EXIT_CODES}"))]
    Load(LoadArgs),
    /// Compare the content of a group, by pieces, with the content that load puts there.
    #[command(after_help = format!("{CHECK_HELP}\n\n{EXIT_CODES}"))]
    Check(CheckArgs),
    /// Process of load: work on standard input, results on standard output.
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// The group: files of one length, named by their numbers, in one directory.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    /// Directory of the files.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// Length of each file, in bytes (units K, M, G).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) file_size: u64,
    /// Number of files.
    #[arg(long, value_name = "N")]
    pub(crate) files: usize,
    /// Limit of mapped bytes, except for ranges in use by peers (units K, M, G).
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = parse_nonzero_size)]
    pub(crate) budget: NonZeroU64,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on, HOST:PORT; port 0 selects a free one.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// Accept puts and create missing files.
    #[arg(long)]
    pub(crate) receive: bool,
    /// Maximum number of connected peers.
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) peers: NonZeroUsize,
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Address of the server, HOST:PORT.
    #[arg(value_name = "ADDR")]
    pub(crate) server: String,
    /// Number of bytes to put and get, from the start of the group (units K, M, G).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) bytes: u64,
    /// Number of workers.
    #[arg(long, value_name = "N")]
    pub(crate) peers: NonZeroUsize,
    /// Seed of the content, of the order, and of the kill times.
    #[arg(long, value_name = "S")]
    pub(crate) seed: u64,
    /// Number of workers to kill.
    #[arg(long, value_name = "K", default_value = "0")]
    pub(crate) kills: u64,
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// Seed that was given to load.
    #[arg(long, value_name = "S")]
    pub(crate) seed: u64,
    /// Length of a piece, in bytes (units K, M, G).
    #[arg(long, value_name = "SIZE", default_value = "256K", value_parser = parse_nonzero_size)]
    pub(crate) piece_length: NonZeroU64,
    /// Report as JSON.
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
    /// Seed of the order, different for every restart of a worker.
    #[arg(long)]
    pub(crate) order: u64,
}

impl GroupArgs {
    /// Returns a builder of the group, and the cache of the group.
    pub(crate) fn builder(&self) -> Result<(GroupBuilder, MappingCache)> {
        // Otherwise a mistyped root would look like missing files.
        std::fs::read_dir(&self.root).with_context(|| format!("--root {}", self.root.display()))?;
        let options = CacheOptions::default()
            .budget_bytes(self.budget.get())
            .window_bytes(window_bytes(self.budget.get()));
        let cache = MappingCache::new(options).context("--budget")?;
        let mut builder = Group::builder(&self.root).cache(&cache);
        for file in 0..self.files {
            builder = builder.file(Path::new(&format!("{file:06}")), self.file_size);
        }
        Ok((builder, cache))
    }
}

fn parse_nonzero_size(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(parse_size(text)?).ok_or_else(|| "the size must not be 0".to_owned())
}

/// Returns a window size at which the budget holds the ranges of some peers and other windows.
fn window_bytes(budget_bytes: u64) -> usize {
    const WINDOW_BYTES_MAX: u64 = 4 << 20;
    const WINDOW_BYTES_MIN: u64 = 64 << 10;
    let share = (budget_bytes / 32).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    1 << share.ilog2()
}
