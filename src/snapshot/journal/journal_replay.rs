//! Replay of the journal (docs/file-format.md, "Reading back", 3). Writes nothing.

use super::position::Position;
use crate::numbers::{JournalNumber, Sequence};
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::{CorruptionCause, StoreError};
use crate::snapshot::failpoint::{Failpoint, is_active};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{
    Body, HeaderError, HeapName, JournalHeader, Metadata, PAGE_BYTES, RECORD_HEADER_BYTES,
    RECORD_MAGIC, RECORDS_AT, RecordHeader, RecordKind, StoreId, is_zero,
};

/// Start of a replay, and the records that must exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) store: StoreId,
    pub(crate) position: Position,
    /// Generation of the heap.
    pub(crate) generation: u64,
    /// Last sequence number, if the store was shut down cleanly.
    pub(crate) end: Option<u64>,
    /// Last sequence number that a header states as durable.
    pub(crate) promised: u64,
}

impl Start {
    /// Returns the start after a heap.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            store: metadata.store_id,
            position: Position {
                sequence: metadata.last_sequence.get(),
                chain: metadata.last_record_checksum,
                journal: metadata.first_journal,
            },
            generation: metadata.generation.get(),
            end: metadata.end_sequence.map(Sequence::get),
            promised: metadata.last_sequence.get(),
        }
    }

    /// Returns the start after a heap that replaces a corrupt newer heap.
    pub(crate) fn instead_of(newer: &Metadata, metadata: &Metadata) -> Self {
        Self {
            // The newer heap records the clean shutdown, not this one.
            end: None,
            promised: newer.last_sequence.get(),
            ..Self::of(metadata)
        }
    }
}

/// Result of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Sequence number and checksum of the last replayed record.
    pub(crate) sequence: u64,
    pub(crate) chain: u64,
    /// Highest generation of a replayed record.
    pub(crate) generation: u64,
    /// Highest generation of any record, including ignored ones. It is not reused.
    pub(crate) seen_generation: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) ignored_tails: Vec<IgnoredTail>,
    /// Generation of the missing heap that later records apply to.
    pub(crate) lost_base: Option<u64>,
}

/// Ignored tail: unacknowledged bytes after the last valid record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredTail {
    /// Number of the journal file.
    pub journal: JournalNumber,
    /// End of the valid records.
    pub offset: u64,
    /// Bytes after it.
    pub len_bytes: u64,
    /// Sequence number of the first ignored record.
    pub first_sequence: Sequence,
}

/// Journal file with a valid header.
#[derive(Debug)]
pub(crate) struct JournalFile {
    pub(crate) number: JournalNumber,
    id: u64,
    pub(crate) len: u64,
    /// Header of its first record, if that is valid.
    first: Option<RecordHeader>,
}

/// Record that a replay applies.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) header: RecordHeader,
    /// Number of its file.
    pub(crate) journal: JournalNumber,
    /// Offset in that file.
    pub(crate) offset: u64,
    /// `None` for a seal record.
    pub(crate) body: Option<Body<'a>>,
}

/// Sequence number and checksum of a record.
type Link = (u64, u64);

struct Replay<'a> {
    disk: &'a dyn StorageBackend,
    start: Start,
    files: Vec<JournalFile>,
    /// Index of the present file and offset in it.
    index: usize,
    at: u64,
    /// Last record that was read.
    reached: Link,
    /// Last record that completes a group, and the position after it.
    complete: Link,
    complete_at: (usize, u64),
    /// Records after it: an incomplete delta checkpoint.
    held: Vec<Held>,
    done: Replayed,
}

/// Record of a group that is not complete yet.
struct Held {
    header: RecordHeader,
    journal: JournalNumber,
    offset: u64,
    body: Vec<u8>,
}

