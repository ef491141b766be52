//! The command line.

use std::ffi::OsString;

use clap::Parser;
use flatspan::shm::SHARED_FD_NAME;

use crate::bytes::parse_bytes;

const AFTER_HELP: &str = "\
COMMAND finds the descriptor by the variables LISTEN_FDS (how many there are, from number 3 on) and LISTEN_FDNAMES (their
names, with colons between them). LISTEN_PID is not set, as COMMAND may start the program that is meant.

A descriptor of that name that shm-fd itself was given is used instead of a new one, and all others that it was given are
handed over too, in order. A new one is left with the service manager (FDSTORE=1) where NOTIFY_SOCKET is set, so that the
next start is given it.

The memory is zeros, and COMMAND makes it as long as it wants. It is gone when nobody has it open any more.

Exit codes: those of COMMAND, and
  125  it could not be handed over, or wrong usage
  126  COMMAND cannot be executed
  127  COMMAND is not found";

/// Runs a command with a descriptor of shared memory, which outlives it
#[derive(Debug, Parser)]
#[command(name = "shm-fd", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// What the memory is called in /proc [default: the name of the descriptor]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Make it at least so long (units K, M, G); it is never made shorter
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) size: Option<u64>,
    /// The name of the descriptor in `LISTEN_FDNAMES`
    #[arg(long, value_name = "FD_NAME", default_value = SHARED_FD_NAME)]
    pub(crate) fd_name: String,
    /// The command and its arguments
    #[arg(required = true, value_name = "COMMAND", trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}
