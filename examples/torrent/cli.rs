//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::parse_size::parse_size;
use crate::piece_length::parse_piece_length;
use crate::tracker_option::{Tier, parse_tier};

const EXIT_CODES: &str = "\
Exit codes:
    0  success, no problems found
    1  the verification found problems
    2  invalid usage
    3  a malformed or hostile torrent
    4  an I/O error or another failure
  130  interrupted (SIGINT or SIGTERM)
With several torrents the exit code is the highest one.";

const CREATE_HELP: &str = "\
Files are sorted by their path components, bytewise. Symbolic links and special files are skipped and
counted. OUT is excluded from the torrent if it is in DIR. It is written to a temporary file and renamed,
so that it is never incomplete. With OUT -, the torrent goes to standard output and the report to standard
error. SOURCE_DATE_EPOCH, if set, is the creation date.

With --json, one object as the report:
  torrent, name, info_hash, piece_bytes, pieces, files, padding_files, total_bytes";

const VERIFY_HELP: &str = "\
With --json, one object per line and torrent on standard output:
  torrent     the path as given
  name, info_hash, total_bytes
  ok          true if every piece and every file is correct
  complete    false if interrupted
  pieces      {total, ok, mismatched, unreadable, unchecked}
  files       list of
    path            relative to the root
    status          ok, missing, too_short, too_long, corrupt, undecided, unreadable or unchecked
    declared_bytes
    actual_bytes    null if unknown
    corrupt_pieces  list of [first, last]
    shared_with     if undecided: up to 64 of the files that share its bad pieces
    error           if unreadable
  directory_problem  the reason why no file can be found, as with a wrong root, or null
  warnings    list of texts: what the torrent has that was ignored
or, for a torrent that could not be verified:
  torrent, error, exit_code

A file is undecided if a piece that it shares with a bad neighbour is bad and all of its other pieces
are correct. A missing file of 0 bytes is no problem unless --strict is given. The hashes of version 2
(BEP 52) of a hybrid torrent are not verified.";

const SHOW_HELP: &str = "\
Every torrent is shown, also one that verify refuses; the reason is shown, too. Fields that are ignored
cause warnings.

With --json, one object on standard output:
  name, info_hash, total_bytes, piece_bytes, pieces, private, multi_file
  trackers      list of tiers, each a list of URLs
  source, comment, created_by, creation_date    null if absent
  warnings      list of texts: what was ignored
  refusal       the reason why verify refuses the torrent, or null
  name_refusal  the reason why verify needs --content, or null
  files         list of {path, bytes, kind}; kind is file, padding or symlink";

/// Creates, verifies and shows torrents.
#[derive(Debug, Parser)]
#[command(name = "torrent", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a torrent of a file or a directory.
    #[command(after_help = format!("{CREATE_HELP}\n\n{EXIT_CODES}"))]
    Create(CreateArgs),
    /// Compare files with their torrents.
    #[command(after_help = format!("{VERIFY_HELP}\n\n{EXIT_CODES}"))]
    Verify(VerifyArgs),
    /// Print the content of a torrent.
    #[command(after_help = format!("{SHOW_HELP}\n\n{EXIT_CODES}"))]
    Show(ShowArgs),
}

/// Options for reading and hashing.
#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Hash on N threads [default: one for each processor].
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Limit of mapped bytes (units K, M, G).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) budget: Option<u64>,
    /// Hash mapped memory without copying it first: faster, but only for files that no other
    /// process changes meanwhile; pieces of a truncated file are unreadable.
    #[arg(long)]
    pub(crate) in_place: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Directory or file to describe.
    #[arg(value_name = "DIR|FILE")]
    pub(crate) content: PathBuf,
    /// Torrent to write; - is standard output.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Overwrite OUT.
    #[arg(long)]
    pub(crate) force: bool,
    /// A power of two from 16K to 1G [default: chosen for 1000 to 2000 pieces].
    #[arg(long, value_name = "N", value_parser = parse_piece_length)]
    pub(crate) piece_length: Option<u64>,
    /// A tier of trackers; a comma separates if a URL follows it. May be repeated.
    #[arg(long, value_name = "URL[,URL]...", value_parser = parse_tier)]
    pub(crate) tracker: Vec<Tier>,
    /// Allow only peers from the trackers (BEP 27).
    #[arg(long)]
    pub(crate) private: bool,
    /// Comment in the torrent.
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// Text that makes the info-hash differ between trackers.
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,
    /// Align each file to a piece with padding files (BEP 47).
    #[arg(long)]
    pub(crate) pad: bool,
    /// Write no creation date.
    #[arg(long)]
    pub(crate) no_creation_date: bool,
    /// Put the files in the order of this torrent, other files last.
    #[arg(long, value_name = "TORRENT")]
    pub(crate) order_from: Option<PathBuf>,
    /// List the symbolic links and special files that are skipped.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Report the created torrent as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Torrents to verify; - is standard input.
    #[arg(required = true, value_name = "TORRENT")]
    pub(crate) torrents: Vec<PathBuf>,
    /// Directory that contains the file or directory named by the torrent.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) root: PathBuf,
    /// The file or directory itself, whatever the name in the torrent is.
    #[arg(long, value_name = "PATH", conflicts_with = "root")]
    pub(crate) content: Option<PathBuf>,
    /// Follow symbolic links, also to targets outside the root.
    #[arg(long)]
    pub(crate) follow_symlinks: bool,
    /// Treat missing files of 0 bytes as a problem.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Also list the files that are correct, symbolic links, and what was ignored.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Report as JSON, one object per line and torrent.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Torrent to show; - is standard input.
    #[arg(value_name = "TORRENT")]
    pub(crate) torrent: PathBuf,
    /// Report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
