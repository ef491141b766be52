//! Ranges of a group held in mapped memory: to be seen as slices, sent and received into.
//!
//! What the compiler refuses: a span that outlives its group, used or only dropped,
//!
//! ```compile_fail,E0505
//! # use flatspan::span::Group;
//! let group = Group::builder("/").padding(9).open().unwrap();
//! let _span = group.span(..).unwrap();
//! drop(group);
//! ```
//!
//! ```compile_fail,E0597
//! # use flatspan::span::Group;
//! let _span;
//! {
//!     let group = Group::builder("/").padding(9).open().unwrap();
//!     _span = group.span_mut(..).unwrap();
//! }
//! ```
//!
//! ```compile_fail,E0502
//! # use flatspan::span::Group;
//! let mut group = Group::builder("/").padding(9).open().unwrap();
//! let _span = group.span_mut(..).unwrap();
//! group.grow_last(10);
//! ```
//!
//! ```compile_fail,E0505
//! # use flatspan::span::Group;
//! let group = Group::builder("/").padding(9).open().unwrap();
//! let span = group.span(..).unwrap();
//! drop(group);
//! span.len();
//! ```
//!
//! a slice that outlives its span,
//!
//! ```compile_fail,E0505
//! # use flatspan::span::Group;
//! let group = Group::builder("/").padding(9).open().unwrap();
//! let span = group.span(..).unwrap();
//! let slice = span.as_slice();
//! drop(span);
//! println!("{slice:?}");
//! ```
//!
//! two slices for writing from one span, or one beside a slice for reading,
//!
//! ```compile_fail,E0499
//! # use flatspan::span::Group;
//! let group = Group::builder("/").padding(9).open().unwrap();
//! let mut span = group.span_mut(..).unwrap();
//! let (one, two) = (span.as_mut_slice(), span.as_mut_slice());
//! println!("{one:?} {two:?}");
//! ```
//!
//! ```compile_fail,E0502
//! # use flatspan::span::Group;
//! let group = Group::builder("/").padding(9).open().unwrap();
//! let mut span = group.span_mut(..).unwrap();
//! let one = span.as_span().as_slice();
//! span.as_mut_slice();
//! println!("{one:?}");
//! ```
//!
//! changing the shape of a group under its spans,
//!
//! ```compile_fail,E0502
//! # use flatspan::span::Group;
//! let mut group = Group::builder("/").padding(9).open().unwrap();
//! let span = group.span(..).unwrap();
//! group.release_file(0);
//! span.len();
//! ```
//!
//! a borrowed span in a thread that may outlive the group, and the promise without `unsafe`.
//!
//! ```compile_fail,E0597
//! # use flatspan::span::Group;
//! let group = Group::builder("/").padding(9).open().unwrap();
//! let span = group.span(..).unwrap();
//! std::thread::spawn(move || span.len());
//! ```
//!
//! ```compile_fail,E0133
//! # use flatspan::span::Group;
//! Group::builder("/").trust_files();
//! ```
//!
//! # Safety
//!
//! A guard holds claims, so that no other guard or copy of this process has the range for writing (nor,
//! for a [`SpanMut`], for reading), and pins, so that the memory stays mapped (docs/unsafe.md, U1, U5). That
//! nobody else changes or cuts the files is promised by the caller of the one `unsafe` door,
//! [`GroupBuilder::trust_files`]: without it no slice is given out (U6).
#![expect(unsafe_code, reason = "slices over mapped memory")]

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::ops::{Range, RangeBounds};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::builder::GroupBuilder;
use super::error::SpanError;
use super::group::Group;
use super::parts::{GroupHandle, Parts};
use crate::mapping_cache::{Access, MappingError, Part, Patience};

/// What padding looks like.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// So many buffers the kernel takes in one call (`IOV_MAX`).
pub(super) const BUFFERS_MAX: usize = 1024;

/// A range of a group, for reading: pinned in memory and claimed, so that nobody in this process writes it.
///
/// `Span<&Group>` is borrowed; `Span<Arc<Group>>` is owned, may be sent to other threads and kept for as long
/// as one likes. Dropping it gives the range back. One that is forgotten keeps it for ever, and nothing else
/// goes wrong.
#[must_use = "the range is given back when this is dropped"]
pub struct Span<G: GroupHandle> {
    pub(super) parts: Parts<G>,
    // Dropped after the parts, which borrow from it.
    pub(super) group: G,
    pub(super) start: u64,
    len: usize,
}

/// A range of a group, for writing: as [`Span`], but nobody else in this process has any of it.
#[must_use = "the range is given back when this is dropped"]
pub struct SpanMut<G: GroupHandle> {
    pub(super) span: Span<G>,
}

