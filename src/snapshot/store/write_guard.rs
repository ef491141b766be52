//! Write guard of a tracked store.

use std::ops::Range;
use std::ptr::NonNull;

use crate::snapshot::error::StoreError;
use crate::snapshot::memory::{SharedAccess, StoreMemory, pages_of};

/// Access to the memory of a store for writing, next to other writers; see
/// [`Store::write_guard`](crate::snapshot::Store::write_guard).
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::{Store, StoreOptions, WriteMode};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let directory = dir.path().join("state");
/// let options = StoreOptions::default()
///     .write_mode(WriteMode::Tracked)
///     .initial_bytes(1 << 20);
/// let store = Store::open(directory, options)?;
/// let guard = store.write_guard()?;
/// guard.write_at(4096, b"changed")?;
/// // A checkpoint waits for the guards of all threads.
/// drop(guard);
/// store.checkpoint()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WriteGuard<'s> {
    pub(super) memory: &'s StoreMemory,
    pub(super) _access: SharedAccess<'s>,
}

impl WriteGuard<'_> {
    /// Returns the length of the region in bytes. It does not change while the guard exists.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.memory.len()
    }

    /// Returns whether the region has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the address of the region. Using it is `unsafe`, since other writers may write the
    /// memory.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.memory.region.as_ptr()
    }

    /// Writes bytes at `offset`. The kernel copies them. Concurrent writes of the same bytes may
    /// mix.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the range is outside of the region.
    /// - [`StoreError::Region`] if the copy fails.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let start = self.checked(offset, bytes.len())?;
        Ok(self.memory.region.write_at(start, bytes)?)
    }

    /// Reads bytes at `offset`. The kernel copies them.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the range is outside of the region.
    /// - [`StoreError::Region`] if the copy fails.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let start = self.checked(offset, buf.len())?;
        Ok(self.memory.region.read_at(start, buf)?)
    }

    /// Marks a range as dirty. This is required for changes that the tracker may not see: by
    /// another process, by another mapping, or by a device.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the range is outside of the region.
    pub fn mark_dirty(&self, range: Range<u64>) -> Result<(), StoreError> {
        let len = range.end.saturating_sub(range.start);
        // A length above `usize::MAX` exceeds every region.
        self.checked(range.start, usize::try_from(len).unwrap_or(usize::MAX))?;
        self.memory.dirty().insert_range(pages_of(&range));
        Ok(())
    }

    /// Sets whole pages to zeros and releases their memory.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the range is outside of the region.
    /// - [`StoreError::Region`] if the range is not in whole pages of 4096 bytes.
    pub fn discard(&self, range: Range<u64>) -> Result<(), StoreError> {
        self.mark_dirty(range.clone())?;
        // Lossless: `mark_dirty` has checked the range.
        self.memory
            .discard(range.start as usize..range.end as usize)
    }

    /// Returns the offset of a range within the region.
    fn checked(&self, offset: u64, len: usize) -> Result<usize, StoreError> {
        let end = offset.checked_add(len as u64);
        match end {
            Some(end) if end <= self.len() => Ok(offset as usize),
            _ => Err(StoreError::OutOfBounds {
                offset,
                len: len as u64,
                region_bytes: self.len(),
            }),
        }
    }
}
