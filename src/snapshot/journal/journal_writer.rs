//! Journal of an open store. Records get their sequence number in memory and are written in groups.
//!
//! ```text
//!   append (holds the access lock)   commit (without the access lock)
//!   record -> pending -------------> the first thread to wait writes all pending records, syncs
//!             of this file or        once and wakes the others; threads that come meanwhile wait
//!             of the next one        for the next round
//! ```
//!
//! Rules:
//!
//! - A journal file is created under a number that was never used. It is durable with its header
//!   before a record is written to it [I20].
//! - The previous file gets a seal record and is synced before a record of the next file counts
//!   [I20].
//! - No record is appended after an ignored tail [I21].
//! - A record with a sequence number is never undone. A later error poisons the store [I22].
//! - No file is created and nothing is synced under the access lock. No backend call is made under
//!   the lock that appending takes [I24].
//! - A record states that earlier records are durable only if they were synced [I18].

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::position::Position;
use crate::numbers::JournalNumber;
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::{StoreError, error_chain};
#[cfg(all(test, not(loom)))]
use crate::snapshot::failpoint::{Failpoint, is_active};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{
    Body, JournalHeader, RECORD_HEADER_BYTES, RECORDS_AT, RecordHeader, RecordKind, StoreId,
};
use crate::snapshot::random;

/// Bytes of storage that are reserved ahead.
const RESERVE_BYTES: u64 = 4 << 20;

/// Position at which the journal of an opened store continues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalStart {
    /// Sequence number and checksum of the last record.
    pub(crate) sequence: u64,
    pub(crate) chain: u64,
    /// Minimum base generation of new records.
    pub(crate) floor: u64,
    /// Number of the first file to create.
    pub(crate) next_number: JournalNumber,
}

/// Journal of an open store.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn StorageBackend>,
    store: StoreId,
    /// Whether a commit syncs.
    syncs: bool,
    state: Mutex<State>,
    flushed: Condvar,
}

#[derive(Debug)]
struct State {
    /// File for new records. `None` before the first record.
    file: Option<OpenFile>,
    /// Created in advance for the next [`Journal::roll`].
    prepared: Option<OpenFile>,
    next_number: JournalNumber,
    sequence: u64,
    chain: u64,
    /// Minimum base generation of new records.
    floor: u64,
    /// Last sequence number that is durable in the mode of the store.
    durable: u64,
    /// Last sequence number that was synced. Equal to `durable` with [`Durability::Power`].
    ///
    /// [`Durability::Power`]: crate::snapshot::Durability::Power
    synced: u64,
    /// Files with written records that are not synced.
    unsynced: BTreeSet<JournalNumber>,
    /// Records that are not written yet, in order, one batch for each file.
    pending: Vec<Batch>,
    /// Memory that the next batch reuses.
    spare: Vec<u8>,
    flushing: bool,
    failed: Option<String>,
    /// Bytes written since the store was opened, for reports.
    written_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct OpenFile {
    number: JournalNumber,
    id: u64,
    /// Offset of the next record.
    end: u64,
    reserved: u64,
}

/// Purpose of writing the pending records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// Makes them durable in the mode of the store, which may need no sync.
    Commit,
    /// Makes them durable and syncs them in every mode.
    Synced,
    /// Frees their memory and makes nothing durable.
    Ahead,
}

#[derive(Debug)]
struct Batch {
    number: JournalNumber,
    offset: u64,
    bytes: Vec<u8>,
}

impl Journal {
    /// Returns a journal that continues at `start` in new files.
    pub(crate) fn new(
        disk: Arc<dyn StorageBackend>,
        store: StoreId,
        syncs: bool,
        start: JournalStart,
    ) -> Self {
        Self {
            disk,
            store,
            syncs,
            state: Mutex::new(State {
                file: None,
                prepared: None,
                next_number: start.next_number,
                sequence: start.sequence,
                chain: start.chain,
                floor: start.floor,
                durable: start.sequence,
                synced: start.sequence,
                unsynced: BTreeSet::new(),
                pending: Vec::new(),
                spare: Vec::new(),
                flushing: false,
                failed: None,
                written_bytes: 0,
            }),
            flushed: Condvar::new(),
        }
    }

