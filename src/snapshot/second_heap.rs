//! The second heap, made where there is none: a copy of the committed one, so that the first base checkpoint writes what changed
//! and not everything.
//!
//! ```text
//!   target heap    absent, or anything --1--> taken g --2--> taken g, image there --3--> released g
//!   a base         at any time: it takes the target with a generation of its own, and begins anew
//!   a failure      in 1, 2: what is there is removed; a sync: the store is poisoned
//! ```
//!
//! The copy has a generation of its own, higher than that of its source, and so is the committed heap when it is released; all
//! else in its METADATA is as in the source, the floor too, and the journal leads from either to the same state. With the
//! generation of its source it would be a twin, of which nobody can say who goes first.
//!
//! It is made in steps, and only a step keeps checkpoints out.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::checkpoint::{Checkpointer, Cost, now};
use super::disk::Array;
use super::error::SnapshotError;
use super::format::{METADATA_BYTES, Metadata, PAGE_BYTES};
use super::heap;
use super::inner::Inner;
use super::lock::HeapLock;
use super::options::Durability;

/// Copied at once: tens of milliseconds where storage cannot be shared.
const STEP_BYTES: u64 = 16 << 20;

/// A second heap that is not finished: the target is taken, and so far it has this much.
#[derive(Debug)]
pub(crate) struct Making {
    _alone_in_heap: HeapLock,
    generation: u64,
    /// Where the next step begins in the heap, then in the table.
    heap_at: u64,
    table_at: u64,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Another step is needed.
    More,
    /// The second heap was finished just now.
    Made,
    /// There is one, or it is not worth it.
    NotNeeded,
}

impl Inner {
    /// Makes a part of the second heap, if there is none.
    pub(crate) fn step_of_second_heap(&self) -> Result<Progress, SnapshotError> {
        self.check()?;
        self.gate.refuse_inside("make_second_heap")?;
        if self.checkpoints_wanted.load(Ordering::Relaxed) > 0 {
            // A lock that is given back and taken again at once is seldom given to who waits for it.
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut checkpointer = self.checkpoints();
        let progress = checkpointer.step_of_second_heap(self);
        self.generation
            .store(checkpointer.generation, Ordering::Relaxed);
        progress
    }
}

impl Checkpointer {
    fn step_of_second_heap(&mut self, inner: &Inner) -> Result<Progress, SnapshotError> {
        let making = match self.making.take() {
            Some(making) => making,
            None if self.needs_second_heap() => self.enter_second_heap(inner)?,
            None => return Ok(Progress::NotNeeded),
        };
        self.go_on(inner, making).inspect_err(|_| {
            if inner.check().is_ok() {
                self.leave_second_heap(inner);
            }
        })
    }

    fn needs_second_heap(&self) -> bool {
        let target = self.committed.heap.other();
        // An image of zeros costs a checkpoint nothing; and a heap that the region maps is not made anew (hazard 10).
        let is_empty = self.committed.root == 0;
        self.stale.is_blank(target) && !is_empty && self.below != Some(target)
    }

    /// Step 1.
    fn enter_second_heap(&mut self, inner: &Inner) -> Result<Making, SnapshotError> {
        let target = self.committed.heap.other();
        let timeout = inner.options.readers_timeout;
        let alone_in_heap = inner.locks.writer_of(target, timeout)?;
        heap::must_be_whole(&*inner.disk, &self.committed)?;
        self.sync_committed(inner)?;
        let generation = self.take_generation();
        self.take_lock(inner, target, generation, &mut Cost::default())?;
        Ok(Making {
            _alone_in_heap: alone_in_heap,
            generation,
            heap_at: METADATA_BYTES,
            table_at: 0,
        })
    }

    /// Steps 2 and 3.
    fn go_on(&mut self, inner: &Inner, mut making: Making) -> Result<Progress, SnapshotError> {
        let source = self.committed.heap;
        let target = source.other();
        let heap_end = METADATA_BYTES + self.committed.payload_bytes;
        let table = Array::Table(source);
        let table_end = inner.disk.len(table);
        let table_end = table_end.map_err(SnapshotError::disk("ask the length of", table))?;
        if making.heap_at < heap_end {
            let range = making.heap_at..heap_end.min(making.heap_at + STEP_BYTES);
            self.verify(inner, &range)?;
            making.heap_at = range.end;
            copy(inner, Array::Heap(source), Array::Heap(target), range)?;
        } else if making.table_at < table_end {
            let range = making.table_at..table_end.min(making.table_at + STEP_BYTES);
            making.table_at = range.end;
            copy(inner, table, Array::Table(target), range)?;
        }
        if making.heap_at < heap_end || making.table_at < table_end {
            self.making = Some(making);
            return Ok(Progress::More);
        }
        self.unverified = false;
        self.finish_second_heap(inner, making.generation)?;
        Ok(Progress::Made)
    }

    /// What was not verified yet is on the way: nothing is lost in a heap that holds nothing (hazard 5).
    fn verify(&mut self, inner: &Inner, range: &Range<u64>) -> Result<(), SnapshotError> {
        if !self.unverified {
            return Ok(());
        }
        let page_of = |offset: u64| (offset - METADATA_BYTES) / PAGE_BYTES as u64;
        let pages = page_of(range.start)..page_of(range.end);
        let ignore = |_: u64, _: &[u8]| Ok(());
        heap::read_pages(
            &*inner.disk,
            &self.committed,
            &mut self.table,
            pages,
            ignore,
            |_| (),
        )
        .inspect_err(|error| inner.poison(error))
    }

    /// Step 3.
    fn finish_second_heap(&mut self, inner: &Inner, generation: u64) -> Result<(), SnapshotError> {
        let source = self.committed.heap;
        let target = source.other();
        let mut cost = Cost::default();
        self.set_heap_len(inner, target, METADATA_BYTES + self.committed.payload_bytes)?;
        inner.sync(Array::Heap(target), &mut cost)?;
        inner.sync(Array::Table(target), &mut cost)?;
        let metadata = Metadata {
            heap: target,
            generation,
            released: true,
            revision: 0,
            closed: false,
            end: 0,
            committed_at: now(),
            ..self.committed
        };
        self.release_or_take_back(inner, &metadata, &mut cost)?;
        let table_bytes = inner.disk.len(Array::Table(target)).unwrap_or(u64::MAX);
        self.table.now_in(target, table_bytes);
        self.older = Some(std::mem::replace(&mut self.committed, metadata));
        self.generation = self.generation.max(generation);
        self.stale.copied(source, target);
        Ok(())
    }

    /// Gives its storage back: there may be too little. It is taken, so that whatever is left of it counts for nothing.
    fn leave_second_heap(&mut self, inner: &Inner) {
        let target = self.committed.heap.other();
        for array in [Array::Table(target), Array::Heap(target)] {
            let _ = inner.disk.remove(array);
        }
    }
}

/// And syncs it, so that the last barrier has little left to do.
fn copy(inner: &Inner, from: Array, to: Array, range: Range<u64>) -> Result<(), SnapshotError> {
    let copied = inner.disk.clone_range(from, to, range);
    copied.map_err(SnapshotError::disk("copy from the other heap to", to))?;
    if inner.options.durability == Durability::Power {
        inner.really_sync(to)?;
    }
    Ok(())
}
