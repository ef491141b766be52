//! Blocks of a group as slices of mapped memory (docs/unsafe.md, U2).
//!
//! # Safety
//!
//! [`MappedBytes`] require a [`NoWriters`], which only the caller of the `unsafe`
//! `Pieces::hash_in_place` creates: nothing changes or truncates the files while pieces are hashed.
//! The memory of the slice stays mapped (U1) and does not change. Every page has storage: the pages
//! were populated, and the file extends to the end of the range. A disk that fails
//! in the middle still raises SIGBUS.
#![expect(unsafe_code, reason = "a slice over mapped memory")]

use crate::mapping_cache::{Access, PinnedRange};
use crate::span::group::Group;

/// Promise that nothing writes to the files of a group or truncates them while its pieces are
/// hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoWriters(());

impl NoWriters {
    /// Makes the promise.
    ///
    /// # Safety
    ///
    /// The promise holds while the value or a copy of it is in use.
    pub(super) unsafe fn promise() -> Self {
        Self(())
    }
}

/// Range of a group that is in one window of one file, locked for reading.
#[derive(Debug)]
pub(super) struct MappedBytes<'g> {
    part: PinnedRange<'g>,
}

impl<'g> MappedBytes<'g> {
    /// Maps a range. `None` if it crosses windows or cannot be mapped: a copy then serves instead,
    /// and reports the error.
    pub(super) fn new(_: NoWriters, group: &'g Group, offset: u64, len: usize) -> Option<Self> {
        let mut extents = group.extents_at(offset, len).ok()?;
        let (only, None) = (extents.next()?, extents.next()) else {
            return None;
        };
        let (file, range) = group.entries[only.entry].file_range(only)?;
        let (part, end) = file.pinned_range(range.clone(), Access::ReadOnly).ok()?;
        let is_complete =
            end == range.end && part.populate().is_ok() && file.must_reach(range.end).is_ok();
        is_complete.then_some(Self { part })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the part is pinned while the slice exists (U1), and locked (U5). Nothing else
        // changes the bytes, by the promise that `new` takes. Every byte of a file is initialised.
        unsafe { std::slice::from_raw_parts(self.part.as_ptr(), self.part.len()) }
    }

    /// Whether a page of the window was lost. To be checked after the bytes were used [I36].
    pub(super) fn is_poisoned(&self) -> bool {
        self.part.is_poisoned()
    }
}
