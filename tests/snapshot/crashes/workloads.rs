//! Workloads of recorded stores.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use flatspan::snapshot::{
    Durability, OnClose, Store, StoreError, StoreOptions, TrackerChoice, Transaction, WriteMode,
};

use super::crash::Recorder;
use super::model::{Change, PAGE, Shape, after, step};

pub(crate) const PART_BYTES: u64 = 64 << 10;

/// Location of a store under test.
pub(crate) trait Ground {
    fn open(&self, way: Way) -> Result<Store, StoreError>;

    /// Notes that the store has acknowledged this step.
    fn mark(&self, number: u64);

    /// Called when the store returned an error and is about to be dropped.
    fn gave_up(&self, _way: Way, _store: &Store) {}
}

impl Ground for Recorder {
    fn open(&self, way: Way) -> Result<Store, StoreError> {
        Store::open_with_backend(Arc::new(self.clone()), way.options())
    }

    fn mark(&self, number: u64) {
        Self::mark(self, number);
    }
}

/// One way to use a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) changes: WriteMode,
    pub(crate) shape: Shape,
    pub(crate) on_close: OnClose,
    /// Whether a missing second heap is created when the store is opened.
    pub(crate) second_heap: bool,
    /// New part length of heaps. Defaults to the present one.
    pub(crate) part_bytes: Option<u64>,
    pub(crate) durability: Durability,
}

pub(crate) const TRANSACTIONS: Way = Way {
    changes: WriteMode::Transactions,
    shape: Shape {
        pages: 28,
        resizes: false,
    },
    on_close: OnClose::KeepBoth,
    second_heap: false,
    part_bytes: None,
    durability: Durability::Power,
};

pub(crate) const RESIZING: Way = Way {
    changes: WriteMode::Transactions,
    shape: Shape {
        pages: 40,
        resizes: true,
    },
    on_close: OnClose::KeepBoth,
    second_heap: false,
    part_bytes: None,
    durability: Durability::Power,
};

pub(crate) const WRITERS: Way = Way {
    changes: WriteMode::Tracked,
    shape: Shape {
        pages: 44,
        resizes: true,
    },
    on_close: OnClose::KeepBoth,
    second_heap: false,
    part_bytes: None,
    durability: Durability::Power,
};

/// One heap after each closing.
pub(crate) const FRUGAL: Way = Way {
    on_close: OnClose::RemoveOlder,
    ..TRANSACTIONS
};

/// One heap after each closing, and two again soon after.
pub(crate) const COPYING: Way = Way {
    second_heap: true,
    ..FRUGAL
};

pub(crate) const COPYING_WRITERS: Way = Way {
    on_close: OnClose::RemoveOlder,
    second_heap: true,
    ..WRITERS
};

/// The store is created with another part length.
pub(crate) const LONGER_PARTS: Way = Way {
    part_bytes: Some(2 * PART_BYTES),
    ..RESIZING
};

/// As above, and one heap is copied to parts of another length.
pub(crate) const COPIED_TO_LONGER_PARTS: Way = Way {
    second_heap: true,
    ..LONGER_PARTS
};

impl Way {
    /// Returns the same workload without durability against power cuts.
    pub(crate) const fn weak(self) -> Self {
        Self {
            durability: Durability::Process,
            ..self
        }
    }

    pub(crate) fn options(self) -> StoreOptions {
        let options = match self.part_bytes {
            Some(part_bytes) => StoreOptions::default()
                .part_bytes(part_bytes)
                .convert_part_bytes(true),
            None => StoreOptions::default(),
        };
        options
            .write_mode(self.changes)
            .on_close(self.on_close)
            .durability(self.durability)
            .tracker(TrackerChoice::HashCompare)
            .reserve_bytes(1 << 20)
            .initial_bytes(self.initial_bytes())
            .journal_bytes_max(u64::MAX)
    }

    fn initial_bytes(self) -> u64 {
        // Resizing stores may be shorter than they were at the start.
        if self.shape.resizes {
            0
        } else {
            self.shape.pages * PAGE
        }
    }

    pub(crate) fn open(self, ground: &impl Ground) -> Result<Store, StoreError> {
        let store = ground.open(self)?;
        if self.second_heap {
            store.create_second_heap()?;
        }
        Ok(store)
    }

    /// Makes one step, which is acknowledged.
    pub(crate) fn step(
        self,
        ground: &impl Ground,
        store: &Store,
        number: u64,
    ) -> Result<(), StoreError> {
        if self.changes == WriteMode::Transactions {
            store.transaction(|tx| self.change(tx, number))?;
        } else {
            for change in step(self.shape, number, store.len()) {
                match change {
                    Change::Resize(len) => store.resize(len)?,
                    Change::Write(at, bytes) => store.write_guard()?.write_at(at, &bytes)?,
                    Change::Discard(range) => store.write_guard()?.discard(range)?,
                }
            }
            match number % 3 {
                0 => store.checkpoint_base()?,
                _ => store.checkpoint_delta()?,
            };
        }
        ground.mark(number);
        Ok(())
    }

