//! `copyd`: serves ranges of a group of files over TCP, and receives blocks into it.
//!
//! Bytes are copied from mapped memory to the socket and back without a buffer in between. A get
//! sends a [`flatspan::span::Span`]; a put receives into a [`flatspan::span::SpanMut`].
//!
//! # Protocol
//!
//! A client sends a request, waits for the reply, and may then send the next one. Numbers are
//! little-endian.
//!
//! ```text
//! request   op u8, offset u64, len u32; a put is followed by len bytes
//! reply     status u8, len u32; followed by len bytes
//!
//! op      1  get   the reply contains the bytes
//!         2  put   empty reply, once the bytes are visible to all peers; a crash may lose them
//!         3  sync  empty reply, once all earlier puts are on disk; offset and len are ignored
//! status  0  done
//!         1  malformed: unknown op, or len above 16384
//!         2  the range is not inside the group
//!         3  busy: another peer uses the range; the request may be repeated
//!         4  a file does not allow it: missing, short, read-only, disk full, ...
//!         5  too many peers; the connection ends
//! ```
//!
//! A reply with a status other than 0 carries a message, and the connection continues. The server
//! reads and discards the payload of a refused put.
//!
//! The connection ends after the reply if the position of the next request is unknown. That is so
//! after a put of more than 16384 bytes, and when a file fails in the middle of a put. If a file
//! fails in the middle of a get, the connection ends without a further reply, and the last bytes
//! may be zeros.
//!
//! The server closes a connection that is silent for a minute. While a put receives its bytes, its
//! block is locked, and requests of other peers for the block get the status busy.

mod check;
mod cli;
mod client;
mod content;
mod load;
#[path = "../../src/bin/common/parse_size.rs"]
mod parse_size;
mod peer;
mod protocol;
mod serve;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

/// Exit codes. Usage errors (2) are clap's.
pub(crate) mod exit {
    pub(crate) const OK: u8 = 0;
    pub(crate) const WRONG_CONTENT: u8 = 1;
    pub(crate) const FAILED: u8 = 4;
    pub(crate) const INTERRUPTED: u8 = 130;
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Worker(args) => worker::run(&args),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        eprintln!("copyd: {error:#}");
        exit::FAILED
    }))
}
