//! Durable checkpoints of a paged state, compared with LMDB and redb on the same work, alternately
//! within one process.
//!
//! The state consists of values of 4 KiB, with a total of `FLATSPAN_BENCH_BYTES` (defaults to 1
//! GiB). Each round changes a share of them at random and makes the result durable. Two flatspan
//! stores take part: one with tracked memory and checkpoints, one with transactions.

use std::time::{Duration, Instant};

use flatspan::snapshot::{CheckpointKind, Store, StoreOptions, WriteMode};
use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions};
use redb::{ReadableDatabase as _, TableDefinition};
use tempfile::TempDir;

const PAGE_BYTES: u64 = 4096;
const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("pages");

fn state_bytes() -> u64 {
    let set = std::env::var("FLATSPAN_BENCH_BYTES").ok();
    set.map_or(1 << 30, |text| text.parse().expect("a number"))
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn value(page: u64, round: u64) -> Vec<u8> {
    let mut value = vec![(page ^ round) as u8 | 1; PAGE_BYTES as usize];
    value[..8].copy_from_slice(&round.to_le_bytes());
    value
}

/// Library under comparison.
trait Peer {
    fn name(&self) -> &'static str;
    /// Changes these pages, and returns when the changes are durable.
    fn commit(&mut self, pages: &[u64], round: u64);
}

struct Ours {
    store: Store,
    bases: u64,
}

impl Ours {
    fn new(dir: &TempDir) -> Self {
        let options = StoreOptions::default()
            .write_mode(WriteMode::Tracked)
            .reserve_bytes(state_bytes())
            .initial_bytes(state_bytes());
        let store = Store::open(dir.path().join("flatspan"), options).expect("a store");
        Self { store, bases: 0 }
    }
}

impl Peer for Ours {
    fn name(&self) -> &'static str {
        "flatspan"
    }

    fn commit(&mut self, pages: &[u64], round: u64) {
        let inside = self.store.write_guard().expect("access lock is free");
        for page in pages {
            inside.write_at(page * PAGE_BYTES, &value(*page, round)).expect("written");
        }
        drop(inside);
        let report = self.store.checkpoint().expect("a checkpoint");
        self.bases += u64::from(report.kind == CheckpointKind::Base);
    }
}

struct OurTransactions(Store);

impl OurTransactions {
    fn new(dir: &TempDir) -> Self {
        let options = StoreOptions::default()
            .reserve_bytes(state_bytes())
            .initial_bytes(state_bytes());
        Self(Store::open(dir.path().join("transactions"), options).expect("a store"))
    }
}

impl Peer for OurTransactions {
    fn name(&self) -> &'static str {
        "flatspan, transactions"
    }

    fn commit(&mut self, pages: &[u64], round: u64) {
        let done = self.0.transaction(|tx| {
            for page in pages {
                tx.write_at(page * PAGE_BYTES, &value(*page, round))?;
            }
            Ok(())
        });
        done.expect("durable");
    }
}

struct Lmdb {
    env: Env,
    table: Database<Bytes, Bytes>,
}

impl Lmdb {
    fn new(dir: &TempDir) -> Self {
        let path = dir.path().join("lmdb");
        std::fs::create_dir(&path).expect("a directory");
        let size = usize::try_from(8 * state_bytes()).expect("64 bit");
        // SAFETY: the directory belongs to this process and is opened once.
        let env = unsafe { EnvOpenOptions::new().map_size(size).open(path) }.expect("LMDB");
        let mut txn = env.write_txn().expect("a transaction");
        let table = env.create_database(&mut txn, None).expect("a table");
        txn.commit().expect("durable");
        Self { env, table }
    }
}

impl Peer for Lmdb {
    fn name(&self) -> &'static str {
        "LMDB"
    }

    fn commit(&mut self, pages: &[u64], round: u64) {
        let mut txn = self.env.write_txn().expect("a transaction");
        for page in pages {
            let put = self.table.put(&mut txn, &page.to_be_bytes(), &value(*page, round));
            put.expect("write succeeds");
        }
        txn.commit().expect("durable");
    }
}

struct Redb(redb::Database);

impl Redb {
    fn new(dir: &TempDir) -> Self {
        let database = redb::Database::create(dir.path().join("redb")).expect("redb");
        assert!(database.begin_read().is_ok());
        Self(database)
    }
}

impl Peer for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn commit(&mut self, pages: &[u64], round: u64) {
        let txn = self.0.begin_write().expect("a transaction");
        {
            let mut table = txn.open_table(TABLE).expect("a table");
            for page in pages {
                table.insert(page, &*value(*page, round)).expect("write succeeds");
            }
        }
        txn.commit().expect("durable");
    }
}

fn main() {
    let dir = TempDir::with_prefix("flatspan-peers-").expect("a directory");
    let all: Vec<u64> = (0..state_bytes() / PAGE_BYTES).collect();
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(Ours::new(&dir)),
        Box::new(OurTransactions::new(&dir)),
        Box::new(Lmdb::new(&dir)),
        Box::new(Redb::new(&dir)),
    ];
    for peer in &mut peers {
        for part in all.chunks(16 << 10) {
            peer.commit(part, 1);
        }
    }
    let mut state = 5;
    for (share, one_in, rounds) in [("0.1", 1000, 30), ("1", 100, 30), ("10", 10, 30), ("100", 1, 4)] {
        let mut times = vec![Vec::new(); peers.len()];
        for round in 0..rounds {
            let mut pages: Vec<_> = match one_in {
                1 => all.clone(),
                _ => (0..all.len() / one_in)
                    .map(|_| random(&mut state) % all.len() as u64)
                    .collect(),
            };
            pages.sort_unstable();
            pages.dedup();
            for (peer, times) in peers.iter_mut().zip(&mut times) {
                let begun = Instant::now();
                peer.commit(&pages, round + 2);
                times.push(begun.elapsed());
            }
        }
        let means: Vec<_> = times
            .iter()
            .map(|times| times.iter().sum::<Duration>() / times.len() as u32)
            .collect();
        for (peer, mean) in peers.iter().zip(&means) {
            println!(
                "RATIO {share} % of {} MiB, mean of {rounds}: {} {mean:.1?}, {:.2} times ours",
                state_bytes() >> 20,
                peer.name(),
                mean.as_secs_f64() / means[0].as_secs_f64()
            );
        }
    }
}
