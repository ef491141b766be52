//! Opening a store: what is there is read, chosen, verified and replayed before anything is written.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::checkpoint::{Checkpointer, now};
use super::choose::{Choice, HeapState, choose_heap};
use super::disk::{Array, Disk};
use super::error::{SnapshotError, in_full};
use super::format::{
    Copies, HeapName, METADATA_BYTES, Metadata, PAGE_BYTES, StoreId, is_part_length,
};
use super::group_disk::GroupDisk;
use super::heap;
use super::history;
use super::inner::{Inner, Parts};
use super::journal::Journal;
use super::lock::Locks;
use super::new_place;
use super::options::{Changes, Durability, Memory, PART_BYTES, Restore, StoreOptions};
use super::page_set::PageSet;
use super::random;
use super::region::Region;
use super::replay::{self, Replayed, Start};
use super::report::OpenReport;
use super::restore_memory::{apply, map, to_copy_into};
use super::stale::Stale;
use super::table::Table;
use super::tracker;
use super::tracking::Tracking;
use super::transaction::pages_of;
use crate::mapping_cache::Access;

/// In a directory, with its locks.
pub(crate) fn in_directory(
    directory: &Path,
    options: StoreOptions,
) -> Result<(Inner, OpenReport), SnapshotError> {
    options.check()?;
    let failed = |operation, source| SnapshotError::Directory {
        path: directory.to_path_buf(),
        operation,
        source,
    };
    let is_new = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed("read", error)),
    };
    if is_new {
        if !options.create {
            return Err(failed("open", io::ErrorKind::NotFound.into()));
        }
        let part_bytes = options.part_bytes.unwrap_or(PART_BYTES);
        let disk = GroupDisk::create(directory, part_bytes);
        let disk = disk.map_err(|error| failed("make a store in", error))?;
        make(&disk, &options)?;
    }
    // Before a file for the lock is made in what is no store.
    part_bytes_of(directory)?;
    let locks = Locks::of_writer(directory)?;
    let found = part_bytes_of(directory)?;
    let part_bytes = options.changed_part_bytes().unwrap_or(found);
    if !is_new {
        // Who made it, or moved it here, may have been killed before its name was durable.
        let synced = new_place::sync_above(directory);
        synced.map_err(|error| failed("make durable the way to", error))?;
    }
    let disk = GroupDisk::open(directory, part_bytes, Access::ReadWrite);
    let disk = disk.map_err(|error| failed("open", error))?;
    let kept_generation = history::highest_generation(directory)?;
    let (inner, mut report) = restore(Arc::new(disk), locks, kept_generation, options)?;
    report.created = is_new;
    Ok((inner, report))
}

/// On whatever there is, without locks.
pub(crate) fn on_disk(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
) -> Result<(Inner, OpenReport), SnapshotError> {
    options.check()?;
    let arrays = disk.arrays();
    let arrays = arrays.map_err(SnapshotError::disk("look for", Array::Heap(HeapName::A)))?;
    let is_new = arrays.is_empty();
    if is_new {
        make(&*disk, &options)?;
    }
    let (inner, mut report) = restore(disk, Locks::default(), 0, options)?;
    report.created = is_new;
    Ok((inner, report))
}

/// The length of parts, which must be known before an array can be read: METADATA lies in the first part of either heap.
pub(crate) fn part_bytes_of(directory: &Path) -> Result<u64, SnapshotError> {
    // METADATA lies in the first part whatever its length.
    const LONG_BYTES: u64 = 1 << 40;
    let disk = read_only(directory, LONG_BYTES)?;
    let mut found = Vec::new();
    for name in [HeapName::A, HeapName::B] {
        let copies = heap::read_copies(&disk, name)?;
        found.extend(copies.and_then(|copies| copies.state()));
    }
    let newest = found.iter().max_by_key(|metadata| metadata.generation);
    match newest {
        Some(metadata) => Ok(metadata.part_bytes),
        // What is wrong is found and named by who reads on.
        None if disk.arrays().is_ok_and(|arrays| !arrays.is_empty()) => Ok(PART_BYTES),
        None => Err(SnapshotError::NotAStore {
            path: directory.to_path_buf(),
            reason: "there are files, and none of a heap".to_owned(),
        }),
    }
}

/// The files of a store, to be looked at.
pub(crate) fn read_only(directory: &Path, part_bytes: u64) -> Result<GroupDisk, SnapshotError> {
    let disk = GroupDisk::open(directory, part_bytes, Access::ReadOnly);
    disk.map_err(|source| SnapshotError::Directory {
        path: directory.to_path_buf(),
        operation: "open",
        source,
    })
}

