//! The promise that allows hashing in mapped memory (docs/unsafe.md, U2).
//!
//! # Safety
//!
//! The caller of `Pieces::hash_in_place` makes the promise that [`NoWriters`] represents.
#![expect(unsafe_code, reason = "an unsafe function that makes a promise")]

use super::mapped_bytes::NoWriters;
use super::pieces::Pieces;

impl Pieces<'_> {
    /// Hashes in mapped memory where possible, instead of copying each block first. This is faster
    /// while the data is in the page cache.
    ///
    /// # Safety
    ///
    /// While a piece is hashed, nothing writes to the files of the group or truncates them, in this
    /// process or another. Otherwise the behaviour is undefined.
    ///
    /// Hashing raises SIGBUS if a file was truncated, or if the disk fails to read a page that the
    /// kernel evicted meanwhile.
    #[must_use]
    pub unsafe fn hash_in_place(mut self) -> Self {
        // SAFETY: the caller makes the same promise.
        self.no_writers = Some(unsafe { NoWriters::promise() });
        self
    }
}
