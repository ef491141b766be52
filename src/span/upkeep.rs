//! Flushing, hints and eviction: what passes through to the files of a range.

use std::ops::{Range, RangeBounds};

use super::error::SpanError;
use super::group::Group;
use crate::mapping_cache::{Advice, CachedFile, FlushMode, MappingError};

impl Group {
    /// Writes a range to disk. With [`FlushMode::Sync`] it returns when the data is durable, and with
    /// it everything else written to the files that the range touches; new entries of folders are
    /// synced only by [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; `SyncFailed` of a file, which is final for it.
    pub fn flush(&self, range: impl RangeBounds<u64>, mode: FlushMode) -> Result<(), SpanError> {
        if mode == FlushMode::Sync {
            // So that the waits below overlap.
            self.each(&range, |file, part| file.flush(part, FlushMode::Async))?;
        }
        self.each(&range, |file, part| file.flush(part, mode))
    }

    /// Returns when everything written to the group before is durable: data, lengths, and the entries
    /// of new files and folders.
    ///
    /// # Errors
    ///
    /// The first `SyncFailed`, after the other files were synced. It is final for that file.
    pub fn sync_all(&self) -> Result<(), SpanError> {
        let files = || self.entries.iter().filter_map(|entry| entry.file());
        for file in files() {
            // A hint, so that the waits below overlap; they report what fails.
            let _ = file.flush(0..file.declared_bytes(), FlushMode::Async);
        }
        let synced: Vec<_> = files().map(CachedFile::sync).collect();
        let directories = self.directories.sync();
        for result in synced {
            result?;
        }
        Ok(directories?)
    }

    /// Returns when the entries of new files and folders are durable, and that removed ones are gone.
    ///
    /// # Errors
    ///
    /// `SyncFailed` with the folder.
    pub fn sync_directories(&self) -> Result<(), SpanError> {
        Ok(self.directories.sync()?)
    }

    /// Tells the kernel what to expect of a range.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; those of opening the files, and of locking memory.
    pub fn advise(&self, range: impl RangeBounds<u64>, advice: Advice) -> Result<(), SpanError> {
        self.each(&range, |file, part| file.advise(part, advice))
    }

    /// Asks the kernel to read a range soon; does not wait. Files that are missing are left out.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; those of opening the files.
    pub fn prefetch(&self, range: impl RangeBounds<u64>) -> Result<(), SpanError> {
        self.each(&range, |file, part| match file.prefetch(part) {
            Err(MappingError::Missing { .. }) => Ok(()),
            done => done,
        })
    }

    /// Is all of a range in memory? Padding is; a range that a file does not reach is not.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; those of opening and mapping the files.
    pub fn is_resident(&self, range: impl RangeBounds<u64>) -> Result<bool, SpanError> {
        let mut resident = true;
        self.each(&range, |file, part| {
            resident = resident
                && match file.is_resident(part) {
                    Err(MappingError::Missing { .. }) => false,
                    answer => answer?,
                };
            Ok(())
        })?;
        Ok(resident)
    }

    /// Unmaps the windows that a range touches and nobody pins; returns how many bytes were unmapped.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`].
    pub fn evict(&self, range: impl RangeBounds<u64>) -> Result<u64, SpanError> {
        let mut bytes = 0;
        self.each(&range, |file, part| {
            bytes += file.evict(part)?;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Is there anything in the range but padding and holes? Bytes that are missing count as something.
    pub(super) fn has_data(&self, range: Range<u64>) -> Result<bool, SpanError> {
        Ok(self.next_data(range)?.is_some())
    }

    /// Is the byte at this offset in the page cache? A byte that cannot be asked for is not.
    #[cfg(feature = "rayon")]
    pub(super) fn is_cached(&self, offset: u64) -> bool {
        let Ok(mut extents) = self.layout.extents(offset..offset + 1) else {
            return false;
        };
        extents.all(|extent| match self.entries[extent.entry].place(extent) {
            Some((file, part)) => {
                matches!(file.read_cached_at(part.start, &mut [0]), Ok(Some(1)))
            }
            None => true,
        })
    }

    /// Does any of the files lie on a disk that moves its head?
    #[cfg(feature = "rayon")]
    pub(super) fn is_rotational(&self) -> bool {
        let mut files = self.entries.iter().filter_map(|entry| entry.file());
        files.any(|file| matches!(file.is_rotational(), Ok(true)))
    }

    pub(super) fn each(
        &self,
        range: &impl RangeBounds<u64>,
        mut act: impl FnMut(&CachedFile, Range<u64>) -> Result<(), MappingError>,
    ) -> Result<(), SpanError> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        for extent in self.layout.extents(bounds)? {
            if let Some((file, part)) = self.entries[extent.entry].place(extent) {
                act(file, part)?;
            }
        }
        Ok(())
    }
}