/// A store with generation 1 of an empty region committed, and published (hazard 19).
fn make(disk: &dyn Disk, options: &StoreOptions) -> Result<(), SnapshotError> {
    let heap = HeapName::A;
    let part_bytes = disk.part_bytes();
    if !is_part_length(part_bytes) {
        let reason = format!("{part_bytes} is no multiple of 64 KiB");
        let option = "part_bytes";
        return Err(SnapshotError::Option { option, reason });
    }
    let payload_bytes = options.initial_bytes.next_multiple_of(PAGE_BYTES as u64);
    let metadata = Metadata {
        store: StoreId(random::id()),
        heap,
        closed: false,
        part_bytes,
        generation: 1,
        released: true,
        revision: 0,
        payload_bytes,
        root: 0,
        sequence: 0,
        chain: 0,
        journal: 1,
        end: None,
        committed_at: now(),
        floor: 1,
    };
    for array in [Array::Heap(heap), Array::Table(heap)] {
        disk.create(array)
            .map_err(SnapshotError::disk("make", array))?;
    }
    let array = Array::Heap(heap);
    disk.set_len(array, METADATA_BYTES + payload_bytes)
        .map_err(SnapshotError::disk("set the length of", array))?;
    heap::write_metadata(disk, &metadata)?;
    heap::sync(disk, Array::Table(heap))?;
    heap::sync(disk, array)?;
    disk.publish()
        .map_err(SnapshotError::disk("publish", array))
}

/// Both heaps, as they are on the disk.
pub(crate) struct Found {
    pub(crate) copies: [Option<Copies>; 2],
    pub(crate) states: [HeapState; 2],
}

pub(crate) fn look(disk: &dyn Disk) -> Result<Found, SnapshotError> {
    let mut copies = [None, None];
    for (place, name) in copies.iter_mut().zip([HeapName::A, HeapName::B]) {
        *place = heap::read_copies(disk, name)?;
    }
    let states = [0, 1].map(|heap: usize| heap::state(copies[heap].as_ref()));
    for (name, state) in [HeapName::A, HeapName::B].into_iter().zip(&states) {
        // Only now its parts can be put together.
        for array in [Array::Heap(name), Array::Table(name)] {
            if let Some(metadata) = state.metadata() {
                disk.set_part_bytes(array, metadata.part_bytes)
                    .map_err(SnapshotError::disk("use", array))?;
            }
        }
    }
    Ok(Found { copies, states })
}

/// A heap and the journal behind it, in memory.
struct Restored {
    region: Region,
    table: Table,
    changed: PageSet,
    replayed: Replayed,
    verified: bool,
}

fn restore(
    disk: Arc<dyn Disk>,
    locks: Locks,
    kept_generation: u64,
    options: StoreOptions,
) -> Result<(Inner, OpenReport), SnapshotError> {
    let begun = Instant::now();
    let mut found = look(&*disk)?;
    let mut choice = choose_heap(&found.states[0], &found.states[1])?;
    if !choice.first.closed {
        // What is in memory may look better than what is on the disk (hazard 3).
        forget_cached(&*disk)?;
        found = look(&*disk)?;
        choice = choose_heap(&found.states[0], &found.states[1])?;
    }
    check_options(&choice.first, &options)?;
    let (committed, restored, fell_back) = first_good(&*disk, &choice, &options)?;
    let was_closed = committed.closed;
    let next_number = replay::numbers(&*disk)?.last().map_or(1, |last| last + 1);
    let next_number = next_number.max(committed.journal);

    // From here on it is written to.
    let mut next_generation = choice
        .next_generation
        .max(restored.replayed.seen_generation + 1)
        .max(kept_generation + 1);
    if fell_back.is_some() && choice.first.floor > committed.generation {
        retire(&*disk, &choice.first, &committed, next_generation)?;
        next_generation += 1;
    }
    let committed = Metadata {
        closed: false,
        end: None,
        revision: committed.revision + 1,
        ..committed
    };
    let copies = found.copies[committed.heap as usize].as_ref();
    heap::rewrite_metadata(&*disk, &committed, copies)?;
    let healed = healed(&found, committed.heap);

    let Restored {
        region,
        table,
        changed,
        replayed,
        verified,
    } = restored;
    let mut stale = Stale::default();
    stale.add(&changed);
    let other = committed.heap.other();
    let older = match found.states[other as usize] {
        HeapState::Released(metadata) if fell_back.is_none() && is_whole(&*disk, &metadata) => {
            Some(metadata)
        }
        _ => {
            stale.set_blank(other);
            None
        }
    };
    // The journal has what was replayed: only the heaps lack it.
    stale.journaled();
    let is_live = matches!(options.memory, Memory::Live(_));
    if is_live {
        // What is in memory is in neither, and what is stored may be longer.
        let mut all = PageSet::default();
        all.insert_range(0..committed.pages());
        all.insert_range(pages_of(&(0..region.len() as u64)));
        stale.add(&all);
    }
    let generation = committed.generation.max(replayed.generation);
    let link = (replayed.sequence, replayed.chain);
    let syncs = options.durability == Durability::Power;
    let floor = committed.floor;
    let journal = Journal::new(
        disk.clone(),
        committed.store,
        syncs,
        link,
        floor,
        next_number,
    );
    #[cfg(all(test, not(loom)))]
    replayed.cuts.iter().for_each(|cut| journal.go_on_in(cut));
    let (tracking, tracker) = track(&region, &options)?;
    let wanted = options.changed_part_bytes();
    let wanted = wanted.unwrap_or(committed.part_bytes);
    let mut checkpointer = Checkpointer {
        part_bytes: wanted,
        part_bytes_of: lengths_of_parts(&found, &*disk),
        committed,
        table,
        stale,
        next_generation,
        generation,
        journal_payload_bytes: match is_live {
            // No length at all, so that the first checkpoint is not nothing.
            true => u64::MAX,
            false => region.len() as u64,
        },
        last_delta_pages: None,
        journal_bytes_at_base: 0,
        below: (options.restore == Restore::Map).then_some(committed.heap),
        older,
        unverified: !verified,
        uncompared: older,
        making: None,
    };
    checkpointer.give_up_other_length();
    let report = OpenReport {
        store: committed.store,
        created: false,
        was_closed,
        heap: committed.heap,
        generation,
        sequence: replayed.sequence,
        replayed_records: replayed.records,
        replayed_bytes: replayed.bytes,
        cuts: replayed.cuts,
        healed,
        fell_back: fell_back.or_else(|| lost(replayed.lost_base, committed.heap)),
        other_heap: found.states[other as usize].to_string(),
        region_bytes: region.len() as u64,
        kept_live: is_live,
        verified,
        tracker,
        took: begun.elapsed(),
    };
    let inner = Inner::new(Parts {
        disk,
        locks,
        options,
        committed,
        region,
        journal,
        checkpointer,
        tracking,
    });
    Ok((inner, report))
}

