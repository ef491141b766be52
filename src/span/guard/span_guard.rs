//! Spans: ranges of a group that are locked and pinned in mapped memory.
//!
//! The compiler rejects a span that outlives its group, even if the span is only dropped:
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
//! group.grow_last_file(10);
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
//! It rejects a slice that outlives its span:
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
//! It rejects two mutable slices of one span, and a mutable slice together with a shared one:
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
//! It rejects changes of a group that has spans:
//!
//! ```compile_fail,E0502
//! # use flatspan::span::Group;
//! let mut group = Group::builder("/").padding(9).open().unwrap();
//! let span = group.span(..).unwrap();
//! group.close_file(0);
//! span.len();
//! ```
//!
//! It rejects a borrowed span in a thread that may outlive the group, and the promise of exclusive
//! use without `unsafe`:
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
//! Group::builder("/").assume_exclusive();
//! ```
//!
//! # Safety
//!
//! A span holds range locks, so that no other span or copy of this process writes the range (nor,
//! for a [`SpanMut`], reads it). It also holds pins, so that the memory stays mapped
//! (docs/unsafe.md, U1, U5). The caller of [`GroupBuilder::assume_exclusive`] guarantees that no
//! other process changes or truncates the files. Without that guarantee no slice is given out (U6).
#![expect(unsafe_code, reason = "slices over mapped memory")]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::{Range, RangeBounds};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pinned_parts::{GroupHandle, PinnedParts};
use crate::mapping_cache::{Access, PinnedRange, Timeout};
use crate::span::error::GroupError;
use crate::span::group::{Group, GroupBuilder};

/// Content of padding.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Largest number of buffers of one system call (`IOV_MAX`).
const IO_SLICES_MAX: usize = 1024;

/// Guard for reading a range of a group: pinned in memory, and locked against writes by this
/// process.
///
/// `Span<&Group>` borrows the group. `Span<Arc<Group>>` owns a handle of it, and can be sent to
/// other threads and kept without limit. Dropping a span releases the range. A span that is leaked
/// keeps its range locked and pinned forever, which is otherwise harmless.
///
/// ```
/// use std::sync::Arc;
///
/// use flatspan::span::Group;
///
/// let group = Arc::new(Group::builder("/").padding(1000).open()?);
/// let span = group.span(10..20)?;
/// let mut bytes = [1; 4];
/// span.read_at(2, &mut bytes)?;
/// assert_eq!(bytes, [0; 4]);
///
/// let owned = group.owned_span(..)?;
/// let len = std::thread::spawn(move || owned.len()).join().expect("no panic");
/// assert_eq!(len, 1000);
/// # Ok::<(), flatspan::span::GroupError>(())
/// ```
#[must_use = "dropping a span releases its range"]
pub struct Span<G: GroupHandle> {
    pub(super) parts: PinnedParts<G>,
    // Dropped after the parts, which borrow from it.
    pub(super) group: G,
    pub(super) start: u64,
    len: usize,
}

/// Guard for writing a range of a group: as [`Span`], but no other span or copy of this process can
/// access the range.
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
///     .file("a", 100)
///     .open()?;
/// let mut span = group.span_mut(10..20)?;
/// span.write_at(0, b"0123456789")?;
/// assert!(group.span(15..30).is_err(), "the span locks bytes 10 to 19");
/// drop(span);
/// group.sync_all()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a span releases its range"]
pub struct SpanMut<G: GroupHandle> {
    pub(super) span: Span<G>,
}

