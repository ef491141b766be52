//! The group itself, and its copying door.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builder::GroupBuilder;
use super::entry::{Entry, EntryInfo};
use super::error::SpanError;
use super::layout::{Extent, Layout};
use crate::mapping_cache::{
    CacheStats, FileOptions, MappingCache, Reservation, UnsyncedDirectories,
};

/// Files in order, seen as one array of bytes.
///
/// Reading and writing take `&self` and may be done by any number of threads; what changes the shape
/// of the group (growing, appending, releasing, moving) takes `&mut self`. The copying door is safe
/// whatever happens to the files meanwhile: bytes that are not there are an error, never a signal.
/// A copy is all before or all after every other copy of this process that meets it, whichever group, path
/// or cache it goes through; beside a span it is an error (`Busy`).
///
/// Dropping a group does not sync it: see [`sync_all`](Self::sync_all).
#[derive(Debug)]
pub struct Group {
    pub(super) layout: Layout,
    pub(super) entries: Vec<Entry>,
    pub(super) cache: MappingCache,
    pub(super) root: Arc<Path>,
    pub(super) options: FileOptions,
    pub(super) outside_root: bool,
    /// Somebody promised that nobody else changes the files ([`GroupBuilder::trust_files`]).
    pub(super) trusted: bool,
    pub(super) directories: UnsyncedDirectories,
}

impl Group {
    /// Starts a group of files beneath `root`.
    pub fn builder(root: impl Into<PathBuf>) -> GroupBuilder {
        GroupBuilder::new(root.into())
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.layout.len()
    }

