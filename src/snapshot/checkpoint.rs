//! Base checkpoints: the older heap is brought up to the state of memory (docs/file-format.md, "Writing").
//!
//! ```text
//!   target heap    released g-1 --1--> taken g --2,3--> taken g, pages there --4--> released g
//!   a failure      in 1, 2, 3: the heap stays taken, its pages stay stale; a sync: the store is poisoned
//!                  in 4: the lock is written back, the store is poisoned
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::capture::{Capture, Captured};
use super::disk::Array;
use super::error::SnapshotError;
use super::fault::{Fault, seeded};
use super::format::{HeapName, METADATA_BYTES, Metadata, PAGE_BYTES, hash_page};
use super::heap::{self, offset_of};
use super::inner::Inner;
use super::journal::Position;
use super::options::{Changes, Durability};
use super::page_buffer::PageBuffer;
use super::report::{CheckpointKind, CheckpointReport};
use super::stale::Stale;
use super::table::Table;

/// What checkpoints know; one is made at a time.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    /// The heap that holds the newest base.
    pub(crate) committed: Metadata,
    pub(crate) table: Table,
    pub(crate) stale: Stale,
    pub(crate) next_generation: u64,
    /// The generation that is durable, in a heap or in the journal.
    pub(crate) generation: u64,
    /// Length of the region as the newest checkpoint has it.
    pub(crate) journal_payload_bytes: u64,
    /// Journal bytes written before the newest base.
    pub(crate) journal_bytes_at_base: u64,
    /// The files that the region maps privately: they are not cut and get no holes (hazard 10).
    pub(crate) below: Option<HeapName>,
    /// The header of the heap that is not committed, as long as it is a complete older image.
    pub(crate) older: Option<Metadata>,
    /// The committed heap was not verified yet (hazard 5).
    pub(crate) unverified: bool,
    /// The other heap's pages are known to differ only once the tables were compared.
    pub(crate) uncompared: Option<Metadata>,
}

/// Counts what a checkpoint costs.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    pub(crate) bytes: u64,
    pub(crate) pages: u64,
    pub(crate) barriers: u32,
}

impl Checkpointer {
    /// Brings the older heap up to now. The caller has decided that this is the kind to make.
    pub(crate) fn base(
        &mut self,
        inner: &Inner,
        why: String,
    ) -> Result<CheckpointReport, SnapshotError> {
        let begun = Instant::now();
        let target = self.committed.heap.other();
        let mut cost = Cost::default();
        self.make_sure(inner)?;
        let _alone_in_heap = inner
            .locks
            .writer_of(target, inner.options.readers_timeout)?;
        inner.journal.prepare_roll()?;
        let generation = self.take_generation();
        if inner.options.durability == Durability::Process {
            // The only complete heap must be durable before the other one is entered (hazard 18).
            inner.sync_anyway(Array::Heap(self.committed.heap), &mut cost)?;
            inner.sync_anyway(Array::Table(self.committed.heap), &mut cost)?;
        }
        self.take_lock(inner, target, generation, &mut cost)?;

        let mut hashes = BTreeMap::new();
        let captured = {
            let below = self.below == Some(target);
            let mut write = |pages: &PageBuffer| {
                write_pages(inner, target, below, pages, &mut hashes, &mut cost)
            };
            let capture = Capture {
                inner,
                stale: &mut self.stale,
                into: Some(target),
            };
            let captured = capture.run(&mut write)?;
            write(&captured.buffer)?;
            captured
        };
        let metadata = Metadata {
            store: self.committed.store,
            heap: target,
            closed: false,
            part_bytes: self.committed.part_bytes,
            generation,
            released: true,
            revision: 0,
            payload_bytes: captured.payload_bytes,
            root: 0,
            sequence: captured.position.sequence,
            chain: captured.position.chain,
            journal: captured.position.journal,
            end: 0,
            committed_at: now(),
            floor: match inner.options.changes {
                // The journal leads here from the heap before, too.
                Changes::Transactions => self.committed.floor,
                // What changed since the last checkpoint is in no record.
                Changes::Writers => generation,
            },
        };
        self.finish_base(inner, metadata, hashes, &mut cost)?;
        let Captured {
            rounds,
            pause,
            position: Position { sequence, .. },
            ..
        } = captured;
        Ok(CheckpointReport {
            kind: CheckpointKind::Base,
            why,
            strategy: inner.options.strategy,
            tracker: inner.tracking().kind(),
            generation,
            sequence,
            pages: cost.pages,
            bytes: cost.bytes,
            rounds,
            pause,
            barriers: cost.barriers,
            took: begun.elapsed(),
        })
    }

