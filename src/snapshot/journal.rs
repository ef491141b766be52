//! The journal while the store is open: records get their sequence in memory and reach the disk in groups.
//!
//! ```text
//!   append (under the gate)        commit (outside of it)
//!   record -> pending ------------> the first who waits writes all that is pending, syncs once, and
//!             of this file or       tells the others; who comes meanwhile waits for the next round
//!             of the next one
//! ```
//!
//! Rules kept here: a file is created under a number that was never used, and is durable with its header before a
//! record goes into it (hazard 20); the file before it is sealed and synced before any record of the next counts (20);
//! a journal that was cut is never written again (21); what was given a sequence is never taken back: an error after
//! that poisons (22); no file is made and nothing is synced under the gate, and nothing is asked of the disk under the lock
//! that appending takes (24); a record says that those before it are durable only if they were synced (18).

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::disk::{Array, Disk};
use super::error::SnapshotError;
use super::fault::{Fault, seeded};
use super::format::{
    Body, JournalHeader, RECORD_HEADER_BYTES, RECORDS_AT, RecordHeader, RecordKind, StoreId,
};
use super::random;

/// Storage is reserved ahead in such steps.
const RESERVE_BYTES: u64 = 4 << 20;

/// Where the journal stood at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The last record, and its checksum.
    pub(crate) sequence: u64,
    pub(crate) chain: u64,
    /// The file that later records go to.
    pub(crate) journal: u64,
}

#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    store: StoreId,
    /// Are there barriers?
    syncs: bool,
    state: Mutex<State>,
    flushed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The file that records go to; `None` before the first.
    file: Option<OpenFile>,
    /// Made ahead, for the next roll.
    prepared: Option<OpenFile>,
    next_number: u64,
    sequence: u64,
    chain: u64,
    /// The lowest generation of a heap that records may be applied to.
    floor: u64,
    /// All up to here keeps what was promised for it.
    durable: u64,
    /// All up to here was synced: the same, unless nothing but the end of the process is to be survived.
    synced: u64,
    /// Files with records that were written and not synced.
    unsynced: BTreeSet<u64>,
    /// Not yet written, in order, each for one file.
    pending: Vec<Batch>,
    /// Memory for the next batch.
    spare: Vec<u8>,
    flushing: bool,
    failed: Option<String>,
    /// Since it was opened, for reports.
    written_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct OpenFile {
    number: u64,
    id: u64,
    /// Where the next record goes.
    end: u64,
    reserved: u64,
}

