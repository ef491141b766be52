//! Transactions: atomic, durable sets of changes to the memory of a store.
//!
//! # Safety
//!
//! A transaction holds exclusive access, so no other reference to the region's memory exists in
//! this process: views hold shared access, and captures copy by the kernel. The slices of a
//! transaction borrow from it. The region stays mapped at its address while the store exists
//! (docs/unsafe.md).
#![expect(unsafe_code, reason = "slices of the region")]

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;

use crate::numbers::Sequence;
use crate::snapshot::checkpoint::{BackgroundCheckpoints, StoreParts};
use crate::snapshot::error::StoreError;
use crate::snapshot::format::{Body, Change, PAGE_BYTES, RecordKind, is_zero};
use crate::snapshot::memory::{ExclusiveAccess, StoreMemory, pages_of};
use crate::snapshot::page_set::PageSet;
use crate::snapshot::store_files::StoreFiles;

/// Atomic, durable set of changes to the memory of a store; see
/// [`Store::begin`](crate::snapshot::Store::begin) and
/// [`Store::transaction`](crate::snapshot::Store::transaction).
///
/// Dropping a transaction undoes its changes. The transaction saves the earlier bytes of a range
/// before it returns the range for writing. A transaction stays on the thread that began it, since
/// that thread holds the access lock.
///
/// # Examples
///
/// ```no_run
/// use flatspan::snapshot::{Store, StoreOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::open("/var/lib/counter", StoreOptions::default().initial_bytes(4096))?;
/// let mut tx = store.begin()?;
/// tx.write_at(0, b"new")?;
/// tx.commit()?;
/// # Ok(())
/// # }
/// ```
///
/// Another thread cannot commit it:
///
/// ```compile_fail,E0277
/// use flatspan::snapshot::{Store, StoreError};
///
/// fn commit_elsewhere(store: &Store) -> Result<(), StoreError> {
///     let tx = store.begin()?;
///     std::thread::scope(|scope| scope.spawn(|| tx.commit()).join().expect("no panic"))
/// }
/// ```
#[derive(Debug)]
pub struct Transaction<'s> {
    parts: &'s StoreParts,
    background: Option<&'s BackgroundCheckpoints>,
    /// Earlier bytes, by offset. The ranges do not overlap.
    before: BTreeMap<u64, Box<[u8]>>,
    len_before: u64,
    /// Shortest length of the region during the transaction.
    len_min: u64,
    is_finished: bool,
    /// The access lock counts threads, so a transaction is not `Send`.
    _not_send: PhantomData<*const ()>,
    /// Last field: released after `drop` has undone the changes.
    _access: ExclusiveAccess<'s>,
}

impl<'s> Transaction<'s> {
    pub(super) fn new(
        parts: &'s StoreParts,
        background: Option<&'s BackgroundCheckpoints>,
        access: ExclusiveAccess<'s>,
    ) -> Self {
        let len = parts.memory.len();
        Self {
            parts,
            background,
            before: BTreeMap::new(),
            len_before: len,
            len_min: len,
            is_finished: false,
            _not_send: PhantomData,
            _access: access,
        }
    }

    /// Commits the changes and waits until they are durable.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Backend`] with `StorageFull` if the disk is full. The changes are undone.
    /// - [`StoreError::Poisoned`] if an earlier error poisoned the store. The changes are
    ///   undone.
    /// - [`StoreError::Backend`] if writing or syncing the journal fails. The changes may be
    ///   durable or not, and the store is poisoned.
    pub fn commit(self) -> Result<(), StoreError> {
        let files = &self.parts.files;
        let sequence = self.commit_deferred()?;
        files.commit(sequence.get())
    }

