//! Faults done on purpose, so that it is known that a storm finds them.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;
use flatspan::snapshot::{Array, Disk};

use crate::phases::{METADATA_BYTES, is_taken};

/// In a journal file, from docs/file-format.md.
const RECORDS_AT: u64 = 4096;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FaultKind {
    /// Records of the journal are acknowledged and not written.
    DropJournalWrites,
    /// METADATA says that a heap is complete before its pages are there.
    HeaderBeforePages,
    /// What should be one transaction is two.
    SplitTransactions,
}

impl FaultKind {
    /// As clap reads it.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Writes that are made later, after the next sync of an array.
#[derive(Debug, Default)]
struct Held {
    writes: Vec<(Array, u64, Vec<u8>)>,
    until: Option<Array>,
}

/// Between the store and its disk.
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

    /// A write, once the store is open.
    pub(crate) fn write(
        &self,
        disk: &dyn Disk,
        array: Array,
        offset: u64,
        buf: &[u8],
    ) -> io::Result<()> {
        match (self.kind, array) {
            (Some(FaultKind::DropJournalWrites), Array::Journal(_)) if offset >= RECORDS_AT => {
                return Ok(());
            }
            (Some(FaultKind::HeaderBeforePages), Array::Heap(_)) if offset < METADATA_BYTES => {
                let released = (!is_taken(buf)).then_some(array);
                self.lock().until = released;
            }
            (Some(FaultKind::HeaderBeforePages), Array::Heap(_) | Array::Table(_)) => {
                self.lock().writes.push((array, offset, buf.to_vec()));
                return Ok(());
            }
            _ => {}
        }
        disk.write(array, offset, buf)
    }

    /// After a sync: what was held back follows the header.
    pub(crate) fn synced(&self, disk: &dyn Disk, array: Array) -> io::Result<()> {
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
