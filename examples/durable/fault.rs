//! Deliberate faults, which show that a crash test detects them.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;
use flatspan::snapshot::{LogicalFile, StorageBackend};

use crate::phases::{METADATA_BYTES, is_incomplete};

/// Offset of the first record of a journal file (docs/file-format.md).
const RECORDS_OFFSET: u64 = 4096;

/// Deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FaultKind {
    /// Journal records are acknowledged but not written.
    DropJournalWrites,
    /// METADATA marks a heap as complete before its pages are written.
    HeaderBeforePages,
    /// One transaction is written as two.
    SplitTransactions,
}

impl FaultKind {
    /// Returns the name that clap accepts.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Writes that are delayed until the next sync of a file.
#[derive(Debug, Default)]
struct Held {
    writes: Vec<(LogicalFile, u64, Vec<u8>)>,
    until: Option<LogicalFile>,
}

/// Layer between the store and its backend that injects the fault.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: Option<FaultKind>,
    held: Mutex<Held>,
}

impl Fault {
    pub(crate) fn new(kind: Option<FaultKind>) -> Self {
        Self {
            kind,
            held: Mutex::default(),
        }
    }

    /// Writes, delays or drops bytes of an open store.
    pub(crate) fn write(
        &self,
        disk: &dyn StorageBackend,
        array: LogicalFile,
        offset: u64,
        buf: &[u8],
    ) -> io::Result<()> {
        match (self.kind, array) {
            (Some(FaultKind::DropJournalWrites), LogicalFile::Journal(_))
                if offset >= RECORDS_OFFSET =>
            {
                return Ok(());
            }
            (Some(FaultKind::HeaderBeforePages), LogicalFile::Heap(_))
                if offset < METADATA_BYTES =>
            {
                let released = (!is_incomplete(buf)).then_some(array);
                self.lock().until = released;
            }
            (Some(FaultKind::HeaderBeforePages), LogicalFile::Heap(_) | LogicalFile::Table(_)) => {
                self.lock().writes.push((array, offset, buf.to_vec()));
                return Ok(());
            }
            _ => {}
        }
        disk.write(array, offset, buf)
    }

    /// Writes the delayed bytes after the sync of the header.
    pub(crate) fn synced(&self, disk: &dyn StorageBackend, array: LogicalFile) -> io::Result<()> {
        let mut held = self.lock();
        if held.until != Some(array) {
            return Ok(());
        }
        held.until = None;
        let late = std::mem::take(&mut held.writes);
        drop(held);
        late.iter()
            .try_for_each(|(array, offset, bytes)| disk.write(*array, *offset, bytes))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