/// What is pending is written out,
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// so that it counts,
    Commit,
    /// so that it counts, and is synced whatever is to be survived,
    Synced,
    /// or so that it need not be kept.
    Ahead,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl Journal {
    /// Goes on behind a position, in files numbered from `next_number` on.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        store: StoreId,
        syncs: bool,
        (sequence, chain): (u64, u64),
        floor: u64,
        next_number: u64,
    ) -> Self {
        Self {
            disk,
            store,
            syncs,
            state: Mutex::new(State {
                file: None,
                prepared: None,
                next_number,
                sequence,
                chain,
                floor,
                durable: sequence,
                synced: sequence,
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

    /// Goes on where a file was cut: a fault (hazard 21).
    #[cfg(all(test, not(loom)))]
    pub(crate) fn go_on_in(&self, cut: &super::Cut) {
        if !seeded(Fault::TornTailAppended) {
            return;
        }
        let mut block = [0; super::format::PAGE_BYTES];
        let array = Array::Journal(cut.journal);
        self.disk.read(array, 0, &mut block).expect("a header");
        self.lock().file = Some(OpenFile {
            number: cut.journal,
            id: JournalHeader::decode(&block).expect("a header").id,
            end: cut.offset,
            reserved: u64::MAX,
        });
    }

    /// Sees to it that there is a file for records, with room in it. Not under the gate.
    pub(crate) fn make_ready(&self) -> Result<(), SnapshotError> {
        if self.healthy()?.file.is_none() {
            let made = self.create()?;
            // Another thread may have been faster: then this one is never used.
            self.lock().file.get_or_insert(made);
        }
        if let Some(place) = self.lacking(RESERVE_BYTES / 2)? {
            // On a full disk the record may fit all the same: it asks again when it is known how long it is.
            let _ = self.reserve_at(place, RESERVE_BYTES);
        }
        Ok(())
    }

    /// Makes the file that the next [`roll`](Self::roll) goes to. Not under the gate.
    pub(crate) fn prepare_roll(&self) -> Result<(), SnapshotError> {
        // It must not get a lower number than the file before it, which the first transaction may be making now.
        self.make_ready()?;
        // For the seal, even where no record went before.
        self.reserve(0, 0)?;
        if self.healthy()?.prepared.is_some() {
            return Ok(());
        }
        let made = self.create()?;
        self.lock().prepared.get_or_insert(made);
        Ok(())
    }

    /// Not under the lock, which appending takes under the gate.
    fn create(&self) -> Result<OpenFile, SnapshotError> {
        let number = {
            let mut state = self.lock();
            // Never again, whatever becomes of it.
            state.next_number += 1;
            state.next_number - 1
        };
        let array = Array::Journal(number);
        let id = random::word().max(1);
        let header = JournalHeader {
            store: self.store,
            number,
            id,
        };
        let made = self.disk.create(array);
        let written = made.and_then(|()| self.disk.write(array, 0, &header.encode()));
        written.map_err(SnapshotError::disk("make", array))?;
        // Whatever is to be survived: records behind a header that is not there would be damage.
        let synced = self.disk.sync(array);
        let synced = synced.map_err(SnapshotError::disk("sync", array));
        // It took the directory with it, so more than this file is in doubt.
        synced.inspect_err(|error| self.lock().failed = Some(super::error::in_full(error)))?;
        Ok(OpenFile {
            number,
            id,
            end: RECORDS_AT,
            reserved: RECORDS_AT,
        })
    }

    /// Reserves room for records with bodies of so many bytes, so that a full disk is known before they have a sequence;
    /// and for the seal behind them, which is written when it is too late to refuse. Nobody else appends meanwhile. Little is
    /// asked for where there is room from [`make_ready`](Self::make_ready).
    pub(crate) fn reserve(&self, body_bytes: u64, records: u64) -> Result<(), SnapshotError> {
        let exact = body_bytes + (records + 1) * RECORD_HEADER_BYTES as u64;
        let Some(place) = self.lacking(exact)? else {
            return Ok(());
        };
        // What is reserved ahead is a convenience, what the record needs is not.
        self.reserve_at(place, exact.max(RESERVE_BYTES))
            .or_else(|_| self.reserve_at(place, exact))
            .map_err(SnapshotError::disk(
                "reserve storage for",
                Array::Journal(place.0),
            ))
    }

    /// The file and its end, if not so many bytes are reserved behind that.
    fn lacking(&self, bytes: u64) -> Result<Option<(u64, u64)>, SnapshotError> {
        let state = self.healthy()?;
        let file = state.file.expect("made ready before");
        let room = file.reserved.saturating_sub(file.end);
        Ok((room < bytes).then_some((file.number, file.end)))
    }

    /// Not under the lock, which appending takes under the gate.
    fn reserve_at(&self, (number, from): (u64, u64), bytes: u64) -> std::io::Result<()> {
        let end = from + bytes;
        self.disk.reserve(Array::Journal(number), from..end)?;
        let mut state = self.lock();
        if let Some(file) = state.file.as_mut().filter(|file| file.number == number) {
            file.reserved = file.reserved.max(end);
        }
        Ok(())
    }

    /// Gives a record its sequence. It is durable once [`commit`](Self::commit) of that returned.
    pub(crate) fn append(
        &self,
        kind: RecordKind,
        last: bool,
        generation: u64,
        body: &Body<'_>,
    ) -> Result<u64, SnapshotError> {
        let mut state = self.healthy()?;
        state.append(kind, last, generation, Some(body));
        Ok(state.sequence)
    }

    /// Goes on in the prepared file: what was appended so far is in the ones before.
    pub(crate) fn roll(&self, generation: u64) -> Result<Position, SnapshotError> {
        let mut state = self.healthy()?;
        let next = state
            .prepared
            .take()
            .expect("prepared before the gate closed");
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

    /// Later records lie over a base of this generation, and over no older heap.
    pub(crate) fn set_floor(&self, floor: u64) {
        self.lock().floor = floor;
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> Position {
        let state = self.lock();
        Position {
            sequence: state.sequence,
            chain: state.chain,
            journal: state.file.map_or(state.next_number, |file| file.number),
        }
    }

    /// The last sequence that was given.
    pub(crate) fn sequence(&self) -> u64 {
        self.lock().sequence
    }

    pub(crate) fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// Bytes of the present file.
    pub(crate) fn since_roll(&self) -> u64 {
        self.lock().file.map_or(0, |file| file.end)
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.lock().written_bytes
    }

    /// Returns when the record of this sequence is durable, and all before it.
    pub(crate) fn commit(&self, sequence: u64) -> Result<(), SnapshotError> {
        let mut state = self.lock();
        while state.durable < sequence {
            state = self.flush(state, Flush::Commit)?;
        }
        Ok(())
    }

    /// As [`commit`](Self::commit), and it is synced, whatever is to be survived.
    pub(crate) fn commit_synced(&self, sequence: u64) -> Result<(), SnapshotError> {
        let mut state = self.lock();
        while state.synced < sequence {
            state = self.flush(state, Flush::Synced)?;
        }
        Ok(())
    }

    /// Writes what is pending if it is much, so that it need not be kept; nothing is durable by that.
    pub(crate) fn write_ahead(&self) -> Result<(), SnapshotError> {
        const MUCH_BYTES: usize = 1 << 20;
        const TOO_MUCH_BYTES: usize = 3 << 20;
        let state = self.healthy()?;
        let pending = state.pending.iter().map(|batch| batch.bytes.len());
        let pending: usize = pending.sum();
        if pending >= TOO_MUCH_BYTES || (pending >= MUCH_BYTES && !state.flushing) {
            drop(self.flush(state, Flush::Ahead)?);
        }
        Ok(())
    }

    /// Writes what is pending, or waits for who does.
    fn flush<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        what: Flush,
    ) -> Result<MutexGuard<'s, State>, SnapshotError> {
        if let Some(why) = &state.failed {
            return Err(SnapshotError::Poisoned { why: why.clone() });
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
        let sync = match what {
            Flush::Commit => self.syncs,
            Flush::Synced => true,
            Flush::Ahead => false,
        };
        let result = self.write_out(&batches, present, &mut unsynced, sync);
        state = self.lock();
        state.flushing = false;
        state.unsynced = unsynced;
        self.flushed.notify_all();
        match result {
            Ok(()) => {
                if what != Flush::Ahead {
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
            Err(error) => {
                state.failed = Some(super::error::in_full(&error));
                Err(error)
            }
        }
    }

    /// The records behind this position do not count: a checkpoint was given up before its last one. Later ones go to a new file,
    /// from there on (docs/file-format.md, "Reading back").
    pub(crate) fn give_up_from(&self, position: Position) {
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
        // Its number is lower than that of the file that is made now, and replay goes on by numbers.
        state.prepared = None;
        (state.sequence, state.chain) = (position.sequence, position.chain);
        if state.synced >= position.sequence {
            // Nothing is left to be synced of its file, which the next base removes.
            state.unsynced.clear();
        }
        // Who waits for a sequence that was given up may have made more durable.
        state.durable = state.durable.min(position.sequence);
        state.synced = state.synced.min(position.sequence);
    }

    /// Writes in order. A file that others follow is synced before anything goes to the next, if there are barriers; all that is
    /// not synced then, if that is asked for.
    fn write_out(
        &self,
        batches: &[Batch],
        present: Option<u64>,
        unsynced: &mut BTreeSet<u64>,
        sync: bool,
    ) -> Result<(), SnapshotError> {
        let synced = |number: u64| {
            let array = Array::Journal(number);
            let done = self.disk.sync(array);
            done.map_err(SnapshotError::disk("sync", array))
        };
        for (index, batch) in batches.iter().enumerate() {
            let array = Array::Journal(batch.number);
            let written = self.disk.write(array, batch.offset, &batch.bytes);
            written.map_err(SnapshotError::disk("append to", array))?;
            if !sync && self.syncs {
                let end = batch.offset + batch.bytes.len() as u64;
                self.disk.start_writing(array, batch.offset..end);
            }
            unsynced.insert(batch.number);
            let next = batches.get(index + 1).map(|batch| batch.number);
            let is_left = Some(batch.number) != present && Some(batch.number) != next;
            if self.syncs && is_left {
                unsynced.remove(&batch.number);
                if !seeded(Fault::SealNotSynced) {
                    synced(batch.number)?;
                }
            }
        }
        match sync {
            true => std::mem::take(unsynced).into_iter().try_for_each(synced),
            false => Ok(()),
        }
    }

    /// Has nothing failed that cannot be taken back?
    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        self.healthy().map(drop)
    }

    fn healthy(&self) -> Result<MutexGuard<'_, State>, SnapshotError> {
        let state = self.lock();
        match &state.failed {
            Some(why) => Err(SnapshotError::Poisoned { why: why.clone() }),
            None => Ok(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Memory that was used once costs no page faults.
    fn keep_memory(&mut self, batches: Vec<Batch>) {
        const KEPT_BYTES: usize = 4 << 20;
        let memory = batches.into_iter().map(|batch| batch.bytes);
        let memory = memory.filter(|bytes| bytes.capacity() <= KEPT_BYTES);
        if let Some(mut bytes) = memory.max_by_key(Vec::capacity)
            && bytes.capacity() > self.spare.capacity()
        {
            bytes.clear();
            self.spare = bytes;
        }
    }

    fn append(&mut self, kind: RecordKind, last: bool, generation: u64, body: Option<&Body<'_>>) {
        let file = self.file.as_mut().expect("made ready before");
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
                self.pending.last_mut().expect("just pushed")
            }
        };
        let before = batch.bytes.len();
        self.chain = header.append(file.id, body, &mut batch.bytes);
        self.sequence += 1;
        file.end += (batch.bytes.len() - before) as u64;
    }
}
