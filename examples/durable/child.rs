//! Child of a crash test: opens the store, reports the found state, and works on it until it is
//! killed.
//!
//! The work follows from the seed and the number of the run; only the timing varies. The child
//! compares the memory with the model each time it opens the store, also after it closed or dropped
//! the store itself.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, Result};
use flatspan::mapping_cache::Access;
use flatspan::snapshot::{
    CaptureMode, DirectoryBackend, Durability, OnClose, Sequence, Store, StoreError, StoreOptions,
    Transaction,
};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::cli::ChildArgs;
use crate::exit;
use crate::fault::{Fault, FaultKind};
use crate::line::{Found, Line, Problem};
use crate::model::{self, Model, PAGE_BYTES, PAGES_MAX, PAGES_MIN, Step, UNIT_BYTES};
use crate::phase::PhaseFile;
use crate::phases::Phases;
use crate::random::Random;
use crate::recording_backend::{Pipe, RecordingBackend, Target};

/// Small, so that heaps and journals have many parts.
const PART_BYTES: u64 = 256 << 10;

/// Names in the directory of a crash test.
pub(crate) const STORE: &str = "store";
pub(crate) const PHASE: &str = "phase";

pub(crate) fn run(args: &ChildArgs) -> Result<u8> {
    // Kills this process when its parent ends.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let pipe = Arc::new(Pipe::stdout()?);
    let mut child = Child::new(args, Arc::clone(&pipe));
    loop {
        match child.life() {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(code)) => return Ok(code),
            Err(error) => {
                let kind = Problem::ChildExited;
                let text = format!("{error:#}");
                pipe.send(&Line::Fault { kind, text })?;
                return Ok(exit::PROBLEMS);
            }
        }
    }
}

struct Child<'a> {
    args: &'a ChildArgs,
    pipe: Arc<Pipe>,
    target: Arc<Target>,
    random: Random,
    begun: u64,
}

impl<'a> Child<'a> {
    fn new(args: &'a ChildArgs, pipe: Arc<Pipe>) -> Self {
        let target = Target {
            phase: args.target,
            call: args.call,
            linger: Duration::from_micros(args.linger_micros),
            calls: AtomicU64::new(0),
        };
        Self {
            args,
            pipe,
            target: Arc::new(target),
            // Differs from the sequence of every transaction.
            random: Random::of(&[args.seed, u64::MAX, args.run]),
            begun: args.begun,
        }
    }

