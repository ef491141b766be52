//! Files and records of the journal.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::heap_read_lock::{HeapReadLock, HeapSelector};
use super::inspect::StoreReader;
use crate::numbers::{Generation, JournalNumber, Sequence};
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::{CorruptionCause, StoreError, error_chain};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{self, HeaderError, Metadata, RECORDS_AT, RecordKind};
use crate::snapshot::journal;
use crate::snapshot::journal::IgnoredTail;
use crate::snapshot::journal::Record;
use crate::snapshot::journal::Replayed;
use crate::snapshot::journal::Start;

/// Attempts to replay a journal that a writer appends to: one attempt may see a later record and
/// miss an earlier one.
const ATTEMPTS_MAX: u32 = 8;

/// State of a journal file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalFileInfo {
    /// Number of the file.
    pub number: JournalNumber,
    /// Length of the file in bytes.
    pub len_bytes: u64,
    /// Error of the header; [`HeaderError::Zeroed`] if the file was never completed.
    pub header_error: Option<HeaderError>,
    /// Number of valid records from the start of the file.
    pub records: u64,
    /// End offset of the last valid record.
    pub records_end_offset: u64,
    /// Sequence numbers of the first and the last valid record.
    pub sequences: Option<(Sequence, Sequence)>,
    /// Whether the last valid record is a seal record, after which nothing follows in this file.
    pub sealed: bool,
}

/// Journal record that belongs to the state of the store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordInfo {
    /// Number of the journal file.
    pub journal: JournalNumber,
    /// Offset of the record in the file.
    pub offset: u64,
    /// Length of the record in bytes, including its header.
    pub len_bytes: u64,
    /// Kind of the record.
    pub kind: RecordKind,
    /// Sequence number of the record.
    pub sequence: Sequence,
    /// Generation of the record.
    pub generation: Generation,
    /// Last sequence number that was known to be durable when the record was written.
    pub durable_sequence: Sequence,
    /// Whether the record completes a transaction, a delta checkpoint or a journal file.
    pub completes_group: bool,
    /// Length of the region after the record; `None` for a seal record.
    pub region_bytes: Option<u64>,
    /// Ranges of the region that the record changes, in order.
    pub changes: Vec<Change>,
}

/// Range of the region that a record changes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Byte range of the region.
    pub range: Range<u64>,
    /// Whether the record sets the range to zeros, without storing bytes.
    pub is_zero: bool,
}

/// Heap after which [`StoreReader::records`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HeapChoice {
    /// The committed heap.
    #[default]
    Newest,
    /// The fallback heap.
    Fallback,
}

impl StoreReader {
    /// Returns the state of all journal files, in ascending order of their numbers.
    ///
    /// Records of these files belong to the state of the store only if [`records`](Self::records)
    /// returns them.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Directory`] if the directory cannot be read.
    /// - [`StoreError::Backend`] if a file cannot be read.
    /// - [`StoreError::HeapSelection`] if no heap has a valid header.
    pub fn journal_files(&self) -> Result<Vec<JournalFileInfo>, StoreError> {
        let headers = self.inspect()?;
        let known = headers.heaps.iter().find_map(|heap| heap.state.metadata());
        let Some(metadata) = known else {
            headers.selection?;
            return Ok(Vec::new());
        };
        let disk = self.disk()?;
        let mut files = Vec::new();
        for number in journal::numbers(&disk)? {
            match journal_file_info(&disk, metadata, number) {
                // A checkpoint has removed the file since the list was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                info => files.push(info?),
            }
        }
        Ok(files)
    }

