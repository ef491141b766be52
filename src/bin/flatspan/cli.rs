//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bytes::parse_bytes;

const EXIT_CODES: &str = "\
Exit codes:
    0  done, and nothing is wrong
    1  something is found: damage, a difference (diff), something missing (doctor)
    2  wrong usage
    3  it could not be done: no store, a newer version, an I/O error, in use
  130  interrupted (SIGINT or SIGTERM)
Of several stores the greatest code counts.";

const INFO_HELP: &str = "\
With --json, one object:
  store          the path as given
  id             null if no header is valid
  format         1
  part_bytes
  writer         process that has it open for writing, null if none is known
  opens          {heap, generation, second, next_generation}, or null
  error          with opens null: why it would not open
  heaps          {heap, state, metadata, copies, present_bytes} of a and b; state is absent, damaged, taken or released
  journal        {number, bytes, records, records_end, first_sequence, last_sequence, sealed, defect} of each file";

const VERIFY_HELP: &str = "\
Reads both copies of METADATA, every page of every complete heap, and every record of the journal behind it; from the
disk, unless --cached is given. The last records of a store that was not closed may be damaged without a trace: they look
like records that a crash has cut, and are named as such.

With --json, one object a line and store:
  store, ok, complete (false if interrupted), heaps (that were read), pages, records
  faults       a list of {array, kind, text, first_page, last_page}; kind is metadata, headers, files, pages,
               block, journal or unreadable
  more_faults  beyond those that are listed
  notes        what is no damage
or, for a store that could not be looked at,
  store, error, exit_code";

const EXPORT_HELP: &str = "\
The newest state is the newer complete heap with the journal behind it. If that heap is damaged, the older one takes its
place, as it does when the store is opened, and standard error says so. A file is sparse where there are zeros; it is
written beside itself and renamed, so that it is never there in part. What goes to standard output is verified
first, since it cannot be taken back.";

const IMPORT_HELP: &str = "\
The region is as long as the bytes, rounded up to pages of 4096 with zeros, and they are in memory on the way. The store is
made beside its place and renamed, so that it is never there in part.";

const DIFF_HELP: &str = "\
Compares the newest states of two stores; or the two heaps of one store, without the journal. What is behind an end counts as
zeros. Exit code 1 says that pages differ; damage is 3 here.

With --json, one object:
  a, b         {store, heap, generation, bytes} of both sides
  same         no page differs, and the lengths are equal
  pages        how many differ
  ranges       of them, as [first, last]";

const LOG_HELP: &str = "\
The records behind the newer complete heap: those that opening would replay.

With --json, one object a line: of each record
  journal, offset, bytes, kind (transaction, pages, seal), sequence, generation, durable, last, region_bytes,
  changes      a list of [offset, length, zeros]
then of each tail that does not count {cut: {journal, offset, bytes, sequence}}, and of damage {error, exit_code}.";

const HISTORY_HELP: &str = "\
The states that are kept beside the newest one (shm-restore --keep), the oldest first, by the names NUMBER-GENERATION. Each is a store of
its own, STORE/kept/NAME, for all of these commands and for programs. To go back to one, while nobody uses STORE:
  mv STORE STORE.aside && cp -a STORE.aside/kept/NAME STORE && mv STORE.aside/kept STORE/ && sync
Memory that is still alive (kept by a service manager) wins over a store, so end it first; if a killed command has left it, move
STORE.aside/memories to STORE too.

With --json, one object a line:
  name, directory, generation, sequence, bytes (of the region), kept_at (nanoseconds since 1970), error (null, or why it
  cannot be looked at)";

const DOCTOR_HELP: &str = "\
DIR is where a store would be; a temporary file is made there and removed.

With --json, one object:
  findings     a list of {name, value, verdict, meaning}; verdict is good, note or missing";

/// Looks at flatspan stores, verifies them, and takes their bytes out and in
#[derive(Debug, Parser)]
#[command(name = "flatspan", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what a store is, and what opening it would do
    #[command(after_help = format!("{INFO_HELP}\n\n{EXIT_CODES}"))]
    Info(StoreArgs),
    /// Read everything in stores and name all that is damaged
    #[command(after_help = format!("{VERIFY_HELP}\n\n{EXIT_CODES}"))]
    Verify(VerifyArgs),
    /// Write the newest state of a store to a file
    #[command(after_help = format!("{EXPORT_HELP}\n\n{EXIT_CODES}"))]
    Export(ExportArgs),
    /// Make a store of the bytes of a file
    #[command(after_help = format!("{IMPORT_HELP}\n\n{EXIT_CODES}"))]
    Import(ImportArgs),
    /// Print which pages differ between two stores, or between the heaps of one
    #[command(after_help = format!("{DIFF_HELP}\n\n{EXIT_CODES}"))]
    Diff(DiffArgs),
    /// Print the records of the journal
    #[command(after_help = format!("{LOG_HELP}\n\n{EXIT_CODES}"))]
    Log(LogArgs),
    /// Print the states that are kept beside the newest one
    #[command(after_help = format!("{HISTORY_HELP}\n\n{EXIT_CODES}"))]
    History(StoreArgs),
    /// Find out what this kernel and filesystem offer, and what that means
    #[command(after_help = format!("{DOCTOR_HELP}\n\n{EXIT_CODES}"))]
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The directory of the store
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[arg(required = true, value_name = "STORE")]
    pub(crate) stores: Vec<PathBuf>,
    /// Be content with what the system has in memory of the files
    #[arg(long)]
    pub(crate) cached: bool,
    /// Report as JSON, one object a line and store
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// The file to write, or - for standard output
    #[arg(value_name = "OUT|-")]
    pub(crate) out: PathBuf,
    /// Overwrite OUT
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file to read, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// The store to make; there must be nothing, or an empty directory
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Length of the store's files, a multiple of 64K (units K, M, G) [default: 256M]
    #[arg(long, value_name = "N", value_parser = parse_bytes)]
    pub(crate) part_bytes: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// The other store; without, the heaps of A are compared
    #[arg(value_name = "B")]
    pub(crate) b: Option<PathBuf>,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Begin behind the older complete heap
    #[arg(long)]
    pub(crate) older: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) json: bool,
}