impl GroupBuilder {
    /// Lets spans of the group give out slices of mapped memory.
    ///
    /// Spans and copies of this process exclude each other without this promise, across groups,
    /// caches, repeated paths and hard links.
    ///
    /// # Safety
    ///
    /// While a slice of a span exists, only this crate may change the bytes of the slice in the
    /// file, and nothing may truncate the file. This includes other processes and other code of
    /// this process. Otherwise the behaviour is undefined.
    ///
    /// Copies rely on the guarantee too, and are faster. If another process truncates the file
    /// during a copy, bytes may read as zeros. A write to a truncated file extends it.
    ///
    /// One file must be reached through one mount: the same file through an overlay and through its
    /// upper directory has two identities, and its locks do not exclude each other.
    ///
    /// Accessing a slice raises SIGBUS if the file was truncated, the disk fails, or (for mutable
    /// slices that could not be preallocated) the disk is full. So does reading a hole of a file on
    /// a full tmpfs: call [`Span::populate`] first, or copy with [`Span::read_at`]. With the
    /// [SIGBUS handler](crate::mapping_cache::install_sigbus_handler) installed, such bytes read as
    /// zeros instead, and [`Span::check_intact`] reports them.
    pub unsafe fn assume_exclusive(mut self) -> Self {
        self.options.is_exclusive = true;
        self
    }
}

impl Group {
    /// Locks and pins a range for reading.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::File`] with
    ///   [`MappingError::RangeLocked`](crate::mapping_cache::MappingError::RangeLocked) if another
    ///   span or copy writes the range.
    /// - [`GroupError::File`] if a file is too short, or cannot be opened or mapped.
    #[inline(always)]
    pub fn span(&self, range: impl RangeBounds<u64>) -> Result<Span<&Self>, GroupError> {
        Span::mapped_or_new(self, range)
    }

    /// Locks and pins a range for reading, and waits up to `timeout` for writers of it.
    ///
    /// # Errors
    ///
    /// The errors of [`span`](Self::span). A locked range is an error only after the timeout.
    pub fn span_timeout(
        &self,
        range: impl RangeBounds<u64>,
        timeout: Duration,
    ) -> Result<Span<&Self>, GroupError> {
        Span::new(self, range, Access::ReadOnly, deadline_after(timeout))
    }

    /// Locks and pins a range for reading. The span owns a handle of the group, which must be in an
    /// `Arc`.
    ///
    /// # Errors
    ///
    /// The errors of [`span`](Self::span).
    #[inline(always)]
    pub fn owned_span(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<Span<Arc<Self>>, GroupError> {
        Span::mapped_or_new(Arc::clone(self), range)
    }

    /// Locks and pins a range for reading, and waits up to `timeout` for writers of it. The span
    /// owns a handle of the group, which must be in an `Arc`.
    ///
    /// # Errors
    ///
    /// The errors of [`span_timeout`](Self::span_timeout).
    pub fn owned_span_timeout(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
        timeout: Duration,
    ) -> Result<Span<Arc<Self>>, GroupError> {
        let deadline = deadline_after(timeout);
        Span::new(Arc::clone(self), range, Access::ReadOnly, deadline)
    }

    /// Locks and pins a range for writing. The options of the group decide whether files are
    /// created and preallocated.
    ///
    /// A shorter file is extended to the end of the last window of the range, at most to its
    /// declared length. With [`Preallocation::Full`](crate::mapping_cache::Preallocation::Full) it
    /// is extended to its declared length.
    ///
    /// Stores are durable after [`flush`](Self::flush) with
    /// [`FlushMode::Sync`](crate::mapping_cache::FlushMode::Sync), or after
    /// [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds the group.
    /// - [`GroupError::WriteToPadding`] if the range includes padding.
    /// - [`GroupError::File`] with
    ///   [`MappingError::RangeLocked`](crate::mapping_cache::MappingError::RangeLocked) if another
    ///   span or copy uses the range.
    /// - [`GroupError::File`] if the group is read-only, the disk is full, or a file cannot be
    ///   opened or mapped.
    pub fn span_mut(&self, range: impl RangeBounds<u64>) -> Result<SpanMut<&Self>, GroupError> {
        SpanMut::new(self, range, Timeout::None)
    }

    /// Locks and pins a range for writing, and waits up to `timeout` for other users of it.
    ///
    /// # Errors
    ///
    /// The errors of [`span_mut`](Self::span_mut). A locked range is an error only after the
    /// timeout.
    pub fn span_mut_timeout(
        &self,
        range: impl RangeBounds<u64>,
        timeout: Duration,
    ) -> Result<SpanMut<&Self>, GroupError> {
        SpanMut::new(self, range, deadline_after(timeout))
    }

    /// Locks and pins a range for writing. The span owns a handle of the group, which must be in an
    /// `Arc`.
    ///
    /// # Errors
    ///
    /// The errors of [`span_mut`](Self::span_mut).
    pub fn owned_span_mut(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
    ) -> Result<SpanMut<Arc<Self>>, GroupError> {
        SpanMut::new(Arc::clone(self), range, Timeout::None)
    }

    /// Locks and pins a range for writing, and waits up to `timeout` for other users of it. The
    /// span owns a handle of the group, which must be in an `Arc`.
    ///
    /// # Errors
    ///
    /// The errors of [`span_mut_timeout`](Self::span_mut_timeout).
    pub fn owned_span_mut_timeout(
        self: &Arc<Self>,
        range: impl RangeBounds<u64>,
        timeout: Duration,
    ) -> Result<SpanMut<Arc<Self>>, GroupError> {
        SpanMut::new(Arc::clone(self), range, deadline_after(timeout))
    }
}

fn deadline_after(timeout: Duration) -> Timeout {
    // A timeout beyond the largest `Instant` waits 34 years.
    let far = || Instant::now() + Duration::from_secs(1 << 30);
    Timeout::Until(Instant::now().checked_add(timeout).unwrap_or_else(far))
}

impl<G: GroupHandle> Span<G> {
    #[inline(always)]
    fn mapped_or_new(group: G, range: impl RangeBounds<u64>) -> Result<Self, GroupError> {
        let Range { start, end } = group.layout.resolve_range(range)?;
        // SAFETY: the handle keeps the group alive and is dropped after the parts.
        if let Some(parts) = unsafe { PinnedParts::if_mapped(&group, start..end) } {
            // Lossless: the range is in one window.
            let len = (end - start) as usize;
            return Ok(Self {
                parts,
                group,
                start,
                len,
            });
        }
        Self::new(group, start..end, Access::ReadOnly, Timeout::None)
    }