    /// True without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layout.is_empty()
    }

    /// Which bytes are where.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How many entries there are, padding included.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// The entries, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = EntryInfo<'_>> {
        self.entries
            .iter()
            .enumerate()
            .map(|(index, entry)| EntryInfo {
                path: &entry.path,
                range: self.layout.range_of(index),
                kind: entry.kind(),
            })
    }

    /// The directory the paths are seen from.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The cache the group uses.
    #[must_use]
    pub fn cache(&self) -> &MappingCache {
        &self.cache
    }

    /// Statistics of the cache the group uses.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// What was really reserved for a file so far.
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`].
    pub fn reservation(&self, entry: usize) -> Result<Reservation, SpanError> {
        let file = self.entries.get(entry).and_then(Entry::file);
        let file = file.ok_or_else(|| self.no_such_file(entry))?;
        Ok(file.reservation())
    }

    /// Bytes of storage the file of an entry takes, all of the file if the entry is a range of it.
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`]; those of opening the file.
    pub fn allocated_bytes(&self, entry: usize) -> Result<u64, SpanError> {
        let file = self.entries.get(entry).and_then(Entry::file);
        let file = file.ok_or_else(|| self.no_such_file(entry))?;
        Ok(file.allocated_bytes()?)
    }

    /// Copies bytes out of the group: as many as `buf` holds, or as there are up to the end of the
    /// group or to bytes that cannot be read. Returns how many; zero only at the end of the group or
    /// for an empty `buf`.
    ///
    /// # Errors
    ///
    /// When not even the first byte can be read: `ShortFile`, `Missing` and others of
    /// [`MappingError`](crate::mapping_cache::MappingError). Errors behind the first byte are left
    /// for the call that begins there.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpanError> {
        let end = offset.saturating_add(buf.len() as u64).min(self.len());
        if offset >= end {
            return Ok(0);
        }
        let (_claims, end, error) = self.claim_what_is_free(offset..end)?;
        if let Some(error) = error
            && end == offset
        {
            return Err(error);
        }
        let mut done = 0;
        for extent in self.layout.extents(offset..end)? {
            // Lossless: the extents together are no longer than `buf`.
            let part = &mut buf[done..done + extent.len as usize];
            match self.read_extent(extent, part) {
                (copied, None) => done += copied,
                (0, Some(error)) if done == 0 => return Err(error),
                (copied, Some(_)) => return Ok(done + copied),
            }
        }
        Ok(done)
    }

    /// Fills `buf` from the group.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`] when the range leaves the group, with nothing read; otherwise as for
    /// [`read_at`](Self::read_at), wherever in the range: then `buf` holds nothing of use.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), SpanError> {
        let range = self.range_of(offset, buf.len())?;
        let (_claims, _, error) = self.claim_for_reading(range)?;
        match error {
            Some(error) => Err(error),
            None => self.read_claimed(offset, buf),
        }
    }

    /// As [`read_exact_at`](Self::read_exact_at), for who has a claim.
    pub(super) fn read_claimed(&self, offset: u64, buf: &mut [u8]) -> Result<(), SpanError> {
        let mut done = 0;
        for extent in self.layout.extents(self.range_of(offset, buf.len())?)? {
            let part = &mut buf[done..done + extent.len as usize];
            if let (_, Some(error)) = self.read_extent(extent, part) {
                return Err(error);
            }
            done += part.len();
        }
        Ok(())
    }

    /// Copies bytes into the group: as many as there are up to its end. Returns how many.
    ///
    /// # Errors
    ///
    /// [`SpanError::End`] when `offset` is at the end or behind; otherwise as for
    /// [`write_all_at`](Self::write_all_at).
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<usize, SpanError> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(room) = self.len().checked_sub(offset).filter(|room| *room > 0) else {
            return Err(SpanError::End {
                group_bytes: self.len(),
            });
        };
        let len = usize::try_from(room).map_or(buf.len(), |room| room.min(buf.len()));
        self.write_all_at(offset, &buf[..len])?;
        Ok(len)
    }

    /// Copies all of `buf` into the group, creating and growing files as the options say.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`] when the range leaves the group, with nothing written;
    /// [`SpanError::Padding`]; those of the files: `ReadOnly`, `StorageFull`, ... Then files before
    /// the one that failed are written.
    pub fn write_all_at(&self, offset: u64, buf: &[u8]) -> Result<(), SpanError> {
        let range = self.range_of(offset, buf.len())?;
        let _claims = self.claim_for_writing(range)?;
        self.write_claimed(offset, buf)
    }

    /// As [`write_all_at`](Self::write_all_at), for who has a claim.
    pub(super) fn write_claimed(&self, offset: u64, buf: &[u8]) -> Result<(), SpanError> {
        let mut done = 0;
        for extent in self.layout.extents(self.range_of(offset, buf.len())?)? {
            let part = &buf[done..done + extent.len as usize];
            self.entries[extent.entry].write(extent, part)?;
            done += part.len();
        }
        Ok(())
    }

    /// `len` bytes from `offset` on, as a range inside the group.
    fn range_of(&self, offset: u64, len: usize) -> Result<Range<u64>, SpanError> {
        let end = offset
            .checked_add(len as u64)
            .ok_or_else(|| SpanError::Range {
                range: format!("{offset} + {len}"),
                group_bytes: self.len(),
            })?;
        self.layout.resolve(offset..end)
    }

    pub(super) fn extents_of(
        &self,
        offset: u64,
        len: usize,
    ) -> Result<impl Iterator<Item = Extent> + '_, SpanError> {
        self.layout.extents(self.range_of(offset, len)?)
    }

    pub(super) fn no_such_file(&self, entry: usize) -> SpanError {
        let entries = self.entries.len();
        SpanError::NoSuchFile { entry, entries }
    }

    /// Reads an extent; what is wrong if it is not all there.
    fn read_extent(&self, extent: Extent, buf: &mut [u8]) -> (usize, Option<SpanError>) {
        let entry = &self.entries[extent.entry];
        match entry.read(extent, buf) {
            Ok(copied) if copied == buf.len() => (copied, None),
            Ok(copied) => {
                // An error of the disk in the middle comes back here as fewer bytes: ask for it.
                let rest = Extent {
                    offset: extent.offset + copied as u64,
                    len: extent.len - copied as u64,
                    ..extent
                };
                match entry.read(rest, &mut buf[copied..]) {
                    Err(error) => (copied, Some(error.into())),
                    // Somebody has made the file longer meanwhile.
                    Ok(more) if copied + more == buf.len() => (buf.len(), None),
                    Ok(more) => (copied + more, Some(entry.short(extent))),
                }
            }
            Err(error) => (0, Some(error.into())),
        }
    }
}