/// What lies over a base that is not there any more cannot come back, though there is no header to tell.
fn lost(lost_base: Option<u64>, heap: HeapName) -> Option<String> {
    let base = lost_base?;
    let other = heap.other();
    Some(format!(
        "heap {other}, generation {base} or later: it is not there"
    ))
}

/// A heap that was given up, and to whose image the journal does not lead, must not come back: what is written from now on
/// does not lie over it.
fn retire(
    disk: &dyn Disk,
    lost: &Metadata,
    committed: &Metadata,
    generation: u64,
) -> Result<(), SnapshotError> {
    if heap::remove_if_broken(disk, Array::Heap(lost.heap))? {
        return Ok(());
    }
    let taken = Metadata {
        heap: lost.heap,
        part_bytes: lost.part_bytes,
        generation,
        released: false,
        revision: 0,
        closed: false,
        end: None,
        ..*committed
    };
    heap::write_metadata(disk, &taken)?;
    heap::sync(disk, Array::Heap(lost.heap))
}

/// Of a heap without METADATA it is what the disk will give it.
fn lengths_of_parts(found: &Found, disk: &dyn Disk) -> [u64; 2] {
    let metadata = found.states.each_ref().map(HeapState::metadata);
    metadata.map(|metadata| metadata.map_or(disk.part_bytes(), |metadata| metadata.part_bytes))
}

/// A heap that was being removed when the process ended has its METADATA to the last, and its end no more.
fn is_whole(disk: &dyn Disk, metadata: &Metadata) -> bool {
    let end = METADATA_BYTES + metadata.payload_bytes;
    let present = disk.len(Array::Heap(metadata.heap));
    present.is_ok_and(|present| present >= end)
}

/// An existing region as long as asked for. It is new to both heaps, and durable with the next checkpoint or transaction.
pub(crate) fn lengthen(inner: &Inner, len: u64) -> Result<(), SnapshotError> {
    let before = inner.len();
    let mut tracking = inner.tracking();
    // Lossless: checked against what is reserved.
    inner.region.grow(len as usize)?;
    inner.declared().insert_range(pages_of(&(before..len)));
    tracking.grown(&inner.region, before as usize)
}

fn forget_cached(disk: &dyn Disk) -> Result<(), SnapshotError> {
    let arrays = disk.arrays();
    for array in arrays.map_err(SnapshotError::disk("look for", Array::Heap(HeapName::A)))? {
        disk.forget_cached(array)
            .map_err(SnapshotError::disk("read anew", array))?;
    }
    Ok(())
}

