//! Assembly of an open store from a restored heap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::OpenReport;
use super::restore::Restored;
use super::select::Newest;
use crate::numbers::{Generation, JournalNumber};
use crate::snapshot::backend::{StorageBackend, StoreLocks};
use crate::snapshot::checkpoint::{Checkpointer, StoreInner, StoreParts};
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{Copies, HeapName, METADATA_BYTES, Metadata};
use crate::snapshot::heap::{HeapHeaders, HeapState, StalePages};
use crate::snapshot::journal::{Journal, JournalStart};
use crate::snapshot::memory::{MemorySettings, StoreMemory, pages_of};
use crate::snapshot::modes::{Durability, Restore, WriteMode};
use crate::snapshot::options::{MemorySource, StoreOptions};
use crate::snapshot::page_set::PageSet;
use crate::snapshot::poison::Poison;
use crate::snapshot::region::Region;
use crate::snapshot::store_files::StoreFiles;
use crate::snapshot::tracker::{self, RegionTracker, TrackerKind};

/// Restored store whose files are ready for writing.
pub(super) struct Opened {
    pub(super) disk: Arc<dyn StorageBackend>,
    pub(super) locks: StoreLocks,
    pub(super) options: StoreOptions,
    /// Headers as they were before opening.
    pub(super) headers: HeapHeaders,
    pub(super) newest: Newest,
    /// Rewritten METADATA of the restored heap.
    pub(super) committed: Metadata,
    pub(super) next_number: JournalNumber,
    pub(super) next_generation: Generation,
}

impl Opened {
    /// Returns the open store, and the report of opening it since `begun`.
    pub(super) fn assemble(self, begun: Instant) -> Result<(StoreInner, OpenReport), StoreError> {
        let (tracker, armed) = arm_tracker(&self.newest.restored.region, &self.options)?;
        let mut report = self.report(armed);
        let (stale, fallback) = self.initial_stale();
        let journal = self.journal();
        let generation = self.generation();
        let mut checkpointer = Checkpointer {
            part_bytes: self
                .options
                .changed_part_bytes()
                .unwrap_or(self.committed.part_bytes),
            part_bytes_of: part_lengths(&self.headers, &*self.disk),
            committed: self.committed,
            tree: self.newest.restored.tree,
            stale,
            next_generation: self.next_generation,
            generation,
            journal_payload_bytes: if report.attached {
                // An impossible length makes the first checkpoint write everything.
                u64::MAX
            } else {
                report.region_bytes
            },
            last_delta_pages: None,
            journal_bytes_at_base: 0,
            mapped_heap: (self.options.restore == Restore::Map).then_some(self.committed.heap),
            fallback,
            is_unverified: !self.newest.restored.is_verified,
            uncompared: fallback,
            second_heap_copy: None,
        };
        checkpointer.discard_unconverted_heap();
        let poison = Arc::new(Poison::default());
        let settings = memory_settings(&self.options);
        let region = self.newest.restored.region;
        let memory = StoreMemory::new(region, tracker, settings, Arc::clone(&poison));
        let files = StoreFiles::new(
            self.disk,
            self.locks,
            journal,
            (self.committed.store_id, generation),
            self.options.durability,
            poison,
        );
        let parts = StoreParts {
            memory,
            files,
            options: self.options,
        };
        report.duration = begun.elapsed();
        Ok((StoreInner::new(parts, checkpointer), report))
    }

    fn generation(&self) -> Generation {
        let committed = self.committed.generation;
        let replayed = Generation::new(self.newest.restored.replayed.generation);
        replayed.map_or(committed, |replayed| replayed.max(committed))
    }

    fn is_live(&self) -> bool {
        matches!(self.options.memory_source, MemorySource::Attach(_))
    }

    /// Returns the stale pages, and the METADATA of the other heap if it is a fallback.
    fn initial_stale(&self) -> (StalePages, Option<Metadata>) {
        let Restored {
            region, changed, ..
        } = &self.newest.restored;
        let mut stale = StalePages::default();
        stale.add(changed);
        let other = self.committed.heap.other();
        let fallback = match self.headers.states[other as usize] {
            HeapState::Complete(metadata)
                if self.newest.fallback_reason.is_none() && is_whole(&*self.disk, &metadata) =>
            {
                Some(metadata)
            }
            _ => {
                stale.set_blank(other);
                None
            }
        };
        // The journal has the replayed changes. Only the heaps lack them.
        stale.journaled();
        if self.is_live() {
            // Neither heap has the content of the memory, and the stored image may be longer.
            let mut all = PageSet::default();
            all.insert_range(0..self.committed.pages());
            all.insert_range(pages_of(&(0..region.len() as u64)));
            stale.add(&all);
        }
        (stale, fallback)
    }

