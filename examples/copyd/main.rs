//! `copyd`: serves ranges of a group of files over TCP, and receives blocks into it.
//!
//! Bytes go from mapped memory to the socket and back without a buffer in between: a range is borrowed as a
//! [`flatspan::span::Span`] and sent, or as a [`flatspan::span::SpanMut`] and received into.
//!
//! # Protocol
//!
//! A client sends a request, waits for the reply, and may then send the next one. Numbers are little-endian.
//!
//! ```text
//! request   op u8, offset u64, len u32; a put is followed by len bytes
//! reply     status u8, len u32; followed by len bytes
//!
//! op      1  get   the reply has the bytes
//!         2  put   empty reply, once the bytes are in the group: others see them, a crash may lose them
//!         3  sync  empty reply, once all that was put is on disk; offset and len mean nothing
//! status  0  done
//!         1  malformed: no such op, or len above 16384
//!         2  the range leaves the group
//!         3  busy: others have the range; it may be asked for again
//!         4  a file cannot do it: missing, short, for reading only, disk full, ...
//!         5  too many peers; the connection ends
//! ```
//!
//! A status other than 0 comes with a text, and the connection goes on: what a refused put sent is read
//! and dropped. It ends, after the reply, where the peer and the server cannot agree any more on where the
//! next request begins: after a put of more than 16384 bytes, and when a file fails in the middle of a put. When
//! a file fails in the middle of the bytes of a get, it ends without another word, and the last bytes may be zeros.
//!
//! A peer that says nothing for a minute is gone. While the bytes of a put trickle in, the block is borrowed:
//! others are told that it is busy.

mod check;
mod cli;
mod client;
mod content;
mod load;
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
