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
    /// Makes a part of the second heap, if there is none. `ResourceBusy` if readers do not leave it within `patience`, in which checkpoints wait
    /// too.
    pub(crate) fn step_of_second_heap(
        &self,
        patience: Duration,
    ) -> Result<Progress, SnapshotError> {
        self.check()?;
        self.gate.refuse_inside("make_second_heap")?;
        if self.checkpoints_wanted.load(Ordering::Relaxed) > 0 {
            // A lock that is given back and taken again at once is seldom given to who waits for it.
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut checkpointer = self.checkpoints();
        let progress = checkpointer.step_of_second_heap(self, patience);
        self.generation
            .store(checkpointer.generation, Ordering::Relaxed);
        progress
    }
}

impl Checkpointer {
    fn step_of_second_heap(
        &mut self,
        inner: &Inner,
        patience: Duration,
    ) -> Result<Progress, SnapshotError> {
        let making = match self.making.take() {
            Some(making) => making,
            None if self.needs_second_heap() => self.enter_second_heap(inner, patience)?,
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
    fn enter_second_heap(
        &mut self,
        inner: &Inner,
        patience: Duration,
    ) -> Result<Making, SnapshotError> {
        let target = self.committed.heap.other();
        let alone_in_heap = inner.locks.writer_of(target, patience)?;
        heap::must_be_whole(&*inner.disk, &self.committed)?;
        let mut cost = Cost::default();
        self.sync_committed(inner, &mut cost)?;
        let generation = self.take_generation();
        self.take_lock(inner, target, generation, &mut cost)?;
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
            part_bytes: self.part_bytes_of[target as usize],
            generation,
            released: true,
            revision: 0,
            closed: false,
            end: None,
            committed_at: now(),
            ..self.committed
        };
        self.release_or_take_back(inner, &metadata, &mut cost)?;
        let table_bytes = inner.disk.len(Array::Table(target)).unwrap_or(u64::MAX);
        self.table.now_in(target, table_bytes);
        self.older = Some(std::mem::replace(&mut self.committed, metadata));
        self.generation = self.generation.max(generation);
        self.stale.copied(source, target);
        self.give_up_other_length();
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::snapshot::open;
    use crate::snapshot::options::{Changes, OnClose, StoreOptions};
    use crate::snapshot::report::CheckpointKind;
    use crate::snapshot::store::Store;

    /// Three steps, and one for the table.
    const PAGES: u64 = 40 << 8;

    fn options() -> StoreOptions {
        StoreOptions::default()
            .changes(Changes::Writers)
            .on_close(OnClose::DropOlder)
            .reserve_bytes(64 << 20)
            .initial_bytes(PAGES * PAGE_BYTES as u64)
    }

    fn opened(path: &Path) -> Inner {
        open::in_directory(path, options()).expect("a store").0
    }

    fn put(inner: &Inner, page: u64, byte: u8) {
        let at = page as usize * PAGE_BYTES;
        inner
            .region
            .copy_in(at, &[byte; PAGE_BYTES])
            .expect("written");
    }

    fn get(inner: &Inner, page: u64) -> u8 {
        let mut byte = [0];
        let at = page as usize * PAGE_BYTES;
        inner.region.copy_out(at, &mut byte).expect("read");
        byte[0]
    }

    /// With one heap, in which the first step was made.
    fn begun(path: &Path) -> Inner {
        let store = Store::open(path, options()).expect("a store");
        for page in 0..PAGES {
            let inside = store.enter().expect("the gate");
            let at = page * PAGE_BYTES as u64;
            inside.write(at, &[1; PAGE_BYTES]).expect("written");
        }
        store.close().expect("closed");
        let inner = opened(path);
        assert_eq!(
            inner.step_of_second_heap(Duration::ZERO).ok(),
            Some(Progress::More)
        );
        inner
    }

    fn to_the_end(inner: &Inner) -> Progress {
        loop {
            match inner.step_of_second_heap(Duration::ZERO).expect("a step") {
                Progress::More => {}
                end => return end,
            }
        }
    }

    #[test]
    fn deltas_between_the_steps_are_in_neither_heap_and_in_the_next_base() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("store");
        let inner = begun(&path);
        put(&inner, 7, 70);
        let delta = inner.checkpoint(Some(CheckpointKind::Delta));
        assert_eq!(delta.expect("a delta").pages, 1);
        inner.step_of_second_heap(Duration::ZERO).expect("a step");
        put(&inner, PAGES - 1, 71);
        assert_eq!(to_the_end(&inner), Progress::Made);
        put(&inner, 5000, 72);
        for pages in [3, 3] {
            let base = inner
                .checkpoint(Some(CheckpointKind::Base))
                .expect("a base");
            assert_eq!(base.pages, pages);
            inner.declared().insert(7);
            let look = |inner: &Inner| [7, PAGES - 1, 5000, 8].map(|page| get(inner, page));
            assert_eq!(look(&inner), [70, 71, 72, 1]);
        }
        drop(inner);
        let inner = opened(&path);
        let found = [7, PAGES - 1, 5000, 8].map(|page| get(&inner, page));
        assert_eq!(found, [70, 71, 72, 1]);
    }

    #[test]
    fn a_base_in_the_middle_takes_the_heap_and_ends_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("store");
        let inner = begun(&path);
        put(&inner, 9, 90);
        let base = inner
            .checkpoint(Some(CheckpointKind::Base))
            .expect("a base");
        assert_eq!(base.pages, PAGES);
        assert_eq!(to_the_end(&inner), Progress::NotNeeded);
        drop(inner);
        assert_eq!(get(&opened(&path), 9), 90);
    }

    #[test]
    fn ending_in_the_middle_leaves_a_heap_that_is_made_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("store");
        drop(begun(&path));
        let store = Store::open(&path, options()).expect("a store");
        let found = &store.open_report().other_heap;
        assert!(found.starts_with("was being written"), "{found}");
        store.close().expect("closed");
        let inner = opened(&path);
        assert_eq!(to_the_end(&inner), Progress::Made);
        assert_eq!(get(&inner, PAGES / 2), 1);
    }
}