impl GroupBuilder {
    /// Lets spans of the group give out slices of mapped memory. The one `unsafe` door of this crate to
    /// them; [`Pieces::in_place`](super::Pieces::in_place) is another, for hashing only.
    ///
    /// Against each other, and against every copy this crate makes, spans of this process are safe
    /// without a promise, across groups, caches, repeated paths and hard links.
    ///
    /// # Safety
    ///
    /// As long as a slice of a span lives, nobody but this crate changes the bytes of it in the file or
    /// cuts the file: no other process, and no other code of this one. Otherwise behaviour is undefined. A file
    /// that is cut, a disk that fails or (for slices to be written) is full where nothing could be reserved
    /// raises SIGBUS, unless the dispatcher is
    /// [installed](crate::mapping_cache::install_sigbus_dispatcher): then bytes read as zeros,
    /// and [`Span::check`] tells.
    pub unsafe fn trust_files(mut self) -> Self {
        self.trusted = true;
        self
    }
}

impl Group {
    /// Borrows a range for reading. `Busy` at once where somebody writes it.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; of the files `Busy`, `ShortFile` and those of opening and mapping them.
    #[inline(always)]
    pub fn span(&self, range: impl RangeBounds<u64>) -> Result<Span<&Self>, SpanError> {
        Span::quick(self, range)
    }

    /// As [`span`](Self::span), waiting up to `timeout` for whoever writes the range.
    ///
    /// # Errors
    ///
    /// As for [`span`](Self::span); `Busy` after the timeout.
    pub fn span_within(
        &self,
        range: impl RangeBounds<u64>,
        timeout: Duration,
    ) -> Result<Span<&Self>, SpanError> {
        Span::new(self, range, Access::ReadOnly, until(timeout))
    }

    /// As [`span`](Self::span), owned.
    ///
    /// # Errors
    ///
    /// As for [`span`](Self::span).
    #[inline(always)]
    pub fn owned_span(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<Span<Arc<Self>>, SpanError> {
        Span::quick(self.clone(), range)
    }

    /// As [`span_within`](Self::span_within), owned.
    ///
    /// # Errors
    ///
    /// As for [`span_within`](Self::span_within).
    pub fn owned_span_within(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
        timeout: Duration,
    ) -> Result<Span<Arc<Self>>, SpanError> {
        Span::new(self.clone(), range, Access::ReadOnly, until(timeout))
    }

    /// Borrows a range for writing. `Busy` at once where somebody else has any of it. Files are created,
    /// made long enough and their storage reserved as the options say.
    ///
    /// What is stored is durable after [`flush`](Self::flush) or [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; [`SpanError::Padding`]; of the files `Busy`, `ReadOnly`, `StorageFull` and those
    /// of opening and mapping them.
    pub fn span_mut(&self, range: impl RangeBounds<u64>) -> Result<SpanMut<&Self>, SpanError> {
        SpanMut::new(self, range, Patience::None)
    }

    /// As [`span_mut`](Self::span_mut), waiting up to `timeout` for whoever has any of the range.
    ///
    /// # Errors
    ///
    /// As for [`span_mut`](Self::span_mut); `Busy` after the timeout.
    pub fn span_mut_within(
        &self,
        range: impl RangeBounds<u64>,
        timeout: Duration,
    ) -> Result<SpanMut<&Self>, SpanError> {
        SpanMut::new(self, range, until(timeout))
    }

    /// As [`span_mut`](Self::span_mut), owned.
    ///
    /// # Errors
    ///
    /// As for [`span_mut`](Self::span_mut).
    pub fn owned_span_mut(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<SpanMut<Arc<Self>>, SpanError> {
        SpanMut::new(self.clone(), range, Patience::None)
    }

    /// As [`span_mut_within`](Self::span_mut_within), owned.
    ///
    /// # Errors
    ///
    /// As for [`span_mut_within`](Self::span_mut_within).
    pub fn owned_span_mut_within(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
        timeout: Duration,
    ) -> Result<SpanMut<Arc<Self>>, SpanError> {
        SpanMut::new(self.clone(), range, until(timeout))
    }
}

impl Group {
    /// The error for mapped memory that was lost at an offset.
    #[cold]
    pub(super) fn lost(&self, offset: u64) -> SpanError {
        let extents = self.layout.extents(offset..).into_iter().flatten();
        let mut files = extents.filter_map(|extent| self.entries[extent.entry].place(extent));
        match files.next() {
            Some((file, place)) => MappingError::Poisoned {
                path: file.location().full_path(),
                offset: place.start,
            }
            .into(),
            None => unreachable!("padding is never lost"),
        }
    }
}

fn until(timeout: Duration) -> Patience {
    // One that is past the end of time waits as good as for ever.
    let far = || Instant::now() + Duration::from_secs(1 << 30);
    Patience::Until(Instant::now().checked_add(timeout).unwrap_or_else(far))
}

impl<G: GroupHandle> Span<G> {
    #[inline(always)]
    fn quick(group: G, range: impl RangeBounds<u64>) -> Result<Self, SpanError> {
        let Range { start, end } = group.layout.resolve(range)?;
        // SAFETY: the handle keeps the group, and is dropped after the parts.
        if let Some(parts) = unsafe { Parts::if_mapped(&group, start..end) } {
            // Lossless: it lies in one window.
            let len = (end - start) as usize;
            return Ok(Self {
                parts,
                group,
                start,
                len,
            });
        }
        Self::new(group, start..end, Access::ReadOnly, Patience::None)
    }

    /// The span, if the range lies in one mapped window and nothing is in the way.
    #[cfg(feature = "tokio")]
    pub(super) fn if_mapped(group: G, range: Range<u64>) -> Option<Self> {
        // SAFETY: the handle keeps the group, and is dropped after the parts.
        let parts = unsafe { Parts::if_mapped(&group, range.clone())? };
        Some(Self {
            parts,
            group,
            start: range.start,
            // Lossless: it lies in one window.
            len: (range.end - range.start) as usize,
        })
    }

    #[inline(always)]
    fn new(
        group: G,
        range: impl RangeBounds<u64>,
        access: Access,
        patience: Patience,
    ) -> Result<Self, SpanError> {
        let range = group.layout.resolve(range)?;
        // SAFETY: the handle keeps the group, and is dropped after the parts.
        let parts = unsafe { Parts::new(&group, range.clone(), access, patience)? };
        Ok(Self {
            parts,
            group,
            start: range.start,
            // Lossless: checked by `Parts::new`.
            len: (range.end - range.start) as usize,
        })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies in the group.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.len as u64
    }

    /// The bytes as one slice, if they lie in one window of one file; otherwise, and without a byte, see
    /// [`slices`](Self::slices).
    ///
    /// # Panics
    ///
    /// When the group was not opened with [`GroupBuilder::trust_files`].
    #[inline(always)]
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.must_be_trusted();
        self.parts.only().map(bytes_of)
    }

    /// The bytes in order, as slices of mapped memory: one for each window they touch, and zeros for
    /// padding.
    ///
    /// # Panics
    ///
    /// When the group was not opened with [`GroupBuilder::trust_files`].
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.must_be_trusted();
        self.parts.iter().flat_map(slices_of)
    }

