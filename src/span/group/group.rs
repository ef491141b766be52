//! The group itself: its parts, and queries that need no data.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::entry::{EntryInfo, GroupEntry};
use super::layout::{Extent, Layout};
use crate::mapping_cache::{
    CacheStats, FileOptions, MappingCache, MappingError, PreallocationStatus,
};
use crate::span::error::GroupError;

/// Ordered files, file ranges and padding, addressed as one byte array.
///
/// Methods that read and write take `&self`, and any number of threads may call them concurrently.
/// Methods that change the group itself (grow, append, close, move) take `&mut self`.
///
/// Reads and writes are safe even if another process truncates a file: missing bytes are an error,
/// never a signal. Each read or write is atomic with respect to every overlapping read or write of
/// this process, whichever group, path or cache it uses. Where a span holds the range, it fails
/// with [`MappingError::RangeLocked`].
///
/// Dropping a group does not sync its files: see [`sync_all`](Self::sync_all).
///
/// ```
/// use flatspan::mapping_cache::Access;
/// use flatspan::span::Group;
///
/// # let directory = tempfile::tempdir()?;
/// # let root = directory.path();
/// let group = Group::builder(root)
///     .access(Access::ReadWrite)
///     .create(true)
///     .file("a", 3)
///     .file("b", 5)
///     .open()?;
/// group.write_all_at(2, b"over")?; // The last byte of "a" and three bytes of "b".
///
/// let mut bytes = [0; 4];
/// group.read_exact_at(2, &mut bytes)?;
/// assert_eq!(&bytes, b"over");
/// group.sync_all()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Group {
    pub(in crate::span) layout: Layout,
    pub(in crate::span) entries: Vec<GroupEntry>,
    pub(super) cache: MappingCache,
    pub(super) root: Arc<Path>,
    pub(in crate::span) options: FileOptions,
    pub(super) outside_root: bool,
}

impl Group {
    /// Returns the length of the group in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.layout.len()
    }

    /// Returns whether the length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layout.is_empty()
    }

    /// Returns the layout, which maps offsets to entries.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the number of entries, padding included.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the entries in order.
    #[must_use]
    pub fn entries(&self) -> impl ExactSizeIterator<Item = EntryInfo<'_>> {
        self.entries
            .iter()
            .enumerate()
            .map(|(index, entry)| EntryInfo {
                path: &entry.path,
                range: self.layout.bounds(index),
                kind: entry.kind(),
            })
    }

    /// Returns the root directory, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whether spans of the group give out slices of mapped memory.
    ///
    /// This requires [`GroupBuilder::assume_exclusive`](super::GroupBuilder::assume_exclusive).
    /// Without it, methods such as [`Span::as_slice`](crate::span::Span::as_slice) panic.
    #[must_use]
    pub fn allows_slices(&self) -> bool {
        self.options.is_exclusive
    }

    /// Returns the mapping cache of the group.
    #[must_use]
    pub fn cache(&self) -> &MappingCache {
        &self.cache
    }

    /// Returns the statistics of the group's mapping cache.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Returns the outcome of preallocation for the file of an entry.
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    pub fn preallocation_status(&self, entry: usize) -> Result<PreallocationStatus, GroupError> {
        let file = self.entries.get(entry).and_then(GroupEntry::file);
        let file = file.ok_or_else(|| self.no_such_file(entry))?;
        Ok(file.preallocation_status())
    }

    /// Returns the bytes of storage that the file of an entry uses. An entry that is a range of a
    /// file counts the whole file.
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::File`] if the file cannot be opened.
    pub fn allocated_bytes(&self, entry: usize) -> Result<u64, GroupError> {
        let file = self.entries.get(entry).and_then(GroupEntry::file);
        let file = file.ok_or_else(|| self.no_such_file(entry))?;
        Ok(file.allocated_bytes()?)
    }

    /// The range of `len` bytes at `offset`.
    pub(super) fn range_at(&self, offset: u64, len: usize) -> Result<Range<u64>, GroupError> {
        match offset.checked_add(len as u64) {
            Some(end) => self.layout.resolve_range(offset..end),
            None => Err(GroupError::OutOfBounds {
                range: format!("{offset} + {len}"),
                group_bytes: self.len(),
            }),
        }
    }

    pub(in crate::span) fn extents_at(
        &self,
        offset: u64,
        len: usize,
    ) -> Result<impl Iterator<Item = Extent> + '_, GroupError> {
        self.layout.extents(self.range_at(offset, len)?)
    }

    pub(super) fn no_such_file(&self, entry: usize) -> GroupError {
        let entries = self.entries.len();
        GroupError::NoSuchEntry { entry, entries }
    }

    /// The error for a page of mapped memory, at this offset or after it, that was lost.
    #[cold]
    pub(in crate::span) fn page_lost(&self, offset: u64) -> GroupError {
        let extents = self.layout.extents(offset..).into_iter().flatten();
        let mut files = extents.filter_map(|extent| self.entries[extent.entry].file_range(extent));
        match files.next() {
            Some((file, range)) => MappingError::Poisoned {
                path: file.location().full_path(),
                offset: range.start,
            }
            .into(),
            None => unreachable!("padding has no mapped memory"),
        }
    }
}