    /// What must be known before a heap is entered.
    fn make_sure(&mut self, inner: &Inner) -> Result<(), SnapshotError> {
        let disk = &*inner.disk;
        if self.unverified {
            let ignore = |_: u64, _: &[u8]| Ok(());
            heap::read_image(disk, &self.committed, &mut self.table, ignore, |_| ())
                .inspect_err(|error| inner.poison(error))?;
            self.unverified = false;
        }
        if seeded(Fault::UnionForgotten) {
            self.uncompared = None;
        }
        if let Some(other) = self.uncompared {
            let pages = other.pages().max(self.committed.pages());
            let differ = Table::open(disk, other.heap, other.seed(), other.root)
                .and_then(|mut table| self.table.differences(disk, &mut table, pages));
            match differ {
                Ok(differ) => self.stale.add_to(other.heap, &differ),
                // Lost, or half removed when the store was closed: all of that heap is written anew.
                Err(SnapshotError::Damaged { array, .. } | SnapshotError::Disk { array, .. })
                    if array == Array::Table(other.heap) =>
                {
                    self.stale.set_blank(other.heap)
                }
                Err(error) => return Err(error),
            }
            self.uncompared = None;
        }
        Ok(())
    }

    pub(crate) fn take_generation(&mut self) -> u64 {
        if seeded(Fault::GenerationNotAdvanced) {
            return self.generation;
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }

    /// Step 1, and what a heap without anything in it needs.
    fn take_lock(
        &mut self,
        inner: &Inner,
        target: HeapName,
        generation: u64,
        cost: &mut Cost,
    ) -> Result<(), SnapshotError> {
        let disk = &*inner.disk;
        let arrays = [Array::Heap(target), Array::Table(target)];
        if self.stale.is_blank(target) {
            for array in arrays {
                heap::remove_if_broken(disk, array)?;
                match disk.create(array) {
                    Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                        return Err(SnapshotError::disk("make", array)(error));
                    }
                    _ => {}
                }
            }
        }
        let taken = Metadata {
            heap: target,
            generation,
            released: false,
            revision: 0,
            closed: false,
            end: 0,
            ..self.committed
        };
        if !seeded(Fault::LockNotTaken) {
            heap::write_metadata(disk, &taken)?;
        }
        // From here on it is no second chance.
        self.older = None;
        cost.bytes += 2 * PAGE_BYTES as u64;
        // Also where only the end of the process is to be survived: pages that landed without the lock would look like those
        // of the older image (hazard 2), and stay in the next one.
        inner.sync_anyway(Array::Heap(target), cost)?;
        if self.stale.is_blank(target) {
            // Whatever is there is of no use, and holes are zeros.
            for (array, len) in [(arrays[0], METADATA_BYTES), (arrays[1], 0)] {
                disk.set_len(array, len)
                    .map_err(SnapshotError::disk("cut", array))?;
            }
        }
        Ok(())
    }

    /// Steps 3 to 5.
    fn finish_base(
        &mut self,
        inner: &Inner,
        mut metadata: Metadata,
        mut hashes: BTreeMap<u64, u64>,
        cost: &mut Cost,
    ) -> Result<(), SnapshotError> {
        let disk = &*inner.disk;
        let target = metadata.heap;
        let pages = metadata.pages();
        if seeded(Fault::StaleClearedEarly) {
            self.stale.committed(target);
        }
        // What was cut off has no hash.
        hashes.split_off(&pages);
        self.check_unchanged(inner, &hashes)?;
        let gone = pages..self.committed.pages().max(pages);
        let stale = self.stale.of(target, 0);
        let stale = stale.runs().flat_map(|run| run.start.max(pages)..run.end);
        hashes.extend(gone.chain(stale).map(|page| (page, 0)));
        let update = self.table.update(disk, &hashes)?;
        cost.bytes += update.write(disk, target)?;
        let array = Array::Heap(target);
        self.set_heap_len(inner, target, METADATA_BYTES + metadata.payload_bytes)?;
        inner.sync(array, cost)?;
        inner.sync(Array::Table(target), cost)?;
        // A header that is there promises all records up to its sequence, whatever is to be survived.
        inner.journal.commit_synced(metadata.sequence)?;
        inner.check_memory()?;
        metadata.root = update.root;
        if seeded(Fault::JournalsDroppedEarly) {
            remove_journals_before(inner, metadata.journal);
        }
        if let Err(error) = self.release(inner, &metadata, cost) {
            let taken = Metadata {
                released: false,
                ..metadata
            };
            // Hazard 3. What becomes of it changes nothing: the store is poisoned, and opening looks at the disk.
            if !seeded(Fault::LockNotWrittenBack) {
                let _ = heap::write_metadata(disk, &taken).and_then(|()| heap::sync(disk, array));
            }
            inner.poison(&error);
            return Err(error);
        }
        let table_bytes = disk.len(Array::Table(target)).unwrap_or(u64::MAX);
        self.table.apply(target, table_bytes, update);
        self.older = Some(std::mem::replace(&mut self.committed, metadata));
        self.generation = metadata.generation;
        inner.journal.set_floor(metadata.floor);
        self.journal_payload_bytes = metadata.payload_bytes;
        self.journal_bytes_at_base = inner.journal.written_bytes();
        self.stale.committed(target);
        self.remove_journals(inner);
        Ok(())
    }