    /// A span of a range that is in one mapped window and not locked by a writer.
    #[cfg(feature = "tokio")]
    pub(super) fn if_mapped(group: G, range: Range<u64>) -> Option<Self> {
        // SAFETY: the handle keeps the group alive and is dropped after the parts.
        let parts = unsafe { PinnedParts::if_mapped(&group, range.clone())? };
        Some(Self {
            parts,
            group,
            start: range.start,
            // Lossless: the range is in one window.
            len: (range.end - range.start) as usize,
        })
    }

    #[inline(always)]
    fn new(
        group: G,
        range: impl RangeBounds<u64>,
        access: Access,
        timeout: Timeout,
    ) -> Result<Self, GroupError> {
        let range = group.layout.resolve_range(range)?;
        // SAFETY: the handle keeps the group alive and is dropped after the parts.
        let parts = unsafe { PinnedParts::new(&group, range.clone(), access, timeout)? };
        Ok(Self {
            parts,
            group,
            start: range.start,
            // Lossless: checked by `PinnedParts::new`.
            len: (range.end - range.start) as usize,
        })
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the byte range in the group.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.len as u64
    }

    /// Returns the bytes as one slice if they are in one window of one file, otherwise `None`. An
    /// empty span has no window. See [`slices`](Self::slices).
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.assert_slices_allowed();
        self.parts.only().map(bytes_of)
    }

