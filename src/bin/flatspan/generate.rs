//! `flatspan man` and `flatspan completions`: generated from the command lines of all programs.

use std::fs;
use std::io;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};

use crate::cli::{Cli, CompletionsArgs, ManArgs, ProgramName};
use crate::{exit_code, output, shm_fd_cli, shm_restore_cli};

pub(crate) fn man(args: &ManArgs) -> Result<u8> {
    let directory = &args.directory;
    let context = || format!("cannot write man pages to {}", directory.display());
    fs::create_dir_all(directory).with_context(context)?;
    for program in [
        ProgramName::Flatspan,
        ProgramName::ShmFd,
        ProgramName::ShmRestore,
    ] {
        clap_mangen::generate_to(command(program), directory).with_context(context)?;
    }
    output::line(&format!("{}: man pages written", directory.display()))?;
    Ok(exit_code::OK)
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<u8> {
    let mut command = command(args.program);
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    // Not generated into standard output: a closed pipe would be a panic there.
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(exit_code::OK)
}

fn command(program: ProgramName) -> Command {
    match program {
        ProgramName::Flatspan => Cli::command(),
        ProgramName::ShmFd => shm_fd_cli::Cli::command(),
        ProgramName::ShmRestore => shm_restore_cli::Cli::command(),
    }
}