    /// Continues after an ignored tail, which breaks [I21], if the failpoint is active.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn append_to_ignored_tail(&self, number: JournalNumber, offset: u64) {
        if !is_active(Failpoint::AppendToIgnoredTail) {
            return;
        }
        let mut block = [0; crate::snapshot::format::PAGE_BYTES];
        let array = LogicalFile::Journal(number);
        self.disk
            .read(array, 0, &mut block)
            .expect("the file has a header");
        self.lock().file = Some(OpenFile {
            number,
            id: JournalHeader::decode(&block)
                .expect("the header is valid")
                .id,
            end: offset,
            reserved: u64::MAX,
        });
    }

    /// Creates a file for new records if there is none, and reserves storage in it. Requires that
    /// the caller does not hold the access lock.
    pub(crate) fn make_ready(&self) -> Result<(), StoreError> {
        if self.healthy()?.file.is_none() {
            let created = self.create()?;
            // If another thread created a file at the same time, this file stays unused.
            self.lock().file.get_or_insert(created);
        }
        if let Some(end) = self.unreserved_end(RESERVE_BYTES / 2)? {
            // On a full disk the record may still fit: `reserve` tries again with the exact length.
            drop(self.reserve_at(end, RESERVE_BYTES));
        }
        Ok(())
    }

    /// Creates the file for the next [`roll`](Self::roll). Requires that the caller does not hold
    /// the access lock.
    pub(crate) fn prepare_roll(&self) -> Result<(), StoreError> {
        // The present file must get the lower number. The first transaction may be creating it now.
        self.make_ready()?;
        // Reserve storage for the seal record, even if the file has no other record.
        self.reserve(0, 0)?;
        if self.healthy()?.prepared.is_some() {
            return Ok(());
        }
        let created = self.create()?;
        self.lock().prepared.get_or_insert(created);
        Ok(())
    }

    /// Creates a journal file. Does not hold the state lock, which appending takes under the access
    /// lock.
    fn create(&self) -> Result<OpenFile, StoreError> {
        let number = {
            let mut state = self.lock();
            // The number is never reused, even if the creation fails.
            let number = state.next_number;
            state.next_number = number.next();
            number
        };
        let array = LogicalFile::Journal(number);
        let id = random::word().max(1);
        let header = JournalHeader {
            store: self.store,
            number: number.get(),
            id,
        };
        self.disk
            .create(array)
            .and_then(|()| self.disk.write(array, 0, &header.encode()))
            .map_err(StoreError::disk("create", array))?;
        // Sync in every mode: records after a missing header would be corruption. The sync covers
        // the directory, too, so a failure puts more than this file in doubt.
        self.disk
            .sync(array)
            .map_err(StoreError::disk("sync", array))
            .inspect_err(|error| self.lock().failed = Some(error_chain(error)))?;
        Ok(OpenFile {
            number,
            id,
            end: RECORDS_AT,
            reserved: RECORDS_AT,
        })
    }

    /// Reserves storage for records with bodies of `body_bytes` in all, and for a seal record after
    /// them.
    ///
    /// A full disk is therefore reported before the records have sequence numbers. The caller
    /// excludes other appends. Storage from [`make_ready`](Self::make_ready) is used first.
    pub(crate) fn reserve(&self, body_bytes: u64, records: u64) -> Result<(), StoreError> {
        let exact = body_bytes + (records + 1) * RECORD_HEADER_BYTES as u64;
        let Some(end) = self.unreserved_end(exact)? else {
            return Ok(());
        };
        // Only the exact length is required.
        self.reserve_at(end, exact.max(RESERVE_BYTES))
            .or_else(|_| self.reserve_at(end, exact))
            .map_err(StoreError::disk(
                "reserve storage for",
                LogicalFile::Journal(end.0),
            ))
    }

    /// Returns the file number and the end of the records, if less than `bytes` are reserved after
    /// them.
    fn unreserved_end(&self, bytes: u64) -> Result<Option<(JournalNumber, u64)>, StoreError> {
        let state = self.healthy()?;
        let file = state.file.expect("`make_ready` created a file");
        let reserved = file.reserved.saturating_sub(file.end);
        Ok((reserved < bytes).then_some((file.number, file.end)))
    }

    /// Reserves storage. Does not hold the state lock, which appending takes under the access lock.
    fn reserve_at(&self, (number, from): (JournalNumber, u64), bytes: u64) -> std::io::Result<()> {
        let end = from + bytes;
        self.disk.reserve(LogicalFile::Journal(number), from..end)?;
        let mut state = self.lock();
        if let Some(file) = state.file.as_mut().filter(|file| file.number == number) {
            file.reserved = file.reserved.max(end);
        }
        Ok(())
    }

    /// Appends a record and returns its sequence number. The record is durable when
    /// [`commit`](Self::commit) returns for that number.
    pub(crate) fn append(
        &self,
        kind: RecordKind,
        last: bool,
        generation: u64,
        body: &Body<'_>,
    ) -> Result<u64, StoreError> {
        let mut state = self.healthy()?;
        state.append(kind, last, generation, Some(body));
        Ok(state.sequence)
    }

    /// Continues in the prepared file and returns the end of the earlier records.
    pub(crate) fn roll(&self, generation: u64) -> Result<Position, StoreError> {
        let mut state = self.healthy()?;
        let next = state
            .prepared
            .take()
            .expect("`prepare_roll` created a file");
        debug_assert!(state.file.is_none_or(|file| file.number < next.number));
        if state.file.is_some() {
            state.append(RecordKind::Seal, true, generation, None);
        }
        state.file = Some(next);
        Ok(Position {
            sequence: state.sequence,
            chain: state.chain,
            journal: next.number,
        })
    }

    /// Sets the minimum base generation of later records.
    pub(crate) fn set_floor(&self, floor: u64) {
        self.lock().floor = floor;
    }

    /// Returns the end of the journal.
    pub(crate) fn position(&self) -> Position {
        let state = self.lock();
        Position {
            sequence: state.sequence,
            chain: state.chain,
            journal: state.file.map_or(state.next_number, |file| file.number),
        }
    }

    /// Returns the last sequence number.
    pub(crate) fn sequence(&self) -> u64 {
        self.lock().sequence
    }

    /// Returns the last durable sequence number.
    pub(crate) fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// Returns the length of the present file.
    pub(crate) fn since_roll(&self) -> u64 {
        self.lock().file.map_or(0, |file| file.end)
    }

    /// Returns the number of bytes written since the store was opened.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.lock().written_bytes
    }

    /// Waits until a record and all records before it are durable.
    pub(crate) fn commit(&self, sequence: u64) -> Result<(), StoreError> {
        let mut state = self.lock();
        while state.durable < sequence {
            state = self.flush(state, Flush::Commit)?;
        }
        Ok(())
    }

    /// Waits until a record and all records before it are synced, in every mode.
    pub(crate) fn commit_synced(&self, sequence: u64) -> Result<(), StoreError> {
        let mut state = self.lock();
        while state.synced < sequence {
            state = self.flush(state, Flush::Synced)?;
        }
        Ok(())
    }

    /// Writes the pending records if they use much memory. Makes nothing durable.
    pub(crate) fn write_ahead(&self) -> Result<(), StoreError> {
        const WRITE_BYTES: usize = 1 << 20;
        const WAIT_BYTES: usize = 3 << 20;
        let state = self.healthy()?;
        let pending = state.pending.iter().map(|batch| batch.bytes.len());
        let pending: usize = pending.sum();
        if pending >= WAIT_BYTES || (pending >= WRITE_BYTES && !state.flushing) {
            drop(self.flush(state, Flush::Ahead)?);
        }
        Ok(())
    }

    /// Writes the pending records, or waits for a thread that writes.
    fn flush<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        purpose: Flush,
    ) -> Result<MutexGuard<'s, State>, StoreError> {
        if let Some(why) = &state.failed {
            return Err(StoreError::Poisoned { why: why.clone() });
        }
        if state.flushing {
            let woken = self.flushed.wait(state);
            return Ok(woken.unwrap_or_else(PoisonError::into_inner));
        }
        state.flushing = true;
        let batches = std::mem::take(&mut state.pending);
        let reached = state.sequence;
        let present = state.file.map(|file| file.number);
        let mut unsynced = std::mem::take(&mut state.unsynced);
        drop(state);
        let sync = match purpose {
            Flush::Commit => self.syncs,
            Flush::Synced => true,
            Flush::Ahead => false,
        };
        let result = self.write_out(&batches, present, &mut unsynced, sync);
        state = self.lock();
        state.flushing = false;
        state.unsynced = unsynced;
        self.flushed.notify_all();
        if let Err(error) = result {
            state.failed = Some(error_chain(&error));
            return Err(error);
        }
        if purpose != Flush::Ahead {
            state.durable = state.durable.max(reached);
        }
        if sync {
            state.synced = state.synced.max(reached);
        }
        let bytes = batches.iter().map(|batch| batch.bytes.len() as u64);
        state.written_bytes += bytes.sum::<u64>();
        state.keep_memory(batches);
        Ok(state)
    }

    /// Discards the records after a position, since a checkpoint failed before its last record.
    /// Later records continue at the position in a new file (docs/file-format.md, "Reading back").
    pub(crate) fn rollback_to(&self, position: Position) {
        let mut state = self.lock();
        while state.flushing {
            let woken = self.flushed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        if state.sequence == position.sequence {
            return;
        }
        state.pending.clear();
        state.file = None;
        // Replay reads files in the order of their numbers, so the file for later records must be
        // created after this point.
        state.prepared = None;
        (state.sequence, state.chain) = (position.sequence, position.chain);
        if state.synced >= position.sequence {
            // The discarded records need no sync. The next base checkpoint may remove their file.
            state.unsynced.clear();
        }
        // A thread that waited for a discarded record may have made later records durable.
        state.durable = state.durable.min(position.sequence);
        state.synced = state.synced.min(position.sequence);
    }

    /// Writes batches in order.
    ///
    /// With syncs, each file is synced before the next file is written. `sync` syncs all remaining
    /// files.
    fn write_out(
        &self,
        batches: &[Batch],
        present: Option<JournalNumber>,
        unsynced: &mut BTreeSet<JournalNumber>,
        sync: bool,
    ) -> Result<(), StoreError> {
        let sync_file = |number: JournalNumber| {
            let array = LogicalFile::Journal(number);
            self.disk
                .sync(array)
                .map_err(StoreError::disk("sync", array))
        };
        for (index, batch) in batches.iter().enumerate() {
            let array = LogicalFile::Journal(batch.number);
            let written = self.disk.write(array, batch.offset, &batch.bytes);
            written.map_err(StoreError::disk("append to", array))?;
            if !sync && self.syncs {
                let end = batch.offset + batch.bytes.len() as u64;
                self.disk.start_writeback(array, batch.offset..end);
            }
            unsynced.insert(batch.number);
            let next = batches.get(index + 1).map(|batch| batch.number);
            let is_finished = Some(batch.number) != present && Some(batch.number) != next;
            if self.syncs && is_finished {
                unsynced.remove(&batch.number);
                sync_file(batch.number)?;
            }
        }
        if sync {
            std::mem::take(unsynced)
                .into_iter()
                .try_for_each(sync_file)?;
        }
        Ok(())
    }

    /// Fails if a write or a sync failed.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.healthy().map(drop)
    }

    fn healthy(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        match &state.failed {
            Some(why) => Err(StoreError::Poisoned { why: why.clone() }),
            None => Ok(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps the memory of a batch for reuse, which avoids page faults.
    fn keep_memory(&mut self, batches: Vec<Batch>) {
        const MAX_SPARE_BYTES: usize = 4 << 20;
        let memory = batches.into_iter().map(|batch| batch.bytes);
        let memory = memory.filter(|bytes| bytes.capacity() <= MAX_SPARE_BYTES);
        if let Some(mut bytes) = memory.max_by_key(Vec::capacity)
            && bytes.capacity() > self.spare.capacity()
        {
            bytes.clear();
            self.spare = bytes;
        }
    }

    fn append(&mut self, kind: RecordKind, last: bool, generation: u64, body: Option<&Body<'_>>) {
        let file = self.file.as_mut().expect("`make_ready` created a file");
        let header = RecordHeader {
            kind,
            last,
            body_bytes: 0,
            sequence: self.sequence + 1,
            generation,
            floor: self.floor,
            durable: self.synced,
            chain: self.chain,
            checksum: 0,
        };
        let batch = match self.pending.last_mut() {
            Some(batch) if batch.number == file.number => batch,
            _ => {
                self.pending.push(Batch {
                    number: file.number,
                    offset: file.end,
                    bytes: std::mem::take(&mut self.spare),
                });
                self.pending.last_mut().expect("a batch was pushed")
            }
        };
        let before = batch.bytes.len();
        self.chain = header.append(file.id, body, &mut batch.bytes);
        self.sequence += 1;
        file.end += (batch.bytes.len() - before) as u64;
    }
}