    /// The bytes as buffers for vectored writes, in batches that the kernel takes in one call
    /// (`IOV_MAX`).
    ///
    /// # Panics
    ///
    /// When the group was not opened with [`GroupBuilder::trust_files`].
    pub fn io_slices(&self) -> impl Iterator<Item = Vec<IoSlice<'_>>> {
        let mut slices = self.slices().map(IoSlice::new);
        std::iter::from_fn(move || {
            let batch: Vec<_> = slices.by_ref().take(BUFFERS_MAX).collect();
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Copies out, `buf.len()` bytes from `at` on. Safe whatever happens to the files.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`] when they do not lie in the span; as for
    /// [`Group::read_exact_at`].
    pub fn copy_to(&self, at: usize, buf: &mut [u8]) -> Result<(), SpanError> {
        let offset = self.inside(at, buf.len())?;
        self.group.read_claimed(offset, buf)
    }

    /// Brings all of it into memory, waiting for the disk, so that using it does not wait.
    ///
    /// # Errors
    ///
    /// `ShortFile` and others of the file whose pages are not there.
    pub fn populate(&self) -> Result<(), SpanError> {
        let mut at = 0;
        for (part, len) in self.parts.iter() {
            if let Some(Err(error)) = part.map(|part| part.populate()) {
                return Err(self.page_error(at, error));
            }
            at += len;
        }
        Ok(())
    }

    /// Is all of it in memory at this moment?
    #[must_use]
    pub fn is_resident(&self) -> bool {
        let mut parts = self.parts.iter().filter_map(|(part, _)| part);
        parts.all(|part| part.is_resident())
    }

    /// Was everything that was read from, or stored into, the memory of this span there? To be asked
    /// afterwards where the SIGBUS dispatcher is installed.
    ///
    /// # Errors
    ///
    /// `Poisoned` when a page of a window of it was lost; the memory stays so until nobody has it pinned.
    #[inline(always)]
    pub fn check(&self) -> Result<(), SpanError> {
        if self.parts.are_poisoned() {
            return Err(self.poisoned());
        }
        Ok(())
    }

    /// The window that was lost is known, the file of it not always: it names the first that it may be.
    #[cold]
    fn poisoned(&self) -> SpanError {
        self.group.lost(self.start)
    }

    /// Where in the group `len` bytes from `at` on lie.
    pub(super) fn inside(&self, at: usize, len: usize) -> Result<u64, SpanError> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(SpanError::Range {
                range: format!("{at} + {len} of a span"),
                group_bytes: self.len as u64,
            });
        }
        Ok(self.start + at as u64)
    }

    #[inline(always)]
    pub(super) fn must_be_trusted(&self) {
        assert!(
            self.group.trusted,
            "slices of mapped memory need a group opened with GroupBuilder::trust_files"
        );
    }
}

impl<G: GroupHandle> SpanMut<G> {
    fn new(group: G, range: impl RangeBounds<u64>, patience: Patience) -> Result<Self, SpanError> {
        let span = Span::new(group, range, Access::ReadWrite, patience)?;
        Ok(Self { span })
    }

    /// The same range, seen for reading.
    pub fn as_span(&self) -> &Span<G> {
        &self.span
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.span.len
    }

    /// True without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.span.is_empty()
    }

    /// Where it lies in the group.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.span.range()
    }

    /// The bytes as one slice, if there are any and they lie in one window of one file.
    ///
    /// # Panics
    ///
    /// As for [`Span::as_slice`].
    #[must_use]
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        self.span.must_be_trusted();
        let part = self.span.parts.only()?;
        let start = part.as_mut_ptr().expect("pinned for writing");
        // SAFETY: as in `bytes_of`; the claim is exclusive, and `self` is borrowed so.
        Some(unsafe { std::slice::from_raw_parts_mut(start, part.len()) })
    }

    /// The bytes in order, as slices of mapped memory: one for each window they touch.
    ///
    /// # Panics
    ///
    /// As for [`Span::slices`].
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.span.must_be_trusted();
        self.span.parts.iter().map(|(part, len)| {
            let part = part.expect("there is no span for writing over padding");
            let start = part.as_mut_ptr().expect("pinned for writing");
            // SAFETY: as in `as_mut_slice`; the parts do not overlap, as each has an exclusive claim.
            unsafe { std::slice::from_raw_parts_mut(start, len) }
        })
    }

    /// The bytes as buffers for vectored reads, in batches that the kernel takes in one call
    /// (`IOV_MAX`).
    ///
    /// # Panics
    ///
    /// As for [`Span::slices`].
    pub fn io_slices_mut(&mut self) -> impl Iterator<Item = Vec<IoSliceMut<'_>>> {
        let mut slices = self.slices_mut().map(IoSliceMut::new);
        std::iter::from_fn(move || {
            let batch: Vec<_> = slices.by_ref().take(BUFFERS_MAX).collect();
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Copies in, to `at`. Safe whatever happens to the files.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`] when it does not lie in the span; as for [`Group::write_all_at`].
    pub fn copy_from(&mut self, at: usize, buf: &[u8]) -> Result<(), SpanError> {
        let offset = self.span.inside(at, buf.len())?;
        self.span.group.write_claimed(offset, buf)
    }

    /// Copies out, as [`Span::copy_to`].
    ///
    /// # Errors
    ///
    /// As for [`Span::copy_to`].
    pub fn copy_to(&self, at: usize, buf: &mut [u8]) -> Result<(), SpanError> {
        self.span.copy_to(at, buf)
    }

    /// Was everything that was stored there? As [`Span::check`]. A file whose stores were lost also fails its
    /// next sync.
    ///
    /// # Errors
    ///
    /// As for [`Span::check`].
    pub fn check(&self) -> Result<(), SpanError> {
        self.span.check()
    }
}

/// The memory of a part, for who has checked that the group is trusted.
#[inline(always)]
fn bytes_of<'p>(part: &'p Part<'static>) -> &'p [u8] {
    // SAFETY: pinned (U1) and claimed (U5) as long as the part lives, which the slice borrows; nobody
    // else changes it (U6); every byte of a file is initialised.
    unsafe { std::slice::from_raw_parts(part.as_ptr(), part.len()) }
}

/// The memory of one piece: of a part, or of so many zeros.
fn slices_of<'p>(
    (part, len): (Option<&'p Part<'static>>, usize),
) -> impl Iterator<Item = &'p [u8]> {
    let zeros = if part.is_some() { 0 } else { len };
    let zeros = (0..zeros)
        .step_by(ZEROS.len())
        .map(move |at| &ZEROS[..(zeros - at).min(ZEROS.len())]);
    part.map(bytes_of).into_iter().chain(zeros)
}

impl<G: GroupHandle> fmt::Debug for Span<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span")
            .field("range", &self.range())
            .finish_non_exhaustive()
    }
}

impl<G: GroupHandle> fmt::Debug for SpanMut<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanMut")
            .field("range", &self.range())
            .finish_non_exhaustive()
    }
}
