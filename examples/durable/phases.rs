//! Derives the phase of a store from the calls to its backend (docs/file-format.md, "Writing").
//!
//! A checkpoint and the journal may write at the same time. The phase of the store is then the one
//! that is harder to hit: restore, rotation, header, lock, pages, journal. Each call belongs to one
//! phase.

use std::collections::BTreeSet;

use flatspan::snapshot::{JournalNumber, LogicalFile};

use crate::phase::Phase;

/// Layout constants of docs/file-format.md.
pub(crate) const METADATA_BYTES: u64 = 64 << 10;
const HALF_BYTES: u64 = METADATA_BYTES / 2;
const WRITE_LOCK_OFFSET: usize = 56;
const RECORDS_OFFSET: u64 = 4096;
const RECORD_BYTES: usize = 56;
const KIND_OFFSET: usize = 4;
const KIND_SEAL: u8 = 3;

/// Backend call that is relevant for the phase.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call<'a> {
    Create(LogicalFile),
    Write(LogicalFile, u64, &'a [u8]),
    /// Changes of length, and holes.
    Shape(LogicalFile),
    Sync(LogicalFile),
    Remove(LogicalFile),
    /// Reads and preallocation.
    Other,
}

/// Operations in progress.
#[derive(Debug)]
pub(crate) struct Phases {
    /// Without syncs, a phase that a sync would end ends with the write.
    syncs: bool,
    restoring: bool,
    /// Lock, pages, header or none.
    checkpoint: Option<Phase>,
    rotating: BTreeSet<JournalNumber>,
    appending: BTreeSet<JournalNumber>,
}

impl Phases {
    /// Creates the state of a store that is being opened.
    pub(crate) fn new(syncs: bool) -> Self {
        Self {
            syncs,
            restoring: true,
            checkpoint: None,
            rotating: BTreeSet::new(),
            appending: BTreeSet::new(),
        }
    }

    pub(crate) fn opened(&mut self) {
        self.restoring = false;
    }

    pub(crate) fn is_restoring(&self) -> bool {
        self.restoring
    }

    /// Returns the phase of the store.
    pub(crate) fn current(&self) -> Phase {
        match self.checkpoint {
            _ if self.restoring => Phase::Restore,
            _ if !self.rotating.is_empty() => Phase::Rotation,
            Some(phase) => phase,
            None if !self.appending.is_empty() => Phase::Journal,
            None => Phase::Idle,
        }
    }

    /// Notes that a call starts, and returns the phase of the call.
    pub(crate) fn before(&mut self, call: Call<'_>) -> Phase {
        if self.restoring {
            return Phase::Restore;
        }
        match call {
            Call::Create(LogicalFile::Journal(number))
            | Call::Remove(LogicalFile::Journal(number)) => {
                self.rotating.insert(number);
            }
            Call::Write(LogicalFile::Journal(number), offset, bytes) => {
                let rotates = offset < RECORDS_OFFSET || ends_with_seal(bytes);
                let set = if rotates {
                    &mut self.rotating
                } else {
                    &mut self.appending
                };
                set.insert(number);
            }
            Call::Write(LogicalFile::Heap(_), offset, bytes) if offset < METADATA_BYTES => {
                self.checkpoint = Some(if is_incomplete(bytes) {
                    Phase::Lock
                } else {
                    Phase::Header
                });
            }
            Call::Write(..) | Call::Shape(_) | Call::Remove(_) => {
                self.checkpoint = Some(Phase::Pages);
            }
            Call::Create(_) | Call::Sync(_) | Call::Other => {}
        }
        self.phase_of(call)
    }

    fn phase_of(&self, call: Call<'_>) -> Phase {
        let array = match call {
            Call::Create(array)
            | Call::Shape(array)
            | Call::Sync(array)
            | Call::Write(array, ..)
            | Call::Remove(array) => array,
            Call::Other => return Phase::Idle,
        };
        match array {
            LogicalFile::Journal(number) if self.rotating.contains(&number) => Phase::Rotation,
            LogicalFile::Journal(_) => Phase::Journal,
            _ => self.checkpoint.unwrap_or(Phase::Idle),
        }
    }

    /// Notes that a call has returned.
    pub(crate) fn after(&mut self, call: Call<'_>) {
        match call {
            Call::Remove(LogicalFile::Journal(number))
            | Call::Sync(LogicalFile::Journal(number)) => {
                self.journal_done(number);
            }
            Call::Write(LogicalFile::Journal(number), ..) if !self.syncs => {
                self.journal_done(number);
            }
            Call::Sync(LogicalFile::Heap(_)) => self.header_done(),
            // The second METADATA copy.
            Call::Write(LogicalFile::Heap(_), HALF_BYTES, _) if !self.syncs => self.header_done(),
            _ => {}
        }
    }

    fn journal_done(&mut self, number: JournalNumber) {
        self.rotating.remove(&number);
        self.appending.remove(&number);
    }

    /// The pages phase lasts until the header is written.
    fn header_done(&mut self) {
        if matches!(self.checkpoint, Some(Phase::Lock | Phase::Header)) {
            self.checkpoint = None;
        }
    }
}

/// Returns whether these bytes are METADATA of an incomplete heap (`WRITE_LOCK` is 0).
pub(crate) fn is_incomplete(metadata: &[u8]) -> bool {
    metadata.get(WRITE_LOCK_OFFSET) == Some(&0)
}

/// Returns whether the last record is a seal record. It ends its file and has no body; one write
/// may hold several records.
fn ends_with_seal(records: &[u8]) -> bool {
    let last = records.last_chunk::<RECORD_BYTES>();
    last.is_some_and(|last| last.starts_with(b"FSRC") && last[KIND_OFFSET] == KIND_SEAL)
}
