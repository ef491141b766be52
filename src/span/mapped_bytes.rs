//! Bytes of a group seen in place, in mapped memory: the one place in this crate where a reference to a
//! mapping is made (docs/unsafe.md, U2).
//!
//! # Safety
//!
//! [`MappedBytes`] are made only for who holds a [`Promise`], which only the caller of the `unsafe`
//! [`Pieces::in_place`] can make: that nobody changes or cuts the files while pieces are hashed. With
//! that, the slice given out is over memory that stays mapped (its pin, U1), does not change, and has
//! storage behind every page: the pages were populated, and the file reaches to the end of the range.
//! What remains is a disk that fails in the middle, which raises SIGBUS.
#![expect(unsafe_code, reason = "a slice over mapped memory")]

use super::group::Group;
use super::pieces::Pieces;
use crate::mapping_cache::{Access, Pin};

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

/// A range of a group that lies in one window of one file.
#[derive(Debug)]
pub(super) struct MappedBytes<'g> {
    pin: Pin<'g>,
    /// Offset in the window.
    within: usize,
    len: usize,
}

impl<'g> MappedBytes<'g> {
    /// Maps a range, if it lies in one window and can be mapped; otherwise copies serve.
    pub(super) fn new(_: Promise, group: &'g Group, offset: u64, len: usize) -> Option<Self> {
        let mut extents = group.extents_of(offset, len).ok()?;
        let (only, None) = (extents.next()?, extents.next()) else {
            return None;
        };
        let (file, range) = group.entries[only.entry].place(only)?;
        let window_bytes = group.cache.window_bytes() as u64;
        // Lossless: less than a window, whose size is a usize.
        let within = (range.start % window_bytes) as usize;
        let pin = file
            .pin(range.start / window_bytes, Access::ReadOnly)
            .ok()?;
        let inside = within.checked_add(len).is_some_and(|end| end <= pin.len());
        let there = inside
            && pin.populate(within, len).is_ok()
            && file
                .present_bytes()
                .is_ok_and(|present| present >= range.end);
        there.then_some(Self { pin, within, len })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `within + len` is inside the window (checked in `new`), which stays mapped while
        // `self.pin` lives (U1), longer than the slice; nobody changes the bytes, by the
        // promise that `new` takes; every byte of a file is initialised.
        unsafe { std::slice::from_raw_parts(self.pin.as_ptr().add(self.within), self.len) }
    }
}