    fn change(self, tx: &mut Transaction<'_>, number: u64) -> Result<(), StoreError> {
        for change in step(self.shape, number, tx.len()) {
            match change {
                Change::Resize(len) => tx.resize(len)?,
                Change::Write(at, bytes) => tx.write_at(at, &bytes)?,
                Change::Discard(range) => tx.discard(range)?,
            }
        }
        Ok(())
    }

    /// Makes a transaction whose record becomes durable by the base that follows.
    pub(crate) fn step_and_base(
        self,
        ground: &impl Ground,
        store: &Store,
        number: u64,
    ) -> Result<(), StoreError> {
        let mut tx = store.begin()?;
        self.change(&mut tx, number)?;
        tx.commit_deferred()?;
        store.checkpoint()?;
        ground.mark(number);
        Ok(())
    }

    /// Writes the number of the step again: the checkpoint has a page to write, and memory is
    /// unchanged.
    pub(crate) fn touch(self, store: &Store, number: u64) -> Result<(), StoreError> {
        match self.changes {
            _ if store.len() < 8 => Ok(()),
            WriteMode::Transactions => {
                store.transaction(|tx| tx.write_at(0, &number.to_le_bytes()))
            }
            _ => store.write_guard()?.mark_dirty(0..8),
        }
    }

    /// Makes the next recorded step: every third one has a base.
    pub(crate) fn next(
        self,
        ground: &impl Ground,
        store: &Store,
        number: u64,
    ) -> Result<(), StoreError> {
        if self.changes == WriteMode::Transactions && number.is_multiple_of(3) {
            self.step_and_base(ground, store, number)
        } else {
            self.step(ground, store, number)
        }
    }

    /// Sets the memory to the initial state of the model.
    pub(crate) fn begin(self, store: &Store) -> Result<(), StoreError> {
        let len = self.shape.pages * PAGE;
        match self.changes {
            _ if store.len() == len => Ok(()),
            WriteMode::Transactions => store.transaction(|tx| tx.resize(len)),
            _ => store.resize(len),
        }
    }

    /// Returns the step that the memory corresponds to, or an error if it differs from the model.
    pub(crate) fn look(self, store: &Store) -> Result<u64, String> {
        let memory = self.memory(store)?;
        if memory.len() < 8 {
            // Before it was extended to the initial length of the model.
            return Ok(0);
        }
        let (number, _) = memory.split_first_chunk().ok_or("too short")?;
        let number = u64::from_le_bytes(*number);
        if number > 1000 {
            return Err(format!("step {number}"));
        }
        let expected = expected(self.shape, number);
        if memory == *expected {
            return Ok(number);
        }
        let at = memory
            .iter()
            .zip(&*expected)
            .position(|(found, model)| found != model);
        Err(format!(
            "after step {number} byte {at:?} is wrong ({} bytes, {} expected)",
            memory.len(),
            expected.len()
        ))
    }

    fn memory(self, store: &Store) -> Result<Vec<u8>, String> {
        let error = |error: StoreError| error.to_string();
        if self.changes == WriteMode::Transactions {
            store.view(<[u8]>::to_vec).map_err(error)
        } else {
            let inside = store.write_guard().map_err(error)?;
            let mut memory = vec![0; inside.len() as usize];
            inside.read_at(0, &mut memory).map_err(error)?;
            Ok(memory)
        }
    }
}

fn expected(shape: Shape, number: u64) -> Arc<Vec<u8>> {
    type Known = HashMap<(u64, bool, u64), Arc<Vec<u8>>>;
    thread_local!(static KNOWN: RefCell<Known> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        let key = (shape.pages, shape.resizes, number);
        let state = known.entry(key);
        Arc::clone(state.or_insert_with(|| Arc::new(after(shape, number))))
    })
}

/// Records steps from the first opening, bases between them, and the end with or without a clean
/// shutdown.
pub(crate) fn recorded(way: Way, steps: u64, closes: bool) -> Recorder {
    let disk = Recorder::unpublished(PART_BYTES);
    run(way, &disk, steps, closes).expect("no error");
    disk
}

/// Runs the workload on any ground, up to the first error.
pub(crate) fn run(
    way: Way,
    ground: &impl Ground,
    steps: u64,
    closes: bool,
) -> Result<(), StoreError> {
    let store = way.open(ground)?;
    all_steps(way, ground, &store, steps).inspect_err(|_| ground.gave_up(way, &store))?;
    if closes {
        store.close()?;
        // Opens it again, so that opening a closed store is crashed too.
        let store = way.open(ground)?;
        let stepped = way.step(ground, &store, steps + 1);
        stepped.inspect_err(|_| ground.gave_up(way, &store))?;
    }
    Ok(())
}

fn all_steps(way: Way, ground: &impl Ground, store: &Store, steps: u64) -> Result<(), StoreError> {
    way.begin(store)?;
    (1..=steps).try_for_each(|number| way.next(ground, store, number))
}