    /// Returns the bytes in order as slices: one for each window of mapped memory, and zeros for
    /// padding.
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[track_caller]
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.assert_slices_allowed();
        self.parts.iter().flat_map(slices_of)
    }

    /// Returns the bytes as buffers for vectored writes, in batches of up to 1024 (`IOV_MAX`).
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[track_caller]
    pub fn io_slices(&self) -> impl Iterator<Item = Vec<IoSlice<'_>>> {
        let mut slices = self.slices().map(IoSlice::new);
        std::iter::from_fn(move || {
            let batch: Vec<_> = slices.by_ref().take(IO_SLICES_MAX).collect();
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Reads `buf.len()` bytes from offset `at` of the span by a copy. Safe even if another process
    /// truncates the file.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the bytes exceed the span.
    /// - The errors of [`Group::read_exact_at`].
    pub fn read_at(&self, at: usize, buf: &mut [u8]) -> Result<(), GroupError> {
        let offset = self.offset_in_group(at, buf.len())?;
        self.group.read_exact_locked(offset, buf)
    }

    /// Brings all pages into memory and waits for the disk, so that later accesses do not wait.
    ///
    /// # Errors
    ///
    /// - [`GroupError::File`] if a file is too short or a page cannot be read. On a full tmpfs, the
    ///   error for a hole is
    ///   [`MappingError::StorageFull`](crate::mapping_cache::MappingError::StorageFull), since its
    ///   pages cannot be mapped. [`read_at`](Self::read_at) and
    ///   [`write_to`](Self::write_to) read it.
    pub fn populate(&self) -> Result<(), GroupError> {
        let mut at = 0;
        for (part, len) in self.parts.iter() {
            if let Some(Err(error)) = part.map(PinnedRange::populate) {
                return Err(self.page_error(at, error));
            }
            at += len;
        }
        Ok(())
    }

    /// Returns whether all pages are in memory at this moment.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        let mut parts = self.parts.iter().filter_map(|(part, _)| part);
        parts.all(PinnedRange::is_resident)
    }

    /// Checks that no page of the span's windows was lost, for use after the memory was accessed
    /// with the SIGBUS handler installed.
    ///
    /// # Errors
    ///
    /// - [`GroupError::File`] with
    ///   [`MappingError::Poisoned`](crate::mapping_cache::MappingError::Poisoned) if a page was
    ///   lost. The window remains poisoned while it is pinned.
    #[inline(always)]
    pub fn check_intact(&self) -> Result<(), GroupError> {
        if self.parts.are_poisoned() {
            return Err(self.poisoned());
        }
        Ok(())
    }

    /// The error for a poisoned window. It names the first file of the span, since windows do not
    /// record which page was lost.
    #[cold]
    fn poisoned(&self) -> GroupError {
        self.group.page_lost(self.start)
    }

    /// The error for the pages of the part at offset `at`, which could not be brought into memory.
    fn page_error(&self, at: usize, error: io::Error) -> GroupError {
        let start = self.start + at as u64;
        let extents = self.group.layout.extents(start..self.range().end);
        let first = extents.into_iter().flatten().next();
        match first.and_then(|extent| self.group.entries[extent.entry].file_range(extent)) {
            Some((file, range)) => file.page_error(range, Access::ReadOnly, error).into(),
            None => GroupError::transfer(0, error),
        }
    }

    /// The offset in the group of `len` bytes at offset `at` of the span.
    pub(super) fn offset_in_group(&self, at: usize, len: usize) -> Result<u64, GroupError> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(GroupError::OutOfBounds {
                range: format!("{at} + {len} of a span"),
                group_bytes: self.len as u64,
            });
        }
        Ok(self.start + at as u64)
    }

    /// The memory of the part with this number. `None` for padding.
    #[cfg(feature = "bytes")]
    #[track_caller]
    pub(super) fn slice_of_part(&self, number: usize) -> Option<&[u8]> {
        self.assert_slices_allowed();
        self.parts.part(number).map(bytes_of)
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn assert_slices_allowed(&self) {
        assert!(
            self.group.options.is_exclusive,
            "this group does not allow slices of mapped memory: copy with `read_at`, or build the \
             group with `GroupBuilder::assume_exclusive`"
        );
    }
}

impl<G: GroupHandle> SpanMut<G> {
    fn new(group: G, range: impl RangeBounds<u64>, timeout: Timeout) -> Result<Self, GroupError> {
        let span = Span::new(group, range, Access::ReadWrite, timeout)?;
        Ok(Self { span })
    }

