//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::exit_code::{self, Program};
use crate::parse_size::parse_size;

/// The text after the options in `--help`: details, each line of at most 100 columns, examples and
/// exit codes. Details in the doc comments would make clap print each option in several lines.
fn sections(details: &str, examples: &str) -> String {
    let exit_codes = exit_code::help(Program::Flatspan);
    format!("{details}Examples:\n{examples}\n\n{exit_codes}")
}

const PROGRAM_EXAMPLES: &str = "  \
  flatspan info /var/lib/counter             what the store holds, what opening it would do
  flatspan verify /var/lib/*/store           check every page and every record
  flatspan export /var/lib/counter out.bin   write the newest state to a file
  flatspan rollback /var/lib/counter 17-204  return to a snapshot of the history

JSON keys, exit codes and file formats: docs/cli.md";

const INFO_EXAMPLES: &str = "  \
  flatspan info /var/lib/counter
  flatspan info --json /var/lib/counter | jq .open_plan";

const VERIFY_DETAILS: &str = "\
Reads both copies of METADATA, every page of every complete heap, and the journal. The last records
of a store that was not closed may be corrupt without being a problem: they look like unacknowledged
records and are reported as notes.

";

const VERIFY_EXAMPLES: &str = "  \
  flatspan verify /var/lib/counter
  flatspan verify --json /srv/a /srv/b | jq 'select(.ok | not)'";

const EXPORT_DETAILS: &str = "\
If the committed heap is corrupt, the fallback heap is exported and a warning names it. The output
is sparse where the state has zeros, and appears under its name only when complete. A store made by
flatspan import is exported with the length of the imported file.

";

const EXPORT_EXAMPLES: &str = "  \
  flatspan export /var/lib/counter counter.bin
  flatspan export /var/lib/counter - | sha256sum";

const IMPORT_DETAILS: &str = "\
The region is the file, padded with zeros to pages of 4096 bytes; it is held in memory meanwhile.
The store appears under its name only when complete.

";

const IMPORT_EXAMPLES: &str = "  \
  flatspan import counter.bin /var/lib/counter
  zcat counter.bin.gz | flatspan import --part-size 1G - /var/lib/counter";

const DIFF_DETAILS: &str = "\
Compares the newest states of two stores, or the two heaps of one store without the journal. Bytes
past the end of the shorter state count as zeros.

";

const DIFF_EXAMPLES: &str = "  \
  flatspan diff /var/lib/counter /backup/counter   newest states of two stores
  flatspan diff /var/lib/counter                   the two heaps of one store";

const JOURNAL_EXAMPLES: &str = "  \
  flatspan journal /var/lib/counter
  flatspan journal --from-fallback --json /var/lib/counter | jq .sequence";

const HISTORY_DETAILS: &str = "\
Each snapshot is a store in the directory STORE/history/SNAPSHOT; every command accepts it.

";

const HISTORY_EXAMPLES: &str = "  \
  flatspan history /var/lib/counter
  flatspan export /var/lib/counter/history/17-204 old.bin";

const ROLLBACK_DETAILS: &str = "\
The snapshot is committed as a new generation; the state that it replaces becomes a snapshot itself.
The store must not be in use. A memfd that still exists (kept by a service manager, for example)
takes precedence over the store at the next start, so close it first.

";

const ROLLBACK_EXAMPLES: &str = "  \
  flatspan history /var/lib/counter
  flatspan rollback /var/lib/counter 17-204";

const DOCTOR_EXAMPLES: &str = "  \
  flatspan doctor
  flatspan doctor --json /var/lib | jq '.findings[] | select(.status != \"ok\")'";

const MAN_EXAMPLES: &str = "  \
  flatspan man /usr/local/share/man/man1";

const COMPLETIONS_EXAMPLES: &str = "  \
  flatspan completions bash > /etc/bash_completion.d/flatspan
  flatspan completions --program shm-restore zsh > _shm-restore";

/// Inspect, verify, export, import and roll back flatspan stores.
#[derive(Debug, Parser)]
#[command(name = "flatspan", version, after_help = sections("", PROGRAM_EXAMPLES))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what a store holds and what opening it would do.
    #[command(after_help = sections("", INFO_EXAMPLES))]
    Info(StoreArgs),
    /// Read all data of stores and report every corruption.
    #[command(after_help = sections(VERIFY_DETAILS, VERIFY_EXAMPLES))]
    Verify(VerifyArgs),
    /// Write the newest state of a store to a file.
    #[command(after_help = sections(EXPORT_DETAILS, EXPORT_EXAMPLES))]
    Export(ExportArgs),
    /// Create a store from the bytes of a file.
    #[command(after_help = sections(IMPORT_DETAILS, IMPORT_EXAMPLES))]
    Import(ImportArgs),
    /// Print the pages that differ between two stores, or between the heaps of one.
    #[command(after_help = sections(DIFF_DETAILS, DIFF_EXAMPLES))]
    Diff(DiffArgs),
    /// Print the journal records that opening the store would replay.
    #[command(after_help = sections("", JOURNAL_EXAMPLES))]
    Journal(JournalArgs),
    /// Print the snapshots in the history of a store, oldest first.
    #[command(after_help = sections(HISTORY_DETAILS, HISTORY_EXAMPLES))]
    History(StoreArgs),
    /// Commit a snapshot of the history as the newest state of its store.
    #[command(after_help = sections(ROLLBACK_DETAILS, ROLLBACK_EXAMPLES))]
    Rollback(RollbackArgs),
    /// Report what this kernel and a filesystem offer, and what that means for stores.
    #[command(after_help = sections("", DOCTOR_EXAMPLES))]
    Doctor(DoctorArgs),
    /// Write the man pages of flatspan, shm-fd and shm-restore.
    #[command(after_help = sections("", MAN_EXAMPLES))]
    Man(ManArgs),
    /// Print a completion script for a shell.
    #[command(after_help = sections("", COMPLETIONS_EXAMPLES))]
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Directory of the store.
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Print JSON, one object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Directories of the stores; the exit code is the highest one.
    #[arg(required = true, value_name = "STORE")]
    pub(crate) stores: Vec<PathBuf>,
    /// Verify data from the page cache instead of re-reading the disk.
    #[arg(long)]
    pub(crate) allow_page_cache: bool,
    /// Print JSON, one object per store and line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Directory of the store.
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// File to write, or - for standard output.
    #[arg(value_name = "OUT|-")]
    pub(crate) out: PathBuf,
    /// Replace OUT if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// File to read, or - for standard input.
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// Directory of the new store; missing or empty.
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Length of the store's part files, a multiple of 64K (units K, M, G) [default: 256M].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) part_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Directory of the first store.
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// Directory of the second store [default: compare the heaps of A].
    #[arg(value_name = "B")]
    pub(crate) b: Option<PathBuf>,
    /// Print JSON, one object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JournalArgs {
    /// Directory of the store.
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Start after the fallback heap instead of the committed heap.
    #[arg(long)]
    pub(crate) from_fallback: bool,
    /// Print JSON, one object per record and line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Directory of the store.
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Name of the snapshot, as printed by `flatspan history`.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
    /// Do not add the replaced state to the history.
    #[arg(long)]
    pub(crate) discard_current: bool,
    /// Print JSON, one object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Directory on the filesystem to test; temporary files are created there and removed.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
    /// Print JSON, one object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages, created if missing; pages of the same name are replaced.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell that the script is for.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
    /// Program that the script completes.
    #[arg(long, value_name = "PROGRAM", default_value = "flatspan")]
    pub(crate) program: ProgramName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgramName {
    Flatspan,
    ShmFd,
    ShmRestore,
}
