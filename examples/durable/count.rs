//! `durable count`: a counter and a ring of its last values, which change together.

use std::io::{self, Write as _};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flatspan::snapshot::{SnapshotError, Store, StoreOptions};

use crate::cli::CountArgs;
use crate::{cancel_on_signal, exit};

const WORD_BYTES: u64 = 8;
/// The values behind the counter.
const RING: u64 = 15;
/// The journal has everything; a checkpoint makes it short.
const CHECKPOINT_EVERY: u64 = 1000;
const PRINT_EVERY: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &CountArgs) -> Result<u8> {
    let cancel = cancel_on_signal()?;
    let options = StoreOptions::default()
        .initial_bytes((1 + RING) * WORD_BYTES)
        .reserve_bytes(1 << 20);
    let store = Store::open(&args.store, options);
    let store = store.with_context(|| format!("cannot open {}", args.store.display()))?;
    let Some(mut count) = store.view(read)? else {
        eprintln!("durable: {} holds no count", args.store.display());
        return Ok(exit::PROBLEMS);
    };
    say(&greeting(&store, count))?;
    let end = args.times.map(|times| count + times);
    let mut printed = None;
    while end != Some(count) && !cancel.load(Ordering::Relaxed) {
        count = step(&store, count)?;
        if count.is_multiple_of(CHECKPOINT_EVERY) {
            store.checkpoint()?;
        }
        if printed.is_none_or(|at: Instant| at.elapsed() >= PRINT_EVERY) {
            say(&format!("at {count}"))?;
            printed = Some(Instant::now());
        }
    }
    store.close()?;
    say(&format!("closed at {count}"))?;
    Ok(exit::OK)
}

fn greeting(store: &Store, count: u64) -> String {
    let report = store.open_report();
    let verb = if report.created {
        "begins"
    } else {
        "continues"
    };
    format!(
        "{verb} at {count}, generation {}, {} records replayed",
        report.generation, report.replayed_records
    )
}

/// The counter, if the ring has its last values.
fn read(memory: &[u8]) -> Option<u64> {
    let word = |place: u64| -> Option<u64> {
        let bytes = memory.get((place * WORD_BYTES) as usize..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    };
    let count = word(0)?;
    let mut last = count.saturating_sub(RING - 1)..count + 1;
    let fits = last.all(|value| word(place_of(value)) == Some(value));
    fits.then_some(count)
}

/// In the ring.
fn place_of(value: u64) -> u64 {
    1 + value % RING
}

/// Counts one on. What is acknowledged is durable.
fn step(store: &Store, count: u64) -> Result<u64, SnapshotError> {
    let next = count + 1;
    store.transaction(|tx| {
        tx.write(0, &next.to_le_bytes())?;
        tx.write(place_of(next) * WORD_BYTES, &next.to_le_bytes())?;
        Ok(next)
    })
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