    /// Calls `take` with each journal record that follows the chosen heap, in order.
    ///
    /// Returns the ignored tails of the journal, or `None` if the chosen heap is not complete.
    ///
    /// # Errors
    ///
    /// The errors of [`newest`](Self::newest), after all records before the error were passed to
    /// `take`.
    pub fn records(
        &self,
        heap: HeapChoice,
        mut take: impl FnMut(RecordInfo),
    ) -> Result<Option<Vec<IgnoredTail>>, StoreError> {
        let selector = match heap {
            HeapChoice::Newest => HeapSelector::Primary,
            HeapChoice::Fallback => HeapSelector::Fallback,
        };
        let Some(heap_lock) = self.lock_heap(selector)? else {
            return Ok(None);
        };
        let mut last_sequence = heap_lock.metadata.last_sequence;
        let replayed = heap_lock.replay(
            || (),
            |(), record| {
                // Another attempt starts again at the first record.
                if last_sequence < record.header.sequence {
                    last_sequence = record.header.sequence.into();
                    take(record_info(record));
                }
            },
        )?;
        heap_lock.check_unchanged(self)?;
        Ok(Some(replayed.0.ignored_tails))
    }
}

impl HeapReadLock {
    /// Replays the journal that follows the heap. Corruption is reported only if two attempts
    /// agree, because a running writer may append between the reads of two files. Each attempt
    /// starts with a new `begin()`.
    pub(super) fn replay<T>(
        &self,
        begin: impl Fn() -> T,
        mut apply: impl FnMut(&mut T, &Record<'_>),
    ) -> Result<(Replayed, T), StoreError> {
        let mut seen = String::new();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut state = begin();
            let replayed = journal::records(self.disk(), self.start(), |record| {
                apply(&mut state, record);
                Ok(())
            });
            match replayed {
                Ok(replayed) => return Ok((replayed, state)),
                Err(error @ StoreError::Corrupt { .. }) if attempts < ATTEMPTS_MAX => {
                    let text = error_chain(&error);
                    if text == seen {
                        return Err(error);
                    }
                    seen = text;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn start(&self) -> Start {
        match &self.newer {
            Some(newer) => Start::instead_of(newer, &self.metadata),
            None => Start::of(&self.metadata),
        }
    }
}

fn journal_file_info(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
    number: JournalNumber,
) -> Result<JournalFileInfo, StoreError> {
    let array = LogicalFile::Journal(number);
    let len = disk.len(array);
    let mut info = JournalFileInfo {
        number,
        len_bytes: len.map_err(StoreError::disk("read the length of", array))?,
        header_error: None,
        records: 0,
        records_end_offset: RECORDS_AT,
        sequences: None,
        sealed: false,
    };
    let file = match journal::open_file(disk, metadata.store_id, number) {
        Ok(Some(file)) => file,
        Ok(None) => {
            info.header_error = Some(HeaderError::Zeroed);
            return Ok(info);
        }
        Err(StoreError::Corrupt {
            cause: CorruptionCause::Header(defect),
            ..
        }) => {
            info.header_error = Some(defect);
            return Ok(info);
        }
        Err(error) => return Err(error),
    };
    while !info.sealed
        && let Some((header, _)) = journal::record_at(disk, &file, info.records_end_offset)?
    {
        info.records += 1;
        info.records_end_offset += journal::record_bytes(&header);
        info.sealed = header.kind == RecordKind::Seal;
        let sequence = Sequence::new(header.sequence);
        let first = info.sequences.map_or(sequence, |(first, _)| first);
        info.sequences = Some((first, sequence));
    }
    Ok(info)
}

fn record_info(record: &Record<'_>) -> RecordInfo {
    let header = &record.header;
    let body = record.body.as_ref();
    RecordInfo {
        journal: record.journal,
        offset: record.offset,
        len_bytes: journal::record_bytes(header),
        kind: header.kind,
        sequence: header.sequence.into(),
        generation: Generation::new(header.generation).expect("a parsed header has one"),
        durable_sequence: header.durable.into(),
        completes_group: header.last,
        region_bytes: body.map(|body| body.payload_bytes),
        changes: body.map(changes_of).unwrap_or_default(),
    }
}

fn changes_of(body: &format::Body<'_>) -> Vec<Change> {
    let change = |(offset, change): &(u64, format::Change<'_>)| {
        let (len, is_zero) = match change {
            format::Change::Bytes(bytes) => (bytes.len() as u64, false),
            format::Change::Zeros(len) => (*len, true),
        };
        Change {
            range: *offset..offset + len,
            is_zero,
        }
    };
    body.changes.iter().map(change).collect()
}
