//! A state of a store, read piece by piece.

use std::ops::Range;

use super::clone::JournalEnds;
use super::facts::StoreReader;
use super::hold::{Hold, Which};
use super::overlay::Overlay;
use crate::snapshot::backend::Disk;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{FAN, HeapName, Metadata, PAGE_BYTES};
use crate::snapshot::heap;
use crate::snapshot::heap::ChecksumTree as Table;
use crate::snapshot::journal::{Cut, Record};

/// So many pages are read with one table in memory, which keeps every block it has seen: 1 GiB.
pub(super) const STEP_PAGES: u64 = FAN * FAN;

/// A complete heap, with the journal behind it or without. While it lives, no checkpoint enters that heap.
///
/// Pages are checked against the heap's checksum tree as they are read; what the journal has is in memory.
#[derive(Debug)]
pub struct Image {
    reader: StoreReader,
    pub(super) hold: Hold,
    pub(super) overlay: Overlay,
    len: u64,
    generation: u64,
    sequence: u64,
    /// Checksum of the record of that sequence.
    pub(super) chain: u64,
    pub(super) journal_ends: JournalEnds,
    replayed_records: u64,
    cuts: Vec<Cut>,
}

/// What the journal makes of a heap.
struct Behind {
    /// `None` where nobody reads it.
    overlay: Option<Overlay>,
    len: u64,
    generation: u64,
    sequence: u64,
    journal_ends: JournalEnds,
    records: u64,
}

impl StoreReader {
    /// The newest state: what opening the store would give, if the newer heap holds what it promises.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NoHeap`]; [`SnapshotError::Damaged`] for the journal; `ResourceBusy` in
    /// [`SnapshotError::Directory`] if checkpoints enter both heaps again and again.
    pub fn newest(&self) -> Result<Image, SnapshotError> {
        let image = self.with_journal(Which::First, true)?;
        Ok(image.expect("there is a first or an error"))
    }

    /// As [`newest`](Self::newest), to be cloned and compared, not to be read: what the journal has is not in memory.
    pub(in crate::snapshot) fn newest_to_clone(&self) -> Result<Image, SnapshotError> {
        let image = self.with_journal(Which::First, false)?;
        Ok(image.expect("there is a first or an error"))
    }

    /// What opening tries next: the older heap and the journal behind it. `None` if it is not complete. Changes that only went into
    /// the newer heap are not in it.
    ///
    /// # Errors
    ///
    /// As for [`newest`](Self::newest).
    pub fn second_chance(&self) -> Result<Option<Image>, SnapshotError> {
        self.with_journal(Which::Second, true)
    }

    /// One heap alone. `None` if it is not complete.
    ///
    /// # Errors
    ///
    /// As for [`newest`](Self::newest), but for the journal.
    pub fn heap(&self, heap: HeapName) -> Result<Option<Image>, SnapshotError> {
        let Some(hold) = self.hold(Which::Named(heap))? else {
            return Ok(None);
        };
        heap::must_be_whole(&hold.disk, &hold.metadata)?;
        Ok(Some(Image {
            reader: self.clone(),
            overlay: Overlay::default(),
            len: hold.metadata.payload_bytes,
            generation: hold.metadata.generation,
            sequence: hold.metadata.sequence,
            chain: hold.metadata.chain,
            journal_ends: JournalEnds::default(),
            replayed_records: 0,
            cuts: Vec::new(),
            hold,
        }))
    }

    fn with_journal(&self, which: Which, to_be_read: bool) -> Result<Option<Image>, SnapshotError> {
        let Some(hold) = self.hold(which)? else {
            return Ok(None);
        };
        heap::must_be_whole(&hold.disk, &hold.metadata)?;
        let begin = || Behind::nothing(&hold.metadata, to_be_read);
        let (replayed, behind) = hold.replay(begin, Behind::add)?;
        Ok(Some(Image {
            reader: self.clone(),
            overlay: behind.overlay.unwrap_or_default(),
            len: behind.len,
            generation: behind.generation,
            sequence: behind.sequence,
            chain: replayed.chain,
            journal_ends: behind.journal_ends,
            replayed_records: behind.records,
            cuts: replayed.cuts,
            hold,
        }))
    }
}

impl Behind {
    fn nothing(metadata: &Metadata, to_be_read: bool) -> Self {
        Self {
            overlay: to_be_read.then(Overlay::default),
            len: metadata.payload_bytes,
            generation: metadata.generation,
            sequence: metadata.sequence,
            journal_ends: JournalEnds::default(),
            records: 0,
        }
    }

    fn add(&mut self, record: &Record<'_>) {
        let header = &record.header;
        self.records += 1;
        self.sequence = header.sequence;
        self.journal_ends.add(record);
        self.generation = self.generation.max(header.generation);
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
    /// METADATA of the heap.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.hold.metadata
    }

    /// Length of the region in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The generation, which may be one of the journal.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The last record of the journal that is in it.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Records of the journal that are behind the heap.
    #[must_use]
    pub fn replayed_records(&self) -> u64 {
        self.replayed_records
    }

    /// Tails of the journal that were never acknowledged, and are left out; with a running writer, also what it is
    /// about to write.
    #[must_use]
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// Hands out, in ascending order, all that is not zeros: an offset, and bytes from there on. It is also called with no bytes
    /// now and then, to tell how far it is, and ends with the first error that it returns.
    ///
    /// # Errors
    ///
    /// Those of `take`; [`SnapshotError::Damaged`] and [`SnapshotError::Disk`].
    pub fn read<E: From<SnapshotError>>(
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
        Ok(self.check_unchanged()?)
    }

    /// Makes sure that what was read from the [`parts`](Self::parts) so far is of this image. That is so where
    /// the heap could be locked; on a filesystem or for a user that may not lock it, its header is read once more.
    ///
    /// # Errors
    ///
    /// `ResourceBusy` in [`SnapshotError::Directory`]: a checkpoint has entered the heap meanwhile.
    pub fn check_unchanged(&self) -> Result<(), SnapshotError> {
        self.hold.must_be_unchanged(&self.reader)
    }

    /// Fills `buf` with whole pages, from page `first` on; zeros behind the end.
    pub(super) fn read_pages(
        &self,
        table: &mut Table,
        first: u64,
        buf: &mut [u8],
    ) -> Result<(), SnapshotError> {
        buf.fill(0);
        let last = first + (buf.len() / PAGE_BYTES) as u64;
        let base = first..last.min(self.metadata().pages()).max(first);
        self.base(table, base, |page, bytes| {
            let at = (page - first) as usize * PAGE_BYTES;
            buf[at..at + bytes.len()].copy_from_slice(bytes);
            Ok::<_, SnapshotError>(())
        })?;
        let offset = first * PAGE_BYTES as u64;
        self.overlay.patch(offset, buf);
        let inside = self.len.saturating_sub(offset).min(buf.len() as u64);
        buf[inside as usize..].fill(0);
        Ok(())
    }

    pub(super) fn table(&self) -> Result<Table, SnapshotError> {
        let metadata = self.metadata();
        Table::open(
            &self.hold.disk,
            metadata.heap,
            metadata.seed(),
            metadata.root,
        )
    }

    fn base<E: From<SnapshotError>>(
        &self,
        table: &mut Table,
        pages: Range<u64>,
        take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        heap::read_pages(&self.hold.disk, self.metadata(), table, pages, take, |_| ())
    }

    /// Bytes of the heap with what the journal has before them and over them.
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

    /// A hole of the heap.
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

impl Hold {
    /// The array with the pages.
    pub(super) fn array(&self) -> Array {
        Array::Heap(self.metadata.heap)
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &self.disk
    }
}
