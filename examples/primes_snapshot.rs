//! `primes_snapshot`: a table of prime numbers, computed without a pause while a host persists
//! snapshots of it.
//!
//! ```text
//! shm-restore --snapshot=queue STORE primes_snapshot
//! ```
//!
//! After every few primes the program commits a generation of its state to the queue, with the
//! number of primes as auxiliary data. After any end of this program or its host, the next run
//! continues with the newest remaining generation. That is the one in memory if the memory still
//! exists, else the newest one in the store. The program never waits for the host.

#[path = "sieve/mod.rs"]
mod sieve;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use flatspan::shm::queue::{Client, Generation, QueueOptions};
use flatspan::shm::{ListenFds, SHARED_FD_NAME};

const TABLE_BYTES: u64 = 1_000_000;
const ROOM: usize = (TABLE_BYTES / 8) as usize;

/// Finds primes and commits them to shared memory, and prints the table when it is full.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 done, 1 the memory holds other data or another failure, 2 no memory was passed, or wrong usage"
)]
struct Cli {
    /// Print no table.
    #[arg(long)]
    brief: bool,
    /// Number of new primes in each generation.
    #[arg(long, value_name = "PRIMES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    commit: u32,
    /// Delay before each generation.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 1000)]
    pause: u64,
    /// Print each generation on standard output.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (code, outcome) = match memory() {
        Ok(memory) => (1, run(&cli, memory)),
        Err(error) => (2, Err(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("primes_snapshot: {error:#}");
            ExitCode::from(code)
        }
    }
}

fn memory() -> Result<Client> {
    let memory = ListenFds::from_env()?.take(SHARED_FD_NAME)?;
    Ok(Client::open(memory, QueueOptions::new(TABLE_BYTES))?)
}

fn run(cli: &Cli, mut memory: Client) -> Result<()> {
    let mut primes = read(&memory)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "generation {}, {} primes of {ROOM}",
        memory.generation().map_or(0, Generation::get),
        primes.len()
    )?;
    out.flush()?;
    let mut found = Vec::new().into_iter();
    while primes.len() < ROOM {
        thread::sleep(Duration::from_micros(cli.pause));
        let known = primes.len();
        let wanted = (known + cli.commit as usize).min(ROOM);
        while primes.len() < wanted {
            match found.next() {
                Some(prime) => primes.push(prime),
                None => found = sieve::following(&primes).into_iter(),
            }
        }
        let new: Vec<u8> = primes[known..]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        let count = (primes.len() as u64).to_le_bytes();
        memory.commit_with_aux(&count, |commit| {
            commit.write(8 * known as u64, &new)?;
            Ok(())
        })?;
        if cli.verbose {
            writeln!(
                out,
                "generation {}, {} primes",
                memory.generation().map_or(0, Generation::get),
                primes.len()
            )?;
            out.flush()?;
        }
    }
    if !cli.brief {
        for line in primes.chunks(10) {
            let line: Vec<String> = line.iter().map(u64::to_string).collect();
            writeln!(out, "{}", line.join(" "))?;
        }
    }
    let last = primes[ROOM - 1];
    Ok(writeln!(out, "{ROOM} primes, the last is {last}")?)
}

/// Returns the table of the newest generation. Its auxiliary data is the number of primes.
fn read(memory: &Client) -> Result<Vec<u64>> {
    let mut bytes = vec![0; TABLE_BYTES as usize];
    memory.read(0, &mut bytes)?;
    let words = bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word));
    let primes: Vec<u64> = words.take_while(|word| *word != 0).collect();
    let count = memory.aux().try_into().map_or(0, u64::from_le_bytes);
    ensure!(
        primes.len() as u64 == count
            && primes.is_sorted_by(|a, b| a < b)
            && primes.first().is_none_or(|first| *first == 2),
        "the memory does not hold a table of {count} primes"
    );
    Ok(primes)
}
