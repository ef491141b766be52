//! Writers in the memory of a store.

use std::ops::Range;
use std::ptr::NonNull;

use super::error::SnapshotError;
use super::gate::Sharing;
use super::inner::Inner;
use super::transaction::pages_of;

/// Inside the memory of a store, beside other writers; see [`Store::enter`](super::Store::enter).
#[derive(Debug)]
pub struct Writing<'s> {
    pub(super) inner: &'s Inner,
    pub(super) _inside: Sharing<'s>,
}

impl Writing<'_> {
    /// Length of the region in bytes; it does not change while this lives.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner.len()
    }

    /// True without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the region begins. Using it is `unsafe`: other writers may be there.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.inner.region.as_ptr()
    }

    /// Copies bytes in, by the kernel: other writers of the same bytes may mix with it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Memory`] outside of the region.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        Ok(self
            .inner
            .region
            .copy_in(self.at(offset, bytes.len())?, bytes)?)
    }

    /// Copies bytes out, by the kernel.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Memory`] outside of the region.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), SnapshotError> {
        Ok(self
            .inner
            .region
            .copy_out(self.at(offset, buf.len())?, buf)?)
    }

    /// Says that a range was changed in a way that the tracker may not see: by another process or mapping, by a device.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Range`].
    pub fn declare(&self, range: Range<u64>) -> Result<(), SnapshotError> {
        let len = range.end.saturating_sub(range.start);
        // Lossless: checked against the region, whose length is a usize.
        self.at(range.start, usize::try_from(len).unwrap_or(usize::MAX))?;
        self.inner.declared().insert_range(pages_of(&range));
        Ok(())
    }

    /// Makes whole pages zeros and gives their memory back.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Range`]; [`SnapshotError::Memory`] for what is not whole pages of 4096 bytes.
    pub fn discard(&self, range: Range<u64>) -> Result<(), SnapshotError> {
        let mut tracking = self.inner.tracking();
        self.declare(range.clone())?;
        // Lossless: checked just now.
        let bytes = range.start as usize..range.end as usize;
        self.inner.region.discard(bytes.clone())?;
        tracking.discarded(&self.inner.region, bytes)
    }

    fn at(&self, offset: u64, len: usize) -> Result<usize, SnapshotError> {
        let end = offset.checked_add(len as u64);
        match end {
            Some(end) if end <= self.len() => Ok(offset as usize),
            _ => Err(SnapshotError::Range {
                offset,
                len: len as u64,
                region_bytes: self.len(),
            }),
        }
    }
}
