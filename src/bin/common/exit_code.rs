//! The exit codes of all programs, one table (docs/cli.md, "Exit codes").

/// Success.
pub(crate) const OK: u8 = 0;
/// A problem was found.
pub(crate) const FOUND: u8 = 1;
/// The command line is wrong; clap exits with it.
pub(crate) const USAGE: u8 = 2;
/// The command failed.
pub(crate) const FAILED: u8 = 3;
/// `shm-fd` or `shm-restore` itself failed, as in env(1) and timeout(1).
pub(crate) const WRAPPER_FAILED: u8 = 125;
/// The command cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;
/// Plus the number of the signal that killed the command, as in a shell.
pub(crate) const SIGNAL_BASE: u8 = 128;
/// SIGINT or SIGTERM ended the program.
pub(crate) const INTERRUPTED: u8 = 130;

/// The programs to which a line of the table applies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Flatspan,
    /// `shm-fd` and `shm-restore`.
    Wrapper,
}

const TABLE: [(u8, Program, &str); 9] = [
    (OK, Program::Flatspan, "success; no problem was found"),
    (
        FOUND,
        Program::Flatspan,
        "a problem was found: corruption, a difference (diff), a missing facility (doctor)",
    ),
    (USAGE, Program::Flatspan, "usage error"),
    (
        FAILED,
        Program::Flatspan,
        "failure: no store, unsupported version, store in use, I/O error",
    ),
    (
        INTERRUPTED,
        Program::Flatspan,
        "interrupted by SIGINT or SIGTERM",
    ),
    (
        WRAPPER_FAILED,
        Program::Wrapper,
        "usage error, or this program failed",
    ),
    (
        NOT_EXECUTABLE,
        Program::Wrapper,
        "COMMAND cannot be executed",
    ),
    (NOT_FOUND, Program::Wrapper, "COMMAND was not found"),
    (
        SIGNAL_BASE,
        Program::Wrapper,
        "COMMAND was killed by signal N",
    ),
];

/// The section "Exit codes" of `--help`.
pub(crate) fn help(program: Program) -> String {
    let mut lines = vec!["Exit codes:".to_owned()];
    let rows = TABLE.iter().filter(|(_, of, _)| *of == program);
    lines.extend(rows.map(|(code, _, meaning)| {
        let label = match *code {
            SIGNAL_BASE => format!("{code}+N"),
            _ => code.to_string(),
        };
        format!("  {label:<5}  {meaning}")
    }));
    if program == Program::Wrapper {
        lines.push("  other  the exit code of COMMAND".to_owned());
    }
    lines.join("\n")
}