    /// Returns a view of the span for reading.
    pub fn as_span(&self) -> &Span<G> {
        &self.span
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.span.len
    }

    /// Returns whether the length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.span.is_empty()
    }

    /// Returns the byte range in the group.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.span.range()
    }

    /// Returns the bytes as one slice if they are in one window of one file, otherwise `None`. An
    /// empty span has no window.
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[must_use]
    #[track_caller]
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        self.span.assert_slices_allowed();
        let part = self.span.parts.only()?;
        let start = part.as_mut_ptr().expect("the part is pinned for writing");
        // SAFETY: as in `bytes_of`; the range lock is exclusive, and so is the borrow of `self`.
        Some(unsafe { std::slice::from_raw_parts_mut(start, part.len()) })
    }

    /// Returns the bytes in order as slices: one for each window of mapped memory.
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[track_caller]
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.span.assert_slices_allowed();
        self.span.parts.iter().map(|(part, len)| {
            let part = part.expect("a span for writing has no padding");
            let start = part.as_mut_ptr().expect("the part is pinned for writing");
            // SAFETY: as in `as_mut_slice`. The parts do not overlap: each has an exclusive lock.
            unsafe { std::slice::from_raw_parts_mut(start, len) }
        })
    }

    /// Returns the bytes as buffers for vectored reads, in batches of up to 1024 (`IOV_MAX`).
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[track_caller]
    pub fn io_slices_mut(&mut self) -> impl Iterator<Item = Vec<IoSliceMut<'_>>> {
        let mut slices = self.slices_mut().map(IoSliceMut::new);
        std::iter::from_fn(move || {
            let batch: Vec<_> = slices.by_ref().take(IO_SLICES_MAX).collect();
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Writes `buf` to offset `at` of the span by a copy. Safe even if another process truncates
    /// the file.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the bytes exceed the span.
    /// - The errors of [`Group::write_all_at`].
    pub fn write_at(&mut self, at: usize, buf: &[u8]) -> Result<(), GroupError> {
        let offset = self.span.offset_in_group(at, buf.len())?;
        self.span.group.write_all_locked(offset, buf)
    }

    /// Reads `buf.len()` bytes from offset `at` of the span by a copy, as [`Span::read_at`].
    ///
    /// # Errors
    ///
    /// The errors of [`Span::read_at`].
    pub fn read_at(&self, at: usize, buf: &mut [u8]) -> Result<(), GroupError> {
        self.span.read_at(at, buf)
    }

    /// Checks that no page of the span's windows was lost, as [`Span::check_intact`]. The next sync
    /// of a file that lost stores fails as well.
    ///
    /// # Errors
    ///
    /// The errors of [`Span::check_intact`].
    pub fn check_intact(&self) -> Result<(), GroupError> {
        self.span.check_intact()
    }
}

/// The memory of a part. The caller has checked that the group allows slices.
#[inline(always)]
fn bytes_of<'p>(part: &'p PinnedRange<'static>) -> &'p [u8] {
    // SAFETY: the memory is pinned (U1) and locked (U5) while the part exists, which the slice
    // borrows. Nothing else changes it (U6). Every byte of a file is initialised.
    unsafe { std::slice::from_raw_parts(part.as_ptr(), part.len()) }
}

/// The memory of a part, or `len` zeros for padding.
fn slices_of<'p>(
    (part, len): (Option<&'p PinnedRange<'static>>, usize),
) -> impl Iterator<Item = &'p [u8]> {
    let padding = if part.is_some() { 0 } else { len };
    part.map(bytes_of)
        .into_iter()
        .chain(zeros(padding).map(|zeros| -> &'p [u8] { zeros }))
}

/// Slices of `len` zeros together.
pub(super) fn zeros(len: usize) -> impl Iterator<Item = &'static [u8]> {
    let starts = (0..len).step_by(ZEROS.len());
    starts.map(move |at| &ZEROS[..(len - at).min(ZEROS.len())])
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