    /// Works on the store from opening it until closing or dropping it.
    fn life(&mut self) -> Result<ControlFlow<u8>> {
        let store = match self.open() {
            Ok(store) => store,
            Err(error) => {
                self.fault(Problem::OpenFailed, format!("{error:#}"))?;
                return Ok(ControlFlow::Break(exit::PROBLEMS));
            }
        };
        let Some(mut model) = self.look(&store)? else {
            return Ok(ControlFlow::Break(exit::PROBLEMS));
        };
        if self.args.last {
            store.close()?;
            return Ok(ControlFlow::Break(exit::OK));
        }
        for _ in 0..self.random.within(5..60) {
            self.work(&store, &mut model)?;
        }
        if self.random.one_in(3) {
            drop(store);
        } else {
            store.close()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn open(&mut self) -> Result<Store> {
        let path = self.args.dir.join(STORE);
        let (options, syncs) = self.options();
        let disk = directory_backend(&path)?;
        let file =
            PhaseFile::open(&self.args.dir.join(PHASE)).context("cannot open the phase file")?;
        let disk = RecordingBackend::new(
            disk,
            file,
            Arc::clone(&self.pipe),
            Arc::clone(&self.target),
            Fault::new(self.args.fault),
            Phases::new(syncs),
        )?;
        let disk = Arc::new(disk);
        let store = Store::open_with_backend(Arc::<RecordingBackend>::clone(&disk), options)?;
        disk.opened()?;
        Ok(store)
    }

    /// Returns random options, and whether they include syncs.
    fn options(&mut self) -> (StoreOptions, bool) {
        let random = &mut self.random;
        // A deliberate fault shows only if the store syncs.
        let syncs = !random.one_in(4) || self.args.fault.is_some();
        let options = StoreOptions::default()
            .initial_bytes(PAGES_MIN * PAGE_BYTES)
            .reserve_bytes(PAGES_MAX * PAGE_BYTES)
            .part_bytes(PART_BYTES)
            .journal_bytes_max(random.within(64 << 10..512 << 10))
            .durability(if syncs {
                Durability::Power
            } else {
                Durability::Process
            })
            .capture_mode(if random.one_in(4) {
                CaptureMode::StopAndCopy
            } else {
                CaptureMode::PreCopy
            })
            .on_close(if random.one_in(4) {
                OnClose::RemoveOlder
            } else {
                OnClose::KeepBoth
            });
        if random.one_in(3) {
            (
                options.checkpoint_interval(Duration::from_millis(10)),
                syncs,
            )
        } else {
            (options, syncs)
        }
    }

    /// Reports the found state and compares it with the model. Returns `None` if they differ.
    fn look(&self, store: &Store) -> Result<Option<Model>> {
        let report = store.open_report();
        let number = store.view(model::number_in)?;
        self.pipe.send(&Line::Found(Found {
            number,
            generation: report.generation.get(),
            replayed_records: report.replayed_records,
            open_us: u64::try_from(report.duration.as_micros())?,
        }))?;
        if let Some(why) = &report.fallback_reason {
            self.fault(Problem::Fallback, why.clone())?;
            return Ok(None);
        }
        if number > self.begun {
            // The parent reports this. Computing a model of that number might take forever.
            return Ok(None);
        }
        let model = Model::at(self.args.seed, number);
        match store.view(|memory| model.check(memory))? {
            Ok(()) => {
                self.pipe.send(&Line::Fits)?;
                Ok(Some(model))
            }
            Err(mismatch) => {
                let text = format!("after transaction {number}: {mismatch}");
                self.fault(Problem::Torn, text)?;
                Ok(None)
            }
        }
    }

    fn work(&mut self, store: &Store, model: &mut Model) -> Result<()> {
        match self.random.within(0..12) {
            0 => {
                let report = store.checkpoint_base()?;
                let generation = report.generation.get();
                Ok(self.pipe.send(&Line::Checkpoint { generation })?)
            }
            1 => self.roll_back(store),
            2 | 3 => self.deferred(store, model),
            _ if self.args.fault == Some(FaultKind::SplitTransactions) => self.split(store, model),
            _ => {
                let steps = self.begin(model)?;
                store.transaction(|tx| perform(tx, self.args.seed, model.number, &steps))?;
                self.done(store, model.number)
            }
        }
    }

    /// Runs several transactions that wait for the disk together.
    fn deferred(&mut self, store: &Store, model: &mut Model) -> Result<()> {
        let mut last = Sequence::default();
        for _ in 0..self.random.within(2..6) {
            let steps = self.begin(model)?;
            let seed = self.args.seed;
            let mut tx = store.begin()?;
            perform(&mut tx, seed, model.number, &steps)?;
            last = tx.commit_deferred()?;
        }
        store.wait_durable(last)?;
        self.done(store, model.number)
    }

    /// Checks that a transaction that returns an error leaves no changes.
    fn roll_back(&mut self, store: &Store) -> Result<()> {
        let random = &mut self.random;
        let mut tx = store.begin()?;
        tx.bytes_mut(0..random.within(1..32) * PAGE_BYTES)?
            .fill(0xee);
        tx.resize(random.within(PAGES_MIN..PAGES_MAX + 1) * PAGE_BYTES)?;
        tx.bytes_mut(100..5000)?.fill(0xdd);
        tx.discard(3000..random.within(1..32) * PAGE_BYTES)?;
        // Dropping the transaction undoes its changes.
        Ok(())
    }

    /// Writes one transaction as two: a deliberate fault.
    fn split(&mut self, store: &Store, model: &mut Model) -> Result<()> {
        let steps = self.begin(model)?;
        let (last, rest) = steps
            .split_last()
            .context("a transaction has at least one step")?;
        for part in [std::slice::from_ref(last), rest] {
            store.transaction(|tx| perform(tx, self.args.seed, model.number, part))?;
        }
        self.done(store, model.number)
    }

    fn begin(&mut self, model: &mut Model) -> Result<Vec<Step>> {
        let steps = model.step();
        self.begun = model.number;
        self.pipe.send(&Line::Begin(model.number))?;
        Ok(steps)
    }

    fn done(&self, store: &Store, number: u64) -> Result<()> {
        let generation = store.generation().get();
        Ok(self.pipe.send(&Line::Done { number, generation })?)
    }

    fn fault(&self, kind: Problem, text: String) -> Result<()> {
        Ok(self.pipe.send(&Line::Fault { kind, text })?)
    }
}

fn directory_backend(path: &Path) -> Result<DirectoryBackend> {
    Ok(if path.exists() {
        DirectoryBackend::open(path, PART_BYTES, Access::ReadWrite)?
    } else {
        DirectoryBackend::create(path, PART_BYTES)?
    })
}

fn perform(
    tx: &mut Transaction<'_>,
    seed: u64,
    number: u64,
    steps: &[Step],
) -> Result<(), StoreError> {
    for step in steps {
        match step {
            Step::Write(units) => {
                let memory = tx.bytes_mut(model::bytes_of(units))?;
                model::fill(seed, number, units.clone(), memory);
            }
            Step::Discard(units) => tx.discard(model::bytes_of(units))?,
            Step::Resize(pages) => tx.resize(pages * PAGE_BYTES)?,
        }
    }
    Ok(())
}

const _: () = assert!(PAGE_BYTES.is_multiple_of(UNIT_BYTES as u64));