    fn journal(&self) -> Journal {
        let replayed = &self.newest.restored.replayed;
        let start = JournalStart {
            sequence: replayed.sequence,
            chain: replayed.chain,
            floor: self.committed.min_base_generation.get(),
            next_number: self.next_number,
        };
        let syncs = self.options.durability == Durability::Power;
        let journal = Journal::new(
            Arc::clone(&self.disk),
            self.committed.store_id,
            syncs,
            start,
        );
        #[cfg(all(test, not(loom)))]
        for tail in &replayed.ignored_tails {
            journal.append_to_ignored_tail(tail.journal, tail.offset);
        }
        journal
    }

    fn report(&self, armed: (Option<TrackerKind>, String)) -> OpenReport {
        let (tracker, tracker_reason) = armed;
        let restored = &self.newest.restored;
        let replayed = &restored.replayed;
        let heap = self.committed.heap;
        let reason = self.newest.fallback_reason.clone();
        OpenReport {
            store: self.committed.store_id,
            created: false,
            clean_shutdown: self.newest.metadata.closed,
            heap,
            generation: self.generation(),
            sequence: replayed.sequence.into(),
            replayed_records: replayed.records,
            replayed_bytes: replayed.bytes,
            ignored_tails: replayed.ignored_tails.clone(),
            repaired_metadata: repaired_copies(&self.headers, heap),
            fallback_reason: reason.or_else(|| missing_base(replayed.lost_base, heap)),
            other_heap: self.headers.states[heap.other() as usize],
            region_bytes: restored.region.len() as u64,
            attached: self.is_live(),
            fully_verified: restored.is_verified,
            tracker,
            tracker_reason,
            duration: Duration::ZERO,
        }
    }
}

fn memory_settings(options: &StoreOptions) -> MemorySettings {
    MemorySettings {
        changes: options.write_mode,
        lock_timeout: options.lock_timeout,
        quiesce: options.quiesce_with.clone(),
        grows_with_memfd: options.grow_with_memfd,
    }
}

/// Returns the tracker, its kind and the reason for it.
fn arm_tracker(
    region: &Region,
    options: &StoreOptions,
) -> Result<(RegionTracker, (Option<TrackerKind>, String)), StoreError> {
    if options.write_mode == WriteMode::Transactions {
        let reason = "transactions mark the pages that they change".to_owned();
        return Ok((RegionTracker::new(None), (None, reason)));
    }
    let mut chosen = tracker::select_tracker(region, options.tracker, options.writer_scope)?;
    chosen.tracker.arm(region)?;
    let armed = (Some(chosen.tracker.kind()), chosen.why);
    Ok((RegionTracker::new(Some(chosen.tracker)), armed))
}

/// Returns the part length of each heap. A heap without METADATA gets that of the backend.
fn part_lengths(headers: &HeapHeaders, disk: &dyn StorageBackend) -> [u64; 2] {
    let metadata = headers.states.each_ref().map(HeapState::metadata);
    metadata.map(|metadata| match metadata {
        Some(metadata) => metadata.part_bytes,
        None => disk.part_bytes(),
    })
}

/// Returns whether a heap has its full length. A heap whose removal was interrupted keeps its
/// METADATA and loses its end.
fn is_whole(disk: &dyn StorageBackend, metadata: &Metadata) -> bool {
    let end = METADATA_BYTES + metadata.payload_bytes;
    let present = disk.len(LogicalFile::Heap(metadata.heap));
    present.is_ok_and(|present| present >= end)
}

/// Returns the reason for an earlier state if the heap that later records apply to is missing.
fn missing_base(generation: Option<u64>, heap: HeapName) -> Option<String> {
    let (generation, other) = (generation?, heap.other());
    Some(format!(
        "heap {other}, generation {generation} or later: it is missing"
    ))
}

/// Returns a description of each invalid copy of METADATA that was rewritten.
fn repaired_copies(headers: &HeapHeaders, heap: HeapName) -> Vec<String> {
    let copies = headers.copies[heap as usize].as_ref();
    let invalid = copies.and_then(Copies::bad_beside_good);
    let text = |(copy, error)| format!("copy {copy} of METADATA of heap {heap}: {error}");
    invalid.map(text).into_iter().collect()
}
