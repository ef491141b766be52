//! Base checkpoints: the older heap is brought up to the state of memory (docs/file-format.md, "Writing").
//!
//! ```text
//!   target heap    released g-1 --1--> taken g --2,3--> taken g, pages there --4--> released g
//!   a failure      in 1, 2, 3: the heap stays taken, its pages stay stale; a sync: the store is poisoned
//!                  in 4: the lock is written back, the store is poisoned
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use super::capture::{Capture, Captured, Sink};
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
use super::second_heap::Making;
use super::stale::Stale;
use super::table::Table;

/// What checkpoints know; one is made at a time.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    /// The heap that holds the newest base.
    pub(crate) committed: Metadata,
    /// Length of the parts that heaps are to have, and that each has now.
    pub(crate) part_bytes: u64,
    pub(crate) part_bytes_of: [u64; 2],
    pub(crate) table: Table,
    pub(crate) stale: Stale,
    pub(crate) next_generation: u64,
    /// The generation that is durable, in a heap or in the journal.
    pub(crate) generation: u64,
    /// Length of the region as the newest checkpoint has it.
    pub(crate) journal_payload_bytes: u64,
    /// Pages of the last delta after the newest base.
    pub(crate) last_delta_pages: Option<u64>,
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
    /// A second heap on its way.
    pub(crate) making: Option<Making>,
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
        // What it has is written over. The lock on the heap goes with it.
        self.making = None;
        self.make_sure(inner)?;
        let _alone_in_heap = inner
            .locks
            .writer_of(target, inner.options.readers_timeout)?;
        inner.journal.prepare_roll()?;
        let generation = self.take_generation();
        self.sync_committed(inner, &mut cost)?;
        self.take_lock(inner, target, generation, &mut cost)?;

        let writer = HeapWriter {
            inner,
            target,
            below: self.below == Some(target),
            done: Mutex::new((BTreeMap::new(), cost)),
        };
        let capture = Capture {
            inner,
            stale: &mut self.stale,
            into: Some(target),
        };
        let captured = capture.run(&writer)?;
        writer.write(&captured.buffer, captured.payload_bytes)?;
        let done = writer.done.into_inner();
        let (hashes, mut cost) = done.unwrap_or_else(PoisonError::into_inner);
        let metadata = Metadata {
            store: self.committed.store,
            heap: target,
            closed: false,
            part_bytes: self.part_bytes_of[target as usize],
            generation,
            released: true,
            revision: 0,
            payload_bytes: captured.payload_bytes,
            root: 0,
            sequence: captured.position.sequence,
            chain: captured.position.chain,
            journal: captured.position.journal,
            end: None,
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

    /// The only complete heap must be durable before the other one is entered (hazard 18).
    pub(crate) fn sync_committed(
        &self,
        inner: &Inner,
        cost: &mut Cost,
    ) -> Result<(), SnapshotError> {
        if inner.options.durability == Durability::Process {
            inner.sync_anyway(Array::Heap(self.committed.heap), cost)?;
            inner.sync_anyway(Array::Table(self.committed.heap), cost)?;
        }
        Ok(())
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

    /// The heap that is not committed is made anew by the next checkpoint into it if its parts have not the length that they are
    /// to have; until then it is a second chance.
    pub(crate) fn give_up_other_length(&mut self) {
        let other = self.committed.heap.other();
        if self.has_other_length(other) {
            self.stale.set_blank(other);
            self.uncompared = None;
        }
    }

    /// What the region maps stays as it is (hazard 10).
    fn has_other_length(&self, heap: HeapName) -> bool {
        self.part_bytes_of[heap as usize] != self.part_bytes && self.below != Some(heap)
    }

    fn remove_for_other_length(
        &mut self,
        inner: &Inner,
        heap: HeapName,
    ) -> Result<(), SnapshotError> {
        self.older = None;
        for array in [Array::Heap(heap), Array::Table(heap)] {
            match inner.disk.remove(array) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SnapshotError::disk("remove", array)(error));
                }
                _ => {}
            }
        }
        for array in [Array::Heap(heap), Array::Table(heap)] {
            let said = inner.disk.set_part_bytes(array, self.part_bytes);
            said.map_err(SnapshotError::disk("use", array))?;
        }
        self.part_bytes_of[heap as usize] = self.part_bytes;
        Ok(())
    }

    /// Step 1, and what a heap without anything in it needs.
    pub(crate) fn take_lock(
        &mut self,
        inner: &Inner,
        target: HeapName,
        generation: u64,
        cost: &mut Cost,
    ) -> Result<(), SnapshotError> {
        let disk = &*inner.disk;
        let arrays = [Array::Heap(target), Array::Table(target)];
        if self.has_other_length(target) {
            self.remove_for_other_length(inner, target)?;
        }
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
            part_bytes: self.part_bytes_of[target as usize],
            generation,
            released: false,
            revision: 0,
            closed: false,
            end: None,
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
        self.release_or_take_back(inner, &metadata, cost)?;
        let table_bytes = disk.len(Array::Table(target)).unwrap_or(u64::MAX);
        self.table.apply(target, table_bytes, update);
        self.older = Some(std::mem::replace(&mut self.committed, metadata));
        self.generation = metadata.generation;
        inner.journal.set_floor(metadata.floor);
        self.journal_payload_bytes = metadata.payload_bytes;
        self.last_delta_pages = None;
        self.journal_bytes_at_base = inner.journal.written_bytes();
        self.stale.committed(target);
        self.give_up_other_length();
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

    pub(crate) fn set_heap_len(
        &self,
        inner: &Inner,
        target: HeapName,
        len: u64,
    ) -> Result<(), SnapshotError> {
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
    pub(crate) fn release_or_take_back(
        &self,
        inner: &Inner,
        metadata: &Metadata,
        cost: &mut Cost,
    ) -> Result<(), SnapshotError> {
        self.release(inner, metadata, cost).inspect_err(|error| {
            let (disk, array) = (&*inner.disk, Array::Heap(metadata.heap));
            let taken = Metadata {
                released: false,
                ..*metadata
            };
            // Hazard 3. What becomes of it changes nothing: the store is poisoned, and opening looks at the disk.
            if !seeded(Fault::LockNotWrittenBack) {
                let _ = heap::write_metadata(disk, &taken).and_then(|()| heap::sync(disk, array));
            }
            inner.poison(error);
        })
    }

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
        self.making = None;
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

/// Step 2: writes pages, neighbours together, and notes their hashes. Pages of zeros become holes.
struct HeapWriter<'a> {
    inner: &'a Inner,
    target: HeapName,
    /// The region maps this heap.
    below: bool,
    done: Mutex<(BTreeMap<u64, u64>, Cost)>,
}

impl Sink for HeapWriter<'_> {
    fn write(&self, pages: &PageBuffer, _: u64) -> Result<(), SnapshotError> {
        let seed = self.inner.store.seed();
        let mut hashes = Vec::with_capacity(pages.len());
        let mut written = 0;
        for (first, bytes) in pages.runs() {
            let found = bytes.chunks_exact(PAGE_BYTES);
            let found: Vec<_> = found.map(|page| hash_page(seed, page)).collect();
            written += self.write_run(first, bytes, &found)?;
            hashes.extend((first..).zip(found));
        }
        if let (Some((first, _)), Some((last, _))) = (hashes.first(), hashes.last()) {
            let range = offset_of(*first)..offset_of(last + 1);
            self.inner.start_writing(Array::Heap(self.target), range);
        }
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.1.pages += hashes.len() as u64;
        done.1.bytes += written;
        done.0.extend(hashes);
        Ok(())
    }
}

impl HeapWriter<'_> {
    /// Returns how many bytes were written.
    fn write_run(&self, first: u64, bytes: &[u8], hashes: &[u64]) -> Result<u64, SnapshotError> {
        let array = Array::Heap(self.target);
        // Zeros are written where whoever maps the file would see a hole made.
        let is_hole = |hash: &u64| *hash == 0 && !self.below;
        let mut written = 0;
        let mut at = 0;
        for same in hashes.chunk_by(|a, b| is_hole(a) == is_hole(b)) {
            let part = at * PAGE_BYTES..(at + same.len()) * PAGE_BYTES;
            let start = offset_of(first + at as u64);
            if is_hole(&same[0]) {
                make_hole(self.inner, array, start..start + part.len() as u64)?;
            } else {
                written += part.len() as u64;
                let done = self.inner.disk.write(array, start, &bytes[part]);
                done.map_err(SnapshotError::disk("write pages of", array))?;
            }
            at += same.len();
        }
        Ok(written)
    }
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
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
