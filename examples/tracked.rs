//! Tracked memory: threads write directly to the region, and checkpoints store the changed pages.
//!
//! Four threads write while the main thread takes checkpoints. Each checkpoint is of one point in
//! time. After a crash the next run restores the last checkpoint.
//!
//! ```text
//! cargo run --example tracked -- /tmp/tracked
//! ```

use std::env;
use std::error::Error;
use std::thread;
use std::time::Duration;

use flatspan::snapshot::{Store, StoreError, StoreOptions, WriteMode};

const PAGE_BYTES: u64 = 4096;
const ROUNDS: u64 = 5000;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: tracked DIRECTORY")?;
    let options = StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .initial_bytes(1024 * PAGE_BYTES);
    let store = Store::open(path, options)?;
    println!("restored generation {}", store.generation());
    let writing = &store;
    thread::scope(|scope| -> Result<(), StoreError> {
        let writers: Vec<_> = (0..4)
            .map(|id| scope.spawn(move || write(writing, id)))
            .collect();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let report = store.checkpoint()?;
            println!(
                "generation {}: {} pages, writers paused for {:?}",
                report.generation, report.written_pages, report.pause_duration
            );
            thread::sleep(Duration::from_millis(5));
        }
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().expect("writers do not panic"))
    })?;
    // Closing takes a last checkpoint.
    store.close()?;
    Ok(())
}

/// Writes one page per round. A checkpoint waits until the write guard is dropped.
fn write(store: &Store, id: u64) -> Result<(), StoreError> {
    for round in 0..ROUNDS {
        let page = (4 * round + id) % 1024;
        store
            .write_guard()?
            .write_at(page * PAGE_BYTES, &round.to_le_bytes())?;
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}