/// Calls `apply` with the bodies of the valid records, in order.
pub(crate) fn replay(
    disk: &dyn StorageBackend,
    start: Start,
    mut apply: impl FnMut(&Body<'_>) -> Result<(), StoreError>,
) -> Result<Replayed, StoreError> {
    records(disk, start, |record| {
        record.body.as_ref().map_or(Ok(()), &mut apply)
    })
}

/// Calls `apply` with the valid records, in order.
pub(crate) fn records(
    disk: &dyn StorageBackend,
    start: Start,
    mut apply: impl FnMut(&Record<'_>) -> Result<(), StoreError>,
) -> Result<Replayed, StoreError> {
    let link = (start.position.sequence, start.position.chain);
    let mut replay = Replay {
        disk,
        start,
        files: open_files(disk, &start)?,
        index: 0,
        at: RECORDS_AT,
        reached: link,
        complete: link,
        complete_at: (0, RECORDS_AT),
        held: Vec::new(),
        done: Replayed::default(),
    };
    while replay.step(&mut apply)? {}
    replay.finish()
}

impl Replay<'_> {
    fn step(
        &mut self,
        apply: &mut impl FnMut(&Record<'_>) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        // A later file that continues after the last complete record replaces the rest of this
        // file, which is an ignored tail.
        let later = |file: &JournalFile| {
            file.first
                .is_some_and(|first| continues(&first, self.complete))
        };
        let rest = self.files.get(self.index + 1..).unwrap_or_default();
        if let Some(index) = rest.iter().rposition(later) {
            self.held.clear();
            self.done.lost_base = None;
            self.reached = self.complete;
            self.seek(self.index + 1 + index, RECORDS_AT);
        }
        let Some(file) = self.files.get(self.index) else {
            return Ok(false);
        };
        let Some((header, body)) = record_at(self.disk, file, self.at)? else {
            return Ok(false);
        };
        let next = self.at + record_bytes(&header);
        let is_inside_delta = !self.held.is_empty() && header.kind != RecordKind::Pages;
        if !continues(&header, self.reached) || is_inside_delta {
            return Ok(false);
        }
        self.reached = (header.sequence, header.checksum);
        self.done.seen_generation = self.done.seen_generation.max(header.generation);
        if header.floor > self.start.generation {
            self.done.lost_base = self.done.lost_base.max(Some(header.floor));
        }
        if self.done.lost_base.is_none() {
            self.add_record(header, body, apply)?;
        }
        match header.kind {
            RecordKind::Seal => self.seek(self.index + 1, RECORDS_AT),
            _ => self.seek(self.index, next),
        }
        Ok(true)
    }

    fn seek(&mut self, index: usize, at: u64) {
        (self.index, self.at) = (index, at);
        if self.held.is_empty() && self.done.lost_base.is_none() {
            self.complete_at = (index, at);
        }
    }

    /// Adds a record to the present group and applies the group if it is complete.
    fn add_record(
        &mut self,
        header: RecordHeader,
        body: Vec<u8>,
        apply: &mut impl FnMut(&Record<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.held.push(Held {
            header,
            journal: self.files[self.index].number,
            offset: self.at,
            body,
        });
        if !header.last {
            return Ok(());
        }
        for held in std::mem::take(&mut self.held) {
            let header = held.header;
            self.done.records += 1;
            self.done.bytes += record_bytes(&header);
            self.done.generation = self.done.generation.max(header.generation);
            let is_seal = header.kind == RecordKind::Seal;
            let body = (!is_seal).then(|| Body::parse(&held.body)).transpose();
            let body = body.map_err(|defect| StoreError::Corrupt {
                file: LogicalFile::Journal(held.journal),
                offset: held.offset,
                cause: CorruptionCause::InvalidRecord {
                    sequence: header.sequence.into(),
                    header_error: defect,
                },
            })?;
            apply(&Record {
                header,
                journal: held.journal,
                offset: held.offset,
                body,
            })?;
        }
        self.complete = self.reached;
        Ok(())
    }

    /// Checks the bytes after the last complete record.
    fn finish(mut self) -> Result<Replayed, StoreError> {
        let missing = self.complete.0 + 1;
        let (index, at) = self.complete_at;
        let last = self.files.get(index);
        let damaged = StoreError::Corrupt {
            file: LogicalFile::Journal(
                last.map_or(self.start.position.journal, |file| file.number),
            ),
            offset: at,
            cause: CorruptionCause::UnreadableRecord {
                sequence: missing.into(),
            },
        };
        let is_too_short = self.complete.0 < self.start.promised;
        if is_too_short || self.start.end.is_some_and(|end| end != self.complete.0) {
            return Err(damaged);
        }
        for (index, file) in self.files.iter().enumerate().skip(index) {
            let from = if index == self.complete_at.0 {
                at
            } else {
                RECORDS_AT
            };
            if self.done.lost_base.is_none() && states_durable(self.disk, file, from, missing)? {
                return Err(damaged);
            }
            if file.len > from {
                self.done.ignored_tails.push(IgnoredTail {
                    journal: file.number,
                    offset: from,
                    len_bytes: file.len - from,
                    first_sequence: missing.into(),
                });
            }
        }
        (self.done.sequence, self.done.chain) = self.complete;
        Ok(self.done)
    }
}

/// Returns the length of a record with its header.
pub(crate) fn record_bytes(header: &RecordHeader) -> u64 {
    RECORD_HEADER_BYTES as u64 + header.body_bytes
}

/// Returns whether a record continues after another one.
fn continues(header: &RecordHeader, (sequence, chain): Link) -> bool {
    header.sequence == sequence + 1
        && (header.chain == chain || is_active(Failpoint::IgnoreRecordChain))
}

/// Returns the files that may have records after the start, in order.
fn open_files(disk: &dyn StorageBackend, start: &Start) -> Result<Vec<JournalFile>, StoreError> {
    let mut files = Vec::new();
    for number in numbers(disk)? {
        if number >= start.position.journal
            && let Some(file) = open_file(disk, start.store, number)?
        {
            files.push(file);
        }
    }
    Ok(files)
}

/// Returns the numbers of all journal files, in order.
pub(crate) fn numbers(disk: &dyn StorageBackend) -> Result<Vec<JournalNumber>, StoreError> {
    let mut numbers: Vec<_> = disk
        .files()
        .map_err(StoreError::disk(
            "list the files next to",
            LogicalFile::Heap(HeapName::A),
        ))?
        .into_iter()
        .filter_map(|array| match array {
            LogicalFile::Journal(number) => Some(number),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Opens a journal file. Returns `None` for a file whose creation was interrupted, which has no
/// records.
pub(crate) fn open_file(
    disk: &dyn StorageBackend,
    store: StoreId,
    number: JournalNumber,
) -> Result<Option<JournalFile>, StoreError> {
    let array = LogicalFile::Journal(number);
    let len = disk
        .len(array)
        .map_err(StoreError::disk("get the length of", array))?;
    let mut block = [0; PAGE_BYTES];
    let header_bytes = len.min(RECORDS_AT) as usize;
    disk.read(array, 0, &mut block[..header_bytes])
        .map_err(StoreError::disk("read", array))?;
    let defect = match JournalHeader::decode(&block) {
        Ok(header) if header.store != store => HeaderError::WrongStore,
        Ok(header) if number != header.number => HeaderError::InvalidField {
            field: "number",
            found: header.number,
        },
        Ok(header) => {
            let mut file = JournalFile {
                number,
                id: header.id,
                len,
                first: None,
            };
            file.first = record_at(disk, &file, RECORDS_AT)?.map(|(header, _)| header);
            return Ok(Some(file));
        }
        Err(defect) => defect,
    };
    if is_blank_from(disk, array, RECORDS_AT, len)? {
        return Ok(None);
    }
    Err(StoreError::Corrupt {
        file: array,
        offset: 0,
        cause: CorruptionCause::Header(defect),
    })
}

fn is_blank_from(
    disk: &dyn StorageBackend,
    array: LogicalFile,
    from: u64,
    len: u64,
) -> Result<bool, StoreError> {
    let mut buf = vec![0; 1 << 16];
    let mut at = from;
    while at < len {
        let part = (len - at).min(buf.len() as u64) as usize;
        disk.read(array, at, &mut buf[..part])
            .map_err(StoreError::disk("read", array))?;
        if !is_zero(&buf[..part]) {
            return Ok(false);
        }
        at += part as u64;
    }
    Ok(true)
}

/// Parses the header of a possible record that fits in the file.
fn header_at(
    disk: &dyn StorageBackend,
    file: &JournalFile,
    at: u64,
) -> Result<Option<RecordHeader>, StoreError> {
    let array = LogicalFile::Journal(file.number);
    let rest = file.len.saturating_sub(at);
    let Some(body_bytes_max) = rest.checked_sub(RECORD_HEADER_BYTES as u64) else {
        return Ok(None);
    };
    let mut header = [0; RECORD_HEADER_BYTES];
    disk.read(array, at, &mut header)
        .map_err(StoreError::disk("read", array))?;
    let header = RecordHeader::parse(&header);
    Ok(header.filter(|header| header.body_bytes <= body_bytes_max))
}

/// Reads the record at an offset. Returns `None` if there is no valid record.
pub(crate) fn record_at(
    disk: &dyn StorageBackend,
    file: &JournalFile,
    at: u64,
) -> Result<Option<(RecordHeader, Vec<u8>)>, StoreError> {
    let Some(header) = header_at(disk, file, at)? else {
        return Ok(None);
    };
    let array = LogicalFile::Journal(file.number);
    let mut body = Vec::new();
    // No writer appends a record that does not fit in memory.
    if body.try_reserve_exact(header.body_bytes as usize).is_err() {
        return Ok(None);
    }
    body.resize(header.body_bytes as usize, 0);
    disk.read(array, at + RECORD_HEADER_BYTES as u64, &mut body)
        .map_err(StoreError::disk("read", array))?;
    Ok(header
        .has_valid_checksum(file.id, &body)
        .then_some((header, body)))
}

/// Returns whether a valid record from an offset on states that a sequence number was durable.
fn states_durable(
    disk: &dyn StorageBackend,
    file: &JournalFile,
    from: u64,
    sequence: u64,
) -> Result<bool, StoreError> {
    const CHUNK_BYTES: usize = 1 << 16;
    let array = LogicalFile::Journal(file.number);
    let mut buf = vec![0; CHUNK_BYTES];
    let mut at = from;
    while at < file.len {
        let part = (file.len - at).min(CHUNK_BYTES as u64) as usize;
        disk.read(array, at, &mut buf[..part])
            .map_err(StoreError::disk("read", array))?;
        let starts = buf[..part].chunks(8).enumerate();
        for (index, _) in starts.filter(|(_, word)| word.starts_with(&RECORD_MAGIC)) {
            let here = at + 8 * index as u64;
            let header = header_at(disk, file, here)?;
            if header.is_some_and(|header| header.durable >= sequence)
                && record_at(disk, file, here)?.is_some()
            {
                return Ok(true);
            }
        }
        at += part as u64;
    }
    Ok(false)
}
