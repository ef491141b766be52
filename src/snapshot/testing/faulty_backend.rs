//! Backend that leaves out single operations of a store, to show that the crash tests notice it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::crash::Recorder;
use super::workloads::{Ground, Way};
use crate::numbers::JournalNumber;
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{
    HALF_BYTES, Metadata, PAGE_BYTES, RECORD_HEADER_BYTES, RecordHeader, RecordKind,
};
use crate::snapshot::store::Store;

/// Operation that the backend leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Omission {
    /// Writing METADATA of an incomplete heap before its pages.
    MarkIncomplete,
    /// Writing METADATA of an incomplete heap after an error.
    MarkIncompleteAgain,
    /// Syncing a journal file that has a seal record.
    SyncSealedJournal,
}

/// Recorder wrapped in a backend that leaves out an operation. Its clones are the same backend.
#[derive(Clone, Debug)]
pub(super) struct FaultyBackend {
    recorder: Recorder,
    omission: Option<Omission>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    has_failed: bool,
    sealed_journals: BTreeSet<JournalNumber>,
}

impl FaultyBackend {
    pub(super) fn new(recorder: Recorder, omission: Option<Omission>) -> Self {
        Self {
            recorder,
            omission,
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics under the lock")
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.state().has_failed = true;
        }
        result
    }

    fn omits_write(&self, array: LogicalFile, offset: u64, buf: &[u8]) -> bool {
        if !matches!(array, LogicalFile::Heap(_)) || ![0, HALF_BYTES].contains(&offset) {
            return false;
        }
        let Ok(block) = <&[u8; PAGE_BYTES]>::try_from(buf) else {
            return false;
        };
        let is_mark = Metadata::decode(block).is_ok_and(|metadata| !metadata.complete);
        let omission = if self.state().has_failed {
            Omission::MarkIncompleteAgain
        } else {
            Omission::MarkIncomplete
        };
        is_mark && self.omission == Some(omission)
    }
}

/// Returns whether the last record of these bytes is a seal record, which has no body.
fn ends_with_seal(buf: &[u8]) -> bool {
    let header = buf.last_chunk::<RECORD_HEADER_BYTES>();
    let header = header.and_then(RecordHeader::parse);
    header.is_some_and(|header| header.kind == RecordKind::Seal)
}

impl Ground for FaultyBackend {
    fn open(&self, way: Way) -> Result<Store, StoreError> {
        Store::open_with_backend(Arc::new(self.clone()), way.options())
    }

    fn mark(&self, number: u64) {
        self.recorder.mark(number);
    }
}

impl StorageBackend for FaultyBackend {
    fn part_bytes(&self) -> u64 {
        self.recorder.part_bytes()
    }

    fn set_part_bytes(&self, array: LogicalFile, part_bytes: u64) -> io::Result<()> {
        self.recorder.set_part_bytes(array, part_bytes)
    }

    fn files(&self) -> io::Result<Vec<LogicalFile>> {
        self.note(StorageBackend::files(&self.recorder))
    }

    fn create(&self, array: LogicalFile) -> io::Result<()> {
        // A heap that exists is no failure.
        self.recorder.create(array)
    }

    fn len(&self, array: LogicalFile) -> io::Result<u64> {
        // A heap that does not exist is no failure.
        self.recorder.len(array)
    }

    fn read(&self, array: LogicalFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.note(self.recorder.read(array, offset, buf))
    }

    fn write(&self, array: LogicalFile, offset: u64, buf: &[u8]) -> io::Result<()> {
        if self.omits_write(array, offset, buf) {
            return Ok(());
        }
        if let LogicalFile::Journal(number) = array
            && ends_with_seal(buf)
        {
            self.state().sealed_journals.insert(number);
        }
        self.note(self.recorder.write(array, offset, buf))
    }

    fn start_writeback(&self, array: LogicalFile, range: Range<u64>) {
        self.recorder.start_writeback(array, range);
    }

    fn reserve(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.note(self.recorder.reserve(array, range))
    }

    fn set_len(&self, array: LogicalFile, len: u64) -> io::Result<()> {
        self.note(self.recorder.set_len(array, len))
    }

    fn discard(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.note(self.recorder.discard(array, range))
    }

    fn next_data(&self, array: LogicalFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.note(self.recorder.next_data(array, offset))
    }

    fn sync(&self, array: LogicalFile) -> io::Result<()> {
        if let LogicalFile::Journal(number) = array
            && self.omission == Some(Omission::SyncSealedJournal)
            && self.state().sealed_journals.contains(&number)
        {
            return Ok(());
        }
        self.note(self.recorder.sync(array))
    }

    fn drop_page_cache(&self, array: LogicalFile) -> io::Result<()> {
        self.note(self.recorder.drop_page_cache(array))
    }

    fn remove(&self, array: LogicalFile) -> io::Result<()> {
        // A file that does not exist is no failure.
        self.recorder.remove(array)
    }

    fn clone_range(&self, from: LogicalFile, to: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.note(self.recorder.clone_range(from, to, range))
    }

    fn publish(&self) -> io::Result<()> {
        self.note(self.recorder.publish())
    }

    fn part_file(&self, array: LogicalFile, part: u64) -> io::Result<Option<File>> {
        self.note(self.recorder.part_file(array, part))
    }
}
