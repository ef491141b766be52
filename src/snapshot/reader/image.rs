//! Committed state of a store, read in steps.

use std::ops::Range;

use super::heap_read_lock::{HeapReadLock, HeapSelector};
use super::inspect::StoreReader;
use super::journal_ends::JournalEnds;
use super::journal_overlay::JournalOverlay;
use crate::numbers::{Generation, Sequence};
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{FAN, HeapName, Metadata, PAGE_BYTES};
use crate::snapshot::heap;
use crate::snapshot::heap::ChecksumTree as Table;
use crate::snapshot::journal::IgnoredTail;
use crate::snapshot::journal::Record;

/// Pages that are read with one checksum tree in memory, which keeps every block that it has read:
/// 1 GiB.
pub(super) const STEP_PAGES: u64 = FAN * FAN;

/// Committed state of a store: a complete heap, with or without the journal records that follow it.
///
/// No checkpoint writes the heap until the image is dropped. Pages are verified against the
/// checksum tree of the heap while they are read. The changes in the journal are held in memory.
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::{Store, StoreError, StoreOptions, StoreReader};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("counter");
/// Store::open(&path, StoreOptions::default().initial_bytes(8192))?.close()?;
/// let image = StoreReader::open(&path)?.newest()?;
/// let mut data_bytes = 0;
/// image.for_each_data(|_offset, bytes| {
///     data_bytes += bytes.len();
///     Ok::<_, StoreError>(())
/// })?;
/// assert_eq!((image.len(), data_bytes), (8192, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Image {
    reader: StoreReader,
    pub(super) heap_lock: HeapReadLock,
    pub(super) overlay: JournalOverlay,
    len: u64,
    generation: Generation,
    sequence: Sequence,
    /// Checksum of the last record.
    pub(super) chain: u64,
    pub(super) journal_ends: JournalEnds,
    replayed_records: u64,
    ignored_tails: Vec<IgnoredTail>,
}

/// State of a region after the journal records that follow a heap.
struct JournalState {
    /// `None` if the content is not needed.
    overlay: Option<JournalOverlay>,
    len: u64,
    generation: Generation,
    sequence: Sequence,
    journal_ends: JournalEnds,
    records: u64,
}

impl StoreReader {
    /// Returns the newest state: the one that a store opens with if the committed heap is not
    /// corrupt.
    ///
    /// # Errors
    ///
    /// - [`StoreError::HeapSelection`] if no heap is complete.
    /// - [`StoreError::Corrupt`] if the journal is corrupt.
    /// - [`StoreError::Backend`] if a file cannot be read.
    /// - [`StoreError::Directory`] with `ResourceBusy` if checkpoints keep writing both heaps.
    pub fn newest(&self) -> Result<Image, StoreError> {
        let image = self.with_journal(HeapSelector::Primary, true)?;
        image.ok_or_else(|| self.busy())
    }

    /// Newest state without the content of the journal: to be cloned and compared, not to be read.
    pub(in crate::snapshot) fn newest_to_clone(&self) -> Result<Image, StoreError> {
        let image = self.with_journal(HeapSelector::Primary, false)?;
        image.ok_or_else(|| self.busy())
    }

    /// Returns the state of the fallback heap and the journal records that follow it, or `None` if
    /// that heap is not complete.
    ///
    /// A store opens with this state if the committed heap is corrupt. Changes that were written
    /// only to the committed heap are missing from it.
    ///
    /// # Errors
    ///
    /// The errors of [`newest`](Self::newest).
    pub fn fallback(&self) -> Result<Option<Image>, StoreError> {
        self.with_journal(HeapSelector::Fallback, true)
    }

    /// Returns the state of one heap without the journal, or `None` if the heap is not complete.
    ///
    /// # Errors
    ///
    /// The errors of [`newest`](Self::newest), except for errors of the journal.
    pub fn heap(&self, heap: HeapName) -> Result<Option<Image>, StoreError> {
        let Some(heap_lock) = self.lock_heap(HeapSelector::Named(heap))? else {
            return Ok(None);
        };
        heap::must_be_whole(&heap_lock.disk, &heap_lock.metadata)?;
        Ok(Some(Image {
            reader: self.clone(),
            overlay: JournalOverlay::default(),
            len: heap_lock.metadata.payload_bytes,
            generation: heap_lock.metadata.generation,
            sequence: heap_lock.metadata.last_sequence,
            chain: heap_lock.metadata.last_record_checksum,
            journal_ends: JournalEnds::default(),
            replayed_records: 0,
            ignored_tails: Vec::new(),
            heap_lock,
        }))
    }

    fn with_journal(
        &self,
        selector: HeapSelector,
        to_be_read: bool,
    ) -> Result<Option<Image>, StoreError> {
        let Some(heap_lock) = self.lock_heap(selector)? else {
            return Ok(None);
        };
        heap::must_be_whole(&heap_lock.disk, &heap_lock.metadata)?;
        let begin = || JournalState::nothing(&heap_lock.metadata, to_be_read);
        let (replayed, journal_state) = heap_lock.replay(begin, JournalState::add)?;
        Ok(Some(Image {
            reader: self.clone(),
            overlay: journal_state.overlay.unwrap_or_default(),
            len: journal_state.len,
            generation: journal_state.generation,
            sequence: journal_state.sequence,
            chain: replayed.chain,
            journal_ends: journal_state.journal_ends,
            replayed_records: journal_state.records,
            ignored_tails: replayed.ignored_tails,
            heap_lock,
        }))
    }
}

impl JournalState {
    fn nothing(metadata: &Metadata, to_be_read: bool) -> Self {
        Self {
            overlay: to_be_read.then(JournalOverlay::default),
            len: metadata.payload_bytes,
            generation: metadata.generation,
            sequence: metadata.last_sequence,
            journal_ends: JournalEnds::default(),
            records: 0,
        }
    }

