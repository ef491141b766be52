//! Bytes of a group hashed in place, in mapped memory (docs/unsafe.md, U2).
//!
//! # Safety
//!
//! [`MappedBytes`] are made only for who holds a [`Promise`], which only the caller of the `unsafe`
//! [`Pieces::in_place`] can make: that nobody changes or cuts the files while pieces are hashed. With
//! that, the slice given out is over memory that stays mapped (U1), does not change, and has
//! storage behind every page: the pages were populated, and the file reaches to the end of the range.
//! What remains is a disk that fails in the middle, which raises SIGBUS.
#![expect(unsafe_code, reason = "a slice over mapped memory")]

use super::group::Group;
use super::pieces::Pieces;
use crate::mapping_cache::{Access, Part};

/// Nobody, in this process or another, writes to the files of a group or cuts them while its pieces are
/// hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise(());

impl Pieces<'_> {
    /// Hashes in mapped memory where it can, instead of copying blocks out first: faster while the data
    /// is in the page cache.
    ///
    /// # Safety
    ///
    /// Nobody, in this process or another, writes to the files of the group or cuts them while a piece
    /// is hashed. Otherwise behaviour is undefined: a cut file raises SIGBUS. So does a disk that fails to
    /// read a page again which was dropped from memory in the middle of hashing.
    #[must_use]
    pub unsafe fn in_place(mut self) -> Self {
        self.promise = Some(Promise(()));
        self
    }
}

/// A range of a group that lies in one window of one file, claimed for reading.
#[derive(Debug)]
pub(super) struct MappedBytes<'g> {
    part: Part<'g>,
}

impl<'g> MappedBytes<'g> {
    /// Maps a range, if it lies in one window and can be mapped; otherwise copies serve, and say what is
    /// wrong.
    pub(super) fn new(_: Promise, group: &'g Group, offset: u64, len: usize) -> Option<Self> {
        let mut extents = group.extents_of(offset, len).ok()?;
        let (only, None) = (extents.next()?, extents.next()) else {
            return None;
        };
        let (file, range) = group.entries[only.entry].place(only)?;
        let (part, end) = file.pinned_range(range.clone(), Access::ReadOnly).ok()?;
        let there =
            end == range.end && part.populate().is_ok() && file.must_reach(range.end).is_ok();
        there.then_some(Self { part })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the part is pinned, longer than the slice lives (U1), and claimed (U5); nobody else
        // changes the bytes, by the promise that `new` takes; every byte of a file is initialised.
        unsafe { std::slice::from_raw_parts(self.part.as_ptr(), self.part.len()) }
    }

    /// Was a page of the window lost? To be asked after the bytes were used (hazard 36).
    pub(super) fn is_poisoned(&self) -> bool {
        self.part.is_poisoned()
    }
}
