//! `torrent`: creates, verifies and shows torrents, and hashes their content with flatspan.
//!
//! The pieces of a torrent are parts of the concatenation of its files, which is a
//! [`flatspan::span::Group`]. `create` and `verify` describe the files to a group. Reading, hashing
//! on all cores and attributing bad pieces to files is the work of [`flatspan::span::Pieces`].

mod bencode;
mod bencode_writer;
mod cli;
mod create;
mod engine;
mod fields;
mod file_list;
mod file_tree;
mod findings;
mod location;
mod message;
mod metainfo;
mod metainfo_error;
mod metainfo_writer;
mod output;
mod output_file;
#[path = "../../src/bin/common/parse_size.rs"]
mod parse_size;
mod paths;
mod piece_length;
mod progress;
mod reading;
mod report;
mod report_json;
mod report_text;
mod scan;
mod show;
mod torrent_file;
mod tracker;
mod tracker_option;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use metainfo_error::MetainfoError;

/// Exit codes; with several torrents the highest one. Usage errors (2) are clap's.
pub(crate) mod exit {
    pub(crate) const OK: u8 = 0;
    pub(crate) const PROBLEMS: u8 = 1;
    pub(crate) const BAD_TORRENT: u8 = 3;
    pub(crate) const FAILED: u8 = 4;
    pub(crate) const INTERRUPTED: u8 = 130;
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Create(args) => create::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Show(args) => show::run(&args),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        // The reader of a closed pipe needs no message about it.
        if !is_broken_pipe(&error) {
            message::print(format_args!("{error:#}"));
        }
        exit_code(&error)
    }))
}

/// The exit code for an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error
        .chain()
        .any(<dyn std::error::Error>::is::<MetainfoError>)
    {
        exit::BAD_TORRENT
    } else {
        exit::FAILED
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    kinds
        .into_iter()
        .any(|kind| kind == io::ErrorKind::BrokenPipe)
}