    /// A page of which nobody said that it changed since the committed heap was written must be as it is there: it was
    /// verified (hazard 5), and a tracker that missed a store is found out.
    fn check_unchanged(
        &mut self,
        inner: &Inner,
        hashes: &BTreeMap<u64, u64>,
    ) -> Result<(), SnapshotError> {
        let source = self.committed.heap;
        let pages = self.committed.pages();
        for (page, hash) in hashes.range(..pages) {
            if self.stale.contains(source, *page) {
                continue;
            }
            if self.table.hash_of(&*inner.disk, *page)? != *hash {
                let error = SnapshotError::Untracked {
                    page: *page,
                    why: "a store that the tracker cannot see, or bad memory",
                };
                inner.poison(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    fn set_heap_len(&self, inner: &Inner, target: HeapName, len: u64) -> Result<(), SnapshotError> {
        let array = Array::Heap(target);
        let present = inner.disk.len(array);
        let present = present.map_err(SnapshotError::disk("ask the length of", array))?;
        if present < len || (present > len && self.below != Some(target)) {
            let set = inner.disk.set_len(array, len);
            set.map_err(SnapshotError::disk("set the length of", array))?;
        }
        Ok(())
    }

    /// Step 4.
    fn release(
        &self,
        inner: &Inner,
        metadata: &Metadata,
        cost: &mut Cost,
    ) -> Result<(), SnapshotError> {
        heap::write_metadata(&*inner.disk, metadata)?;
        cost.bytes += 2 * PAGE_BYTES as u64;
        inner.sync(Array::Heap(metadata.heap), cost)
    }

    /// The older heap is given up, with its storage.
    pub(crate) fn drop_older(&mut self, inner: &Inner) -> Result<(), SnapshotError> {
        let older = self.committed.heap.other();
        let _alone_in_heap = inner
            .locks
            .writer_of(older, inner.options.readers_timeout)?;
        self.older = None;
        self.stale.set_blank(older);
        for array in [Array::Heap(older), Array::Table(older)] {
            match inner.disk.remove(array) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SnapshotError::disk("remove", array)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Step 5. What cannot be removed now is removed after a later checkpoint.
    pub(crate) fn remove_journals(&self, inner: &Inner) {
        let older = self.older.map_or(u64::MAX, |older| older.journal);
        let needed = match seeded(Fault::OlderJournalsDropped) {
            true => self.committed.journal,
            false => self.committed.journal.min(older),
        };
        remove_journals_before(inner, needed);
    }
}

fn remove_journals_before(inner: &Inner, needed: u64) {
    let Ok(numbers) = super::replay::numbers(&*inner.disk) else {
        return;
    };
    for number in numbers.into_iter().filter(|number| *number < needed) {
        let _ = inner.disk.remove(Array::Journal(number));
    }
}

/// Step 2: writes pages in order, neighbours together, and notes their hashes. Pages of zeros become holes.
fn write_pages(
    inner: &Inner,
    target: HeapName,
    below: bool,
    pages: &PageBuffer,
    hashes: &mut BTreeMap<u64, u64>,
    cost: &mut Cost,
) -> Result<(), SnapshotError> {
    let seed = inner.store.seed();
    let array = Array::Heap(target);
    for (first, bytes) in pages.runs() {
        let all = bytes.chunks_exact(PAGE_BYTES);
        let found: Vec<_> = all.map(|page| hash_page(seed, page)).collect();
        hashes.extend((first..).zip(found.iter().copied()));
        cost.pages += found.len() as u64;
        // Zeros are written where whoever maps the file would see a hole made.
        let is_hole = |hash: &u64| *hash == 0 && !below;
        let mut at = 0;
        for same in found.chunk_by(|a, b| is_hole(a) == is_hole(b)) {
            let part = at * PAGE_BYTES..(at + same.len()) * PAGE_BYTES;
            let start = offset_of(first + at as u64);
            if is_hole(&same[0]) {
                make_hole(inner, array, start..start + part.len() as u64)?;
            } else {
                cost.bytes += part.len() as u64;
                let done = inner.disk.write(array, start, &bytes[part]);
                done.map_err(SnapshotError::disk("write pages of", array))?;
            }
            at += same.len();
        }
    }
    Ok(())
}

/// What lies behind the end is a hole already.
fn make_hole(inner: &Inner, array: Array, range: Range<u64>) -> Result<(), SnapshotError> {
    let present = inner.disk.len(array);
    let present = present.map_err(SnapshotError::disk("ask the length of", array))?;
    let end = range.end.min(present);
    if range.start < end {
        let done = inner.disk.discard(array, range.start..end);
        done.map_err(SnapshotError::disk("make a hole in", array))?;
    }
    Ok(())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
