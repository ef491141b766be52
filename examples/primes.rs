//! `primes`: a table of prime numbers in shared memory that continues where the last run ended.
//!
//! Each run adds at most 1000 primes. The memory arrives as a descriptor named `SHM_SHARED_FD`,
//! from `shm-fd` or a service manager. It outlives this program, however the program ends:
//!
//! ```text
//! shm-fd watch -n 0.1 primes
//! ```
//!
//! The table consists of 125,000 native words of 64 bits from the start of the memory; unused words
//! are zero. One store instruction writes each prime, after all smaller primes. So the table is
//! complete up to the first zero at any time.

#[path = "sieve/mod.rs"]
mod sieve;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use flatspan::shm::{ListenFds, Memfd, MemfdMapMut, SHARED_FD_NAME};

const TABLE_BYTES: u64 = 1_000_000;
const NEW_IN_A_RUN: usize = 1000;

/// Exit codes. clap uses 2 for usage errors.
mod exit {
    pub(crate) const FAILED: u8 = 1;
    pub(crate) const NO_MEMORY: u8 = 2;
}

/// Adds up to 1000 primes to a table in shared memory, and prints it when it is full.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 done, 1 the memory holds other data or another failure, 2 no memory was passed, or wrong usage"
)]
struct Cli {
    /// Print no table.
    #[arg(long)]
    brief: bool,
    /// Delay before each number.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    pause: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (code, outcome) = match memory() {
        Ok(memory) => (exit::FAILED, run(&cli, memory.words())),
        Err(error) => (exit::NO_MEMORY, Err(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The process that closed the pipe needs no message.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("primes: {error:#}");
            ExitCode::from(code)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Maps the passed memory and grows it to the length of the table.
fn memory() -> Result<MemfdMapMut> {
    let fd = ListenFds::from_env()?.take(SHARED_FD_NAME)?;
    let file = Memfd::from_fd(fd)?;
    file.grow_to(TABLE_BYTES)?;
    Ok(file.map_mut(0..TABLE_BYTES)?)
}

fn run(cli: &Cli, table: &[AtomicU64]) -> Result<()> {
    let mut primes = read(table)?;
    let known = primes.len();
    while primes.len() < table.len() && primes.len() < known + NEW_IN_A_RUN {
        let wanted = (known + NEW_IN_A_RUN).min(table.len()) - primes.len();
        for prime in sieve::following(&primes).into_iter().take(wanted) {
            thread::sleep(Duration::from_micros(cli.pause));
            table[primes.len()].store(prime, Ordering::Release);
            primes.push(prime);
        }
    }
    print(cli, &primes, known, table.len())
}

/// Returns the primes in the table.
fn read(table: &[AtomicU64]) -> Result<Vec<u64>> {
    let words = table.iter().map(|word| word.load(Ordering::Acquire));
    let primes: Vec<u64> = words.take_while(|word| *word != 0).collect();
    let is_rising = primes.is_sorted_by(|a, b| a < b);
    ensure!(
        is_rising && primes.first().is_none_or(|first| *first == 2),
        "the memory does not hold a table of primes"
    );
    let last = primes.last().copied().unwrap_or(2);
    ensure!(
        last < 1 << 32,
        "the memory does not hold a table of primes: {last} is too large"
    );
    Ok(primes)
}

fn print(cli: &Cli, primes: &[u64], known: usize, room: usize) -> Result<()> {
    let mut out = io::stdout().lock();
    let last = primes
        .last()
        .context("the table holds at least one prime")?;
    if primes.len() == room && !cli.brief {
        for line in primes.chunks(10) {
            let line: Vec<String> = line.iter().map(u64::to_string).collect();
            writeln!(out, "{}", line.join(" "))?;
        }
    }
    let new = primes.len() - known;
    writeln!(
        out,
        "{new} new primes, {} of {room}, the last is {last}",
        primes.len()
    )?;
    Ok(out.flush()?)
}