    fn add(&mut self, record: &Record<'_>) {
        let header = &record.header;
        self.records += 1;
        self.sequence = header.sequence.into();
        self.journal_ends.add(record);
        if let Some(generation) = Generation::new(header.generation) {
            self.generation = self.generation.max(generation);
        }
        let Some(body) = &record.body else {
            return;
        };
        if let Some(overlay) = &mut self.overlay {
            overlay.set_len(self.len, body.payload_bytes);
            let changes = body.changes.iter();
            changes.for_each(|(at, change)| overlay.put(*at, *change));
        }
        self.len = body.payload_bytes;
    }
}

impl Image {
    /// Returns METADATA of the heap.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.heap_lock.metadata
    }

    /// Returns the length of the region in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the region has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the generation of the state, which may come from the journal.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns the sequence number of the last journal record that the state includes.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Returns the number of journal records that follow the heap.
    #[must_use]
    pub fn replayed_records(&self) -> u64 {
        self.replayed_records
    }

    /// Returns the ignored tails of the journal: bytes that were never acknowledged. While a writer
    /// runs, they may be records that it is writing.
    #[must_use]
    pub fn ignored_tails(&self) -> &[IgnoredTail] {
        &self.ignored_tails
    }

    /// Calls `take` with the data of the region, in ascending order: an offset and the bytes from
    /// there on. Ranges that are not passed are zero.
    ///
    /// Regular calls of `take` with no bytes report the offset that is reached. The first error
    /// that `take` returns ends the reading.
    ///
    /// # Errors
    ///
    /// - Any error that `take` returns.
    /// - [`StoreError::Corrupt`] if a page does not match its checksum.
    /// - [`StoreError::Backend`] if a file cannot be read.
    /// - [`StoreError::Directory`] with `ResourceBusy` if a checkpoint has changed the heap.
    pub fn for_each_data<E: From<StoreError>>(
        &self,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let page = PAGE_BYTES as u64;
        let base_pages = self.metadata().pages().min(self.len / page);
        let mut done = 0;
        let mut first = 0;
        while first < base_pages {
            let last = (first + STEP_PAGES).min(base_pages);
            let mut table = self.table()?;
            let emit = |at: u64, bytes: &[u8]| self.emit(&mut done, at * page, bytes, &mut take);
            self.base(&mut table, first..last, emit)?;
            self.gap(done..last * page, &mut take)?;
            done = last * page;
            take(done, &[])?;
            first = last;
        }
        self.gap(done..self.len, &mut take)?;
        take(self.len, &[])?;
        Ok(self.verify_unchanged()?)
    }

    /// Verifies that everything read from the [`payload_files`](Self::payload_files) so far belongs
    /// to this image.
    ///
    /// This is always so if the heap could be locked. Otherwise, for example on a read-only
    /// filesystem, the header of the heap is read again.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Directory`] with `ResourceBusy` if a checkpoint has changed the heap.
    pub fn verify_unchanged(&self) -> Result<(), StoreError> {
        self.heap_lock.check_unchanged(&self.reader)
    }

    /// Fills `buf` with whole pages from page `first` on, with zeros past the end of the region.
    pub(super) fn read_pages(
        &self,
        table: &mut Table,
        first: u64,
        buf: &mut [u8],
    ) -> Result<(), StoreError> {
        buf.fill(0);
        let last = first + (buf.len() / PAGE_BYTES) as u64;
        let base = first..last.min(self.metadata().pages()).max(first);
        self.base(table, base, |page, bytes| {
            let at = (page - first) as usize * PAGE_BYTES;
            buf[at..at + bytes.len()].copy_from_slice(bytes);
            Ok::<_, StoreError>(())
        })?;
        let offset = first * PAGE_BYTES as u64;
        self.overlay.patch(offset, buf);
        let inside = self.len.saturating_sub(offset).min(buf.len() as u64);
        buf[inside as usize..].fill(0);
        Ok(())
    }

    pub(super) fn table(&self) -> Result<Table, StoreError> {
        let metadata = self.metadata();
        Table::open(
            &self.heap_lock.disk,
            metadata.heap,
            metadata.seed(),
            metadata.tree_root_hash,
        )
    }

    fn base<E: From<StoreError>>(
        &self,
        table: &mut Table,
        pages: Range<u64>,
        take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        heap::read_pages(
            &self.heap_lock.disk,
            self.metadata(),
            table,
            pages,
            take,
            |_| (),
        )
    }

    /// Passes on bytes of the heap, and the journal changes before them and over them.
    fn emit<E>(
        &self,
        done: &mut u64,
        offset: u64,
        bytes: &[u8],
        take: &mut impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = offset + bytes.len() as u64;
        self.gap(*done..offset, take)?;
        *done = end;
        if !self.overlay.touches(offset..end) {
            return take(offset, bytes);
        }
        let mut patched = bytes.to_vec();
        self.overlay.patch(offset, &mut patched);
        take(offset, &patched)
    }

    /// Passes on journal changes over a hole of the heap.
    fn gap<E>(
        &self,
        range: Range<u64>,
        take: &mut impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (range, bytes) in self.overlay.within(range) {
            if let Some(bytes) = bytes {
                take(range.start, bytes)?;
            }
        }
        Ok(())
    }
}

impl HeapReadLock {
    /// Logical file with the pages.
    pub(super) fn array(&self) -> LogicalFile {
        LogicalFile::Heap(self.metadata.heap)
    }

    pub(super) fn disk(&self) -> &dyn StorageBackend {
        &self.disk
    }
}