fn check_options(metadata: &Metadata, options: &StoreOptions) -> Result<(), SnapshotError> {
    let refused = |option, reason| Err(SnapshotError::Option { option, reason });
    if let Some(asked) = options.part_bytes
        && asked != metadata.part_bytes
        && !options.change_part_bytes
    {
        let reason = format!(
            "{asked}, but the store has parts of {} bytes; the option `change_part_bytes` has them changed",
            metadata.part_bytes
        );
        return refused("part_bytes", reason);
    }
    if metadata.payload_bytes > options.reserve_bytes {
        let reason = format!(
            "{} is less than the {} bytes that are stored",
            options.reserve_bytes, metadata.payload_bytes
        );
        return refused("reserve_bytes", reason);
    }
    Ok(())
}

/// The newest heap that holds what it promises.
fn first_good(
    disk: &dyn Disk,
    choice: &Choice,
    options: &StoreOptions,
) -> Result<(Metadata, Restored, Option<String>), SnapshotError> {
    let first_error = match restore_heap(disk, &choice.first, Start::of(&choice.first), options) {
        Ok(restored) => return Ok((choice.first, restored, None)),
        // The heap is good: another would only lose more.
        Err(
            error @ SnapshotError::Damaged {
                array: Array::Journal(_),
                ..
            },
        ) => return Err(error),
        // Another heap would not help.
        Err(error @ (SnapshotError::Memory(_) | SnapshotError::Option { .. })) => {
            return Err(error);
        }
        Err(error) => error,
    };
    let first = choice.first.heap;
    let nothing = |first_error, rest| SnapshotError::NothingGood {
        first,
        first_error: Box::new(first_error),
        rest,
    };
    let Some(second) = choice.second else {
        return Err(nothing(first_error, "and there is no other".to_owned()));
    };
    // It was not the last that was closed.
    let second = Metadata {
        closed: false,
        end: None,
        ..second
    };
    let start = Start::instead_of(&choice.first, &second);
    match restore_heap(disk, &second, start, options) {
        // It may be readable again: what only it has is not given up for that.
        Ok(_) if is_of_the_disk(&first_error) && choice.first.floor > second.generation => {
            Err(first_error)
        }
        Ok(restored) => {
            let why = format!(
                "heap {first}, generation {}: {}",
                choice.first.generation,
                in_full(&first_error)
            );
            Ok((second, restored, Some(why)))
        }
        Err(error) => {
            let rest = format!("heap {} too ({})", second.heap, in_full(&error));
            Err(nothing(first_error, rest))
        }
    }
}

/// The disk refused to read, where there is something to read.
fn is_of_the_disk(error: &SnapshotError) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    let SnapshotError::Disk { source, .. } = error else {
        return false;
    };
    !matches!(source.kind(), InvalidData | NotFound | UnexpectedEof)
}

fn restore_heap(
    disk: &dyn Disk,
    metadata: &Metadata,
    start: Start,
    options: &StoreOptions,
) -> Result<Restored, SnapshotError> {
    let mut table = Table::open(disk, metadata.heap, metadata.seed(), metadata.root)?;
    let by_map = options.restore == Restore::Map;
    let lazily = by_map && metadata.closed;
    let region = match by_map {
        true => map(disk, metadata, options)?,
        false => to_copy_into(metadata.payload_bytes, options)?,
    };
    let is_live = matches!(options.memory, Memory::Live(_));
    if !lazily {
        let take = |page: u64, bytes: &[u8]| match by_map || is_live {
            true => Ok(()),
            false => Ok(region.copy_in(page as usize * PAGE_BYTES, bytes)?),
        };
        heap::read_image(disk, metadata, &mut table, take, |_| ())?;
    }
    let mut changed = PageSet::default();
    let replayed = replay::replay(disk, start, |body| match is_live {
        true => {
            changed.insert_range(pages_of(&(0..body.payload_bytes)));
            Ok(())
        }
        false => apply(&region, body.payload_bytes, &body.changes, &mut changed),
    })?;
    Ok(Restored {
        region,
        table,
        changed,
        replayed,
        verified: !lazily,
    })
}

fn track(region: &Region, options: &StoreOptions) -> Result<(Tracking, String), SnapshotError> {
    if options.changes == Changes::Transactions {
        let why = "transactions declare what they change".to_owned();
        return Ok((Tracking::new(None), why));
    }
    let mut chosen = tracker::choose(region, options.tracker, options.memory_writers)?;
    chosen.tracker.arm(region)?;
    let text = format!("{}: {}", chosen.tracker.kind(), chosen.why);
    Ok((Tracking::new(Some(chosen.tracker)), text))
}

/// The bad copies of METADATA of the heap that was just written anew.
fn healed(found: &Found, heap: HeapName) -> Vec<String> {
    let copies = found.copies[heap as usize].as_ref();
    let bad = copies.and_then(Copies::bad_beside_good);
    let text = |(copy, defect)| format!("copy {copy} of METADATA of heap {heap}: {defect}");
    bad.map(text).into_iter().collect()
}
