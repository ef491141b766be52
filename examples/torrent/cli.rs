//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::piece_length::{parse_bytes, parse_piece_length};

const EXIT_CODES: &str = "\
Exit codes:
    0  done, and nothing is wrong
    1  the verification found problems
    2  wrong usage
    3  a torrent that is malformed or hostile
    4  an I/O error or another failure
  130  interrupted (SIGINT or SIGTERM)
Of several torrents the greatest code counts.";

const CREATE_HELP: &str = "\
Files are put in the bytewise order of their path components. Symbolic links and special files are skipped with a
warning. OUT is left out when it lies in DIR. It is written beside itself and renamed, so that it is never there in
part. SOURCE_DATE_EPOCH, if set, is the creation date.

With --json, one object on standard output:
  torrent, name, info_hash, piece_bytes, pieces, files, padding_files, total_bytes";

const VERIFY_HELP: &str = "\
With --json, one object a line and torrent on standard output:
  torrent     the path as given
  name, info_hash, total_bytes
  ok          whether every piece and every file is right
  complete    false if interrupted
  pieces      {total, ok, mismatched, unreadable, unchecked}
  files       a list of
    path            below the root
    status          ok, missing, too_short, too_long, corrupt, undecided, unreadable or unchecked
    declared_bytes
    present_bytes   null if unknown
    corrupt_pieces  a list of [first, last]
    because_of      with undecided: up to 64 of the files that share its bad pieces
    error           with unreadable
or, for a torrent that could not be verified,
  torrent, error, exit_code

`undecided` means that all pieces of its own are right and a piece shared with a bad neighbour is not.";

/// Creates, verifies and shows torrents.
#[derive(Debug, Parser)]
#[command(name = "torrent", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a torrent of a file or a folder
    #[command(after_help = format!("{CREATE_HELP}\n\n{EXIT_CODES}"))]
    Create(CreateArgs),
    /// Compare files with their torrents
    #[command(after_help = format!("{VERIFY_HELP}\n\n{EXIT_CODES}"))]
    Verify(VerifyArgs),
    /// Print what a torrent says
    #[command(after_help = EXIT_CODES)]
    Show(ShowArgs),
}

/// How to read and hash.
#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Hash on N threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Map no more than BYTES at once (units K, M, G)
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) budget: Option<u64>,
    /// Hash where the files are mapped, without copying first: faster. Only for files that nobody
    /// changes meanwhile; pieces of one that is cut cannot be read
    #[arg(long)]
    pub(crate) in_place: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The folder or file
    #[arg(value_name = "DIR|FILE")]
    pub(crate) content: PathBuf,
    /// The torrent to write
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Overwrite OUT
    #[arg(long)]
    pub(crate) force: bool,
    /// A power of two from 16K to 1G [default: chosen for 1000 to 2000 pieces]
    #[arg(long, value_name = "N", value_parser = parse_piece_length)]
    pub(crate) piece_length: Option<u64>,
    /// A tier of trackers, separated by commas; may be repeated
    #[arg(long, value_name = "URL[,URL]...")]
    pub(crate) tracker: Vec<String>,
    /// Only peers from the trackers (BEP 27)
    #[arg(long)]
    pub(crate) private: bool,
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// A text that makes the info-hash differ between trackers
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,
    /// Let each file begin with a piece, by padding files (BEP 47)
    #[arg(long)]
    pub(crate) pad: bool,
    #[arg(long)]
    pub(crate) no_creation_date: bool,
    /// Put the files in the order of this torrent, those it does not have last
    #[arg(long, value_name = "TORRENT")]
    pub(crate) order_from: Option<PathBuf>,
    /// Say what was made as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[arg(required = true, value_name = "TORRENT")]
    pub(crate) torrents: Vec<PathBuf>,
    /// The folder that holds the file or folder named by the torrent
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) root: PathBuf,
    /// Follow symbolic links, wherever they lead
    #[arg(long)]
    pub(crate) follow_symlinks: bool,
    /// List the files that are right, too
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Report as JSON, one object a line and torrent
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[arg(value_name = "TORRENT")]
    pub(crate) torrent: PathBuf,
    #[arg(long)]
    pub(crate) json: bool,
}
