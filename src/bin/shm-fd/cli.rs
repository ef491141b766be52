//! The command line.

use std::ffi::OsString;

use clap::Parser;
use flatspan::shm::SHARED_FD_NAME;

use crate::exit_code::{self, Program};
use crate::parse_size::parse_size;

const AFTER_HELP: &str = "\
COMMAND finds the memfd through LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)); LISTEN_PID is not
set, since COMMAND may start the program that uses it. A memfd of that name that shm-fd received is
passed on; otherwise a new one is created and, under systemd, stored with the service manager. The
memory starts as zeros and exists until the last process closes it. See docs/cli.md.

Examples:
  shm-fd ./server                  run ./server with a new memfd
  shm-fd --size 64M watch ./job    64 MiB, shared by every run of ./job
";

/// Run a command with a memfd that outlives it.
#[derive(Debug, Parser)]
#[command(
    name = "shm-fd",
    version,
    after_help = format!("{AFTER_HELP}\n{}", exit_code::help(Program::Wrapper))
)]
pub(crate) struct Cli {
    /// Name of the memfd in /proc [default: that of the descriptor].
    #[arg(long, value_name = "NAME")]
    pub(crate) memfd_name: Option<String>,
    /// Minimum length in bytes (units K, M, G); a longer memfd is not shortened [default: 0].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// Name of the descriptor in `LISTEN_FDNAMES`.
    #[arg(long, value_name = "FD_NAME", default_value = SHARED_FD_NAME)]
    pub(crate) fd_name: String,
    /// Command to run, with its arguments.
    #[arg(required = true, value_name = "COMMAND", trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}
