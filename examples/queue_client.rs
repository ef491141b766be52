//! A queue client and its host: the client commits generations, the host persists the newest one.
//!
//! Both run in one process here. Usually the host is another process (`shm-restore`), and the
//! client never waits for it. Run this twice: the second run continues with the stored state.
//!
//! ```text
//! cargo run --example queue_client -- /tmp/queue
//! ```

use std::env;
use std::error::Error;

use flatspan::shm::Memfd;
use flatspan::shm::queue::{
    Client, QueueError, QueueHost, QueueHostOptions, QueueOptions, SnapshotOutcome,
};

const STATE_BYTES: u64 = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: queue_client STORE")?;
    // The host restores the newest stored generation into the memfd.
    let memfd = Memfd::create("counter", 0)?;
    let mut host = QueueHost::open(path, memfd.try_clone()?, QueueHostOptions::default())?;

    let mut client = Client::open(memfd, QueueOptions::new(STATE_BYTES))?;
    println!("count at start: {}", read(&client)?);
    for _ in 0..1000 {
        increment(&mut client)?;
    }

    match host.snapshot()? {
        SnapshotOutcome::Persisted { .. } => println!("persisted: {:?}", client.last_persisted()),
        _ => println!("nothing new to persist"),
    }
    println!("count at end: {}", read(&client)?);
    host.close()?;
    Ok(())
}

fn read(client: &Client) -> Result<u64, QueueError> {
    let mut word = [0; 8];
    client.read(0, &mut word)?;
    Ok(u64::from_le_bytes(word))
}

/// Publishes one generation: the host sees all of its writes, or none.
fn increment(client: &mut Client) -> Result<(), QueueError> {
    let next = read(client)? + 1;
    client.commit(|update| {
        update.write(0, &next.to_le_bytes())?;
        update.write(STATE_BYTES - 8, &next.to_le_bytes())
    })
}
