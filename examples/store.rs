//! A store with transactions: two balances that change together, and survive a crash.
//!
//! Each run transfers 10 from the first balance to the second in one durable transaction, then
//! prints both. Kill it at any time: the sum stays the same.
//!
//! ```text
//! cargo run --example store -- /tmp/balances
//! ```

use std::env;
use std::error::Error;

use flatspan::snapshot::{Store, StoreError, StoreOptions};

const START: i64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: store DIRECTORY")?;
    let store = Store::open(path, StoreOptions::default().initial_bytes(4096))?;
    if store.open_report().created {
        set_balances(&store, [START, 0])?;
    }
    let [from, to] = store.view(balances)?;
    set_balances(&store, [from - 10, to + 10])?;
    println!("{:?}", store.view(balances)?);
    // A checkpoint shortens the journal. It is not needed for durability.
    store.checkpoint()?;
    store.close()?;
    Ok(())
}

/// Writes both balances in one transaction, which is durable on return.
fn set_balances(store: &Store, [from, to]: [i64; 2]) -> Result<(), StoreError> {
    store.transaction(|tx| {
        tx.write_at(0, &from.to_le_bytes())?;
        tx.write_at(8, &to.to_le_bytes())
    })
}

fn balances(memory: &[u8]) -> [i64; 2] {
    let words = memory.as_chunks().0;
    [i64::from_le_bytes(words[0]), i64::from_le_bytes(words[1])]
}