    /// Commits the changes without waiting, and returns their sequence number.
    ///
    /// The changes are durable when [`Store::wait_durable`](crate::snapshot::Store::wait_durable)
    /// returns for this number or a later one. Without changes, the last sequence number is
    /// returned.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Backend`] if no storage can be reserved for the changes. They are undone.
    /// - [`StoreError::Poisoned`] if an earlier error poisoned the store. The changes are
    ///   undone.
    pub fn commit_deferred(mut self) -> Result<Sequence, StoreError> {
        let sequence = self.append()?;
        let (parts, background) = (self.parts, self.background);
        drop(self);
        if let Some(background) = background {
            background.notify_commit(parts);
        }
        let sequence = sequence.unwrap_or_else(|| parts.files.journal.sequence());
        Ok(Sequence::new(sequence))
    }

    /// Returns the length of the region in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.memory().len()
    }

    /// Returns whether the region has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the memory.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let start = self.memory().region.as_ptr().as_ptr();
        // SAFETY: the region has this many bytes, mapped for reading and writing. Resizing it needs
        // `&mut self`. No other reference exists (module documentation).
        unsafe { std::slice::from_raw_parts(start, self.memory().region.len()) }
    }

    /// Returns a range of the memory for writing. The transaction saves the range and writes it to
    /// the journal.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the range is outside of the region.
    /// - [`StoreError::InvertedRange`] if the range ends before it starts.
    pub fn bytes_mut(&mut self, range: Range<u64>) -> Result<&mut [u8], StoreError> {
        let range = self.checked(range)?;
        self.save(range.clone());
        let start = self.memory().region.as_ptr().as_ptr();
        // Lossless: within the region, whose length is a usize.
        let len = (range.end - range.start) as usize;
        // SAFETY: the range is within the region, which `checked` has verified.
        let start = unsafe { start.add(range.start as usize) };
        // SAFETY: as in `bytes`, and `&mut self` excludes other slices of this transaction.
        Ok(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    /// Writes bytes at `offset`.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the range is outside of the region.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.bytes_mut(offset..end)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Sets a range to zeros. Releases the memory and the storage of whole pages.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the range is outside of the region.
    /// - [`StoreError::InvertedRange`] if the range ends before it starts.
    /// - [`StoreError::Region`] if the memory cannot be released.
    pub fn discard(&mut self, range: Range<u64>) -> Result<(), StoreError> {
        let range = self.checked(range)?;
        self.save(range.clone());
        let page = PAGE_BYTES as u64;
        let whole = range.start.next_multiple_of(page)..range.end / page * page;
        if whole.start >= whole.end {
            self.bytes_mut(range)?.fill(0);
            return Ok(());
        }
        self.bytes_mut(range.start..whole.start)?.fill(0);
        self.bytes_mut(whole.end..range.end)?.fill(0);
        // Lossless: within the region.
        let whole = whole.start as usize..whole.end as usize;
        Ok(self.memory().region.discard(whole)?)
    }

    /// Sets the length of the region, rounded up to pages of 4096 bytes. Adds zeros or truncates
    /// it.
    ///
    /// # Errors
    ///
    /// - [`StoreError::InvalidOption`] if the length exceeds the reserved addresses.
    /// - [`StoreError::Region`] if the region cannot be resized.
    pub fn resize(&mut self, len: u64) -> Result<(), StoreError> {
        let now = self.len();
        let len = self.memory().whole_pages(len)?;
        if len < now {
            self.save(len..now);
            self.len_min = self.len_min.min(len);
        }
        self.memory().set_len(len)
    }

    fn memory(&self) -> &'s StoreMemory {
        &self.parts.memory
    }

    fn files(&self) -> &'s StoreFiles {
        &self.parts.files
    }

    fn checked(&self, range: Range<u64>) -> Result<Range<u64>, StoreError> {
        let Range { start, end } = range;
        if start > end {
            return Err(StoreError::InvertedRange { start, end });
        }
        if end <= self.len() {
            return Ok(range);
        }
        Err(StoreError::OutOfBounds {
            offset: start,
            len: end - start,
            region_bytes: self.len(),
        })
    }

    /// Saves the bytes of a range that were not saved before. Bytes that this transaction added to
    /// the region are not saved.
    fn save(&mut self, range: Range<u64>) {
        let end = range.end.min(self.len_before);
        let mut at = range.start;
        while at < end {
            let saved = self.before.range(..=at).next_back();
            if let Some(saved_end) = saved.map(|(start, bytes)| start + bytes.len() as u64)
                && saved_end > at
            {
                at = saved_end;
                continue;
            }
            let next = self.before.range(at..).next();
            let stop = next.map_or(end, |(start, _)| end.min(*start));
            let bytes = &self.bytes()[at as usize..stop as usize];
            let bytes = Box::from(bytes);
            self.before.insert(at, bytes);
            at = stop;
        }
    }

    /// Returns the changed ranges with their present bytes, for the journal.
    fn body(&self) -> Body<'_> {
        let mut changes = Vec::new();
        let len = self.len();
        let bytes = self.bytes();
        // Bytes that were truncated and added again became zeros: record all of them here, once.
        add_bytes(&mut changes, bytes, self.len_min..len.min(self.len_before));
        for (start, saved) in &self.before {
            let end = (start + saved.len() as u64).min(self.len_min);
            add_bytes(&mut changes, bytes, *start..end);
        }
        add_bytes(&mut changes, bytes, self.len_before..len);
        Body {
            payload_bytes: len,
            changes,
        }
    }

    /// Appends the changes to the journal and returns their sequence number, or `None` without
    /// changes. Nothing is undone afterwards [I22].
    fn append(&mut self) -> Result<Option<u64>, StoreError> {
        let body = self.body();
        let mut sequence = None;
        if !body.changes.is_empty() || self.len() != self.len_before {
            let journal = &self.files().journal;
            journal.reserve(body.len() as u64, 1)?;
            let generation = self.files().generation().get();
            let appended = journal.append(RecordKind::Transaction, true, generation, &body);
            sequence = Some(appended?);
        }
        self.is_finished = true;
        // A capture that copied a page during the transaction copies it again. The marks must be
        // set under the access lock.
        *self.memory().dirty() |= &self.touched();
        Ok(sequence)
    }

    /// Returns the pages that the transaction may have changed.
    fn touched(&self) -> PageSet {
        let mut touched = PageSet::default();
        let ranges = self.before.iter();
        let ranges = ranges.map(|(start, saved)| *start..*start + saved.len() as u64);
        let lengths = self.len_min..self.len().max(self.len_before);
        for range in ranges.chain([lengths]).filter(|range| !range.is_empty()) {
            touched.insert_range(pages_of(&range));
        }
        touched
    }

    fn undo(&mut self) {
        if let Err(error) = self.memory().set_len(self.len_before) {
            self.memory().poison(&error);
            return;
        }
        let memory = self.memory().region.as_ptr().as_ptr();
        for (start, saved) in std::mem::take(&mut self.before) {
            // SAFETY: the range was within the region when it was saved, and the region has that
            // length again.
            let start = unsafe { memory.add(start as usize) };
            // SAFETY: as in `bytes_mut`.
            unsafe { std::slice::from_raw_parts_mut(start, saved.len()) }.copy_from_slice(&saved);
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            let touched = self.touched();
            self.undo();
            // Mark the pages after the changes are undone: a capture may have copied them before.
            *self.memory().dirty() |= &touched;
        }
    }
}

/// Adds a range of bytes, with runs of zeros as [`Change::Zeros`].
fn add_bytes<'m>(changes: &mut Vec<(u64, Change<'m>)>, memory: &'m [u8], range: Range<u64>) {
    // A separate entry for zeros costs about as much as this many bytes.
    const ZEROS_MIN: u64 = 64;
    let bytes = |range: Range<u64>| &memory[range.start as usize..range.end as usize];
    let mut start = range.start;
    let mut at = start;
    while at < range.end {
        let stop = ((at / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64).min(range.end);
        if stop - at >= ZEROS_MIN && is_zero(bytes(at..stop)) {
            if start < at {
                changes.push((start, Change::Bytes(bytes(start..at))));
            }
            changes.push((at, Change::Zeros(stop - at)));
            start = stop;
        }
        at = stop;
    }
    if start < range.end {
        changes.push((start, Change::Bytes(bytes(start..range.end))));
    }
}
