//! `durable count`: a counter and a ring of its last values, which change together.

use std::io::{self, Write as _};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flatspan::snapshot::{Store, StoreError, StoreOptions};

use crate::cli::CountArgs;
use crate::{cancel_on_signal, exit};

const WORD_BYTES: u64 = 8;
/// Number of values in the ring after the counter.
const RING: u64 = 15;
/// Each step is durable in the journal; a checkpoint only makes the journal shorter.
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
    send(&greeting(&store, count))?;
    let end = args.times.map(|times| count + times);
    let mut printed = None;
    while end != Some(count) && !cancel.load(Ordering::Relaxed) {
        count = step(&store, count)?;
        if count.is_multiple_of(CHECKPOINT_EVERY) {
            store.checkpoint()?;
        }
        if printed.is_none_or(|at: Instant| at.elapsed() >= PRINT_EVERY) {
            send(&format!("at {count}"))?;
            printed = Some(Instant::now());
        }
    }
    store.close()?;
    send(&format!("closed at {count}"))?;
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

/// Returns the counter if the ring holds its last values.
fn read(memory: &[u8]) -> Option<u64> {
    let word = |place: u64| -> Option<u64> {
        let bytes = memory.get((place * WORD_BYTES) as usize..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    };
    let count = word(0)?;
    let mut last = count.saturating_sub(RING - 1)..count + 1;
    let fits = last.all(|value| word(ring_index(value)) == Some(value));
    fits.then_some(count)
}

/// Returns the index of the ring word for a value.
fn ring_index(value: u64) -> u64 {
    1 + value % RING
}

/// Adds one to the counter; the new value is durable on return.
fn step(store: &Store, count: u64) -> Result<u64, StoreError> {
    let next = count + 1;
    store.transaction(|tx| {
        tx.write_at(0, &next.to_le_bytes())?;
        tx.write_at(ring_index(next) * WORD_BYTES, &next.to_le_bytes())?;
        Ok(next)
    })
}

fn send(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
