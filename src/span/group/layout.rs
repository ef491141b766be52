//! Mapping of group offsets to entries: prefix sums and a binary search, no I/O.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};

use crate::span::error::GroupError;

/// Lengths of entries that are placed one after the other, and the byte range of each.
///
/// ```
/// use flatspan::span::Layout;
///
/// let layout = Layout::new([10, 0, 5])?;
/// assert_eq!(layout.entry_range(2), Some(10..15));
///
/// let extents: Vec<_> = layout.extents(8..12)?.collect();
/// assert_eq!((extents[0].entry, extents[0].offset, extents[0].len), (0, 8, 2));
/// assert_eq!((extents[1].entry, extents[1].offset, extents[1].len), (2, 0, 2));
/// # Ok::<(), flatspan::span::GroupError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// End offset of each entry, in ascending order. An empty entry ends where it starts.
    ends: Vec<u64>,
}

/// Part of a range that falls in one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Number of the entry.
    pub entry: usize,
    /// Offset in the entry, in bytes.
    pub offset: u64,
    /// Length in bytes, never zero.
    pub len: u64,
}

impl Layout {
    /// Creates a layout of entries with these lengths in bytes.
    ///
    /// # Errors
    ///
    /// - [`GroupError::LengthOverflow`] if the sum exceeds 2^64 - 1. It names the entry that
    ///   overflows.
    pub fn new(lengths: impl IntoIterator<Item = u64>) -> Result<Self, GroupError> {
        let mut layout = Self::default();
        for len in lengths {
            layout.push(len)?;
        }
        Ok(layout)
    }

    /// Appends an entry; an error leaves the layout unchanged.
    pub(in crate::span) fn push(&mut self, len: u64) -> Result<(), GroupError> {
        let entry = self.ends.len();
        let end = self.len().checked_add(len);
        self.ends
            .push(end.ok_or(GroupError::LengthOverflow { entry })?);
        Ok(())
    }

    /// Removes the last entry, if any.
    pub(in crate::span) fn pop(&mut self) {
        self.ends.pop();
    }

    /// Changes the length of the last entry, if any; an error leaves the layout unchanged.
    pub(in crate::span) fn resize_last(&mut self, len: u64) -> Result<(), GroupError> {
        let Some(last) = self.ends.len().checked_sub(1) else {
            return Ok(());
        };
        let end = self.start_of(last).checked_add(len);
        self.ends[last] = end.ok_or(GroupError::LengthOverflow { entry: last })?;
        Ok(())
    }

    /// Returns the length of all entries in bytes.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns whether the length is zero. The layout may have empty entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.ends.len()
    }

    /// Returns the byte range of an entry, or `None` if there is no such entry.
    #[must_use]
    pub fn entry_range(&self, entry: usize) -> Option<Range<u64>> {
        (entry < self.ends.len()).then(|| self.bounds(entry))
    }

    /// The byte range of an entry that exists.
    pub(in crate::span) fn bounds(&self, entry: usize) -> Range<u64> {
        self.start_of(entry)..self.ends[entry]
    }

    /// Resolves the bounds of a range. An unbounded end is the end of the last entry.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range is inverted or exceeds the layout.
    #[inline(always)]
    pub fn resolve_range(&self, range: impl RangeBounds<u64>) -> Result<Range<u64>, GroupError> {
        let after = |bound: &u64| bound.checked_add(1);
        let start = match range.start_bound() {
            Bound::Included(start) => Some(*start),
            Bound::Excluded(before) => after(before),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(last) => after(last),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => Some(self.len()),
        };
        match (start, end) {
            (Some(start), Some(end)) if start <= end && end <= self.len() => Ok(start..end),
            _ => Err(self.out_of_bounds(range.start_bound().cloned(), range.end_bound().cloned())),
        }
    }

    #[cold]
    #[inline(never)]
    fn out_of_bounds(&self, start: Bound<u64>, end: Bound<u64>) -> GroupError {
        GroupError::OutOfBounds {
            range: Bounds(start, end).to_string(),
            group_bytes: self.len(),
        }
    }

    /// Returns the extents of a range in entry order. Empty entries have none.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the range is inverted or exceeds the layout.
    #[inline(always)]
    pub fn extents(&self, range: impl RangeBounds<u64>) -> Result<Extents<'_>, GroupError> {
        let Range { start, end } = self.resolve_range(range)?;
        let entry = self.ends.partition_point(|entry_end| *entry_end <= start);
        Ok(Extents {
            layout: self,
            entry,
            position: start,
            end,
        })
    }

    /// The only entry of a resolved range, and the offset in it. `None` if the range is empty or
    /// crosses entries.
    #[inline(always)]
    pub(in crate::span) fn locate(&self, start: u64, end: u64) -> Option<(usize, u64)> {
        let entry = self.ends.partition_point(|entry_end| *entry_end <= start);
        let is_inside = start < end && end <= *self.ends.get(entry)?;
        is_inside.then(|| (entry, start - self.start_of(entry)))
    }

    #[inline(always)]
    fn start_of(&self, entry: usize) -> u64 {
        match entry.checked_sub(1) {
            Some(before) => self.ends[before],
            None => 0,
        }
    }
}

/// The bounds of a range as Rust syntax writes them.
struct Bounds(Bound<u64>, Bound<u64>);

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Bound::Included(start) => write!(f, "{start}")?,
            // Rust has no syntax for it.
            Bound::Excluded(before) => write!(f, "({before}, exclusive)")?,
            Bound::Unbounded => {}
        }
        match self.1 {
            Bound::Included(last) => write!(f, "..={last}"),
            Bound::Excluded(end) => write!(f, "..{end}"),
            Bound::Unbounded => f.write_str(".."),
        }
    }
}

/// Iterator over the extents of a range, from [`Layout::extents`].
///
/// It consists of four words that fit in registers. A store to memory before a dependent load would
/// delay that load (docs/benchmarks.md).
#[derive(Clone, Debug)]
pub struct Extents<'l> {
    layout: &'l Layout,
    /// The entry of `position`, or an empty entry before it.
    entry: usize,
    position: u64,
    end: u64,
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    #[inline(always)]
    fn next(&mut self) -> Option<Extent> {
        while self.position < self.end {
            let entry = self.entry;
            let entry_end = self.layout.ends[entry];
            let extent = Extent {
                entry,
                offset: self.position - self.layout.start_of(entry),
                len: self.end.min(entry_end) - self.position,
            };
            self.position += extent.len;
            self.entry += 1;
            if extent.len > 0 {
                return Some(extent);
            }
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn refused_changes_leave_the_layout_unchanged() {
        let layout_of = |lengths: &[u64]| Layout::new(lengths.iter().copied()).unwrap();
        let mut layout = layout_of(&[7, 5]);
        let before = layout.clone();
        assert!(layout.push(u64::MAX - 11).is_err());
        assert!(layout.resize_last(u64::MAX - 6).is_err());
        assert_eq!(layout, before);
        layout.resize_last(u64::MAX - 7).expect("the sum just fits");
        assert_eq!(layout.len(), u64::MAX);
        layout.resize_last(2).expect("shorter");
        layout.push(4).expect("the sum fits");
        assert_eq!(layout, layout_of(&[7, 2, 4]));
        layout.pop();
        assert_eq!(layout, layout_of(&[7, 2]));
    }

    #[test]
    fn out_of_bounds_ranges_are_displayed_as_rust_writes_them() {
        let layout = Layout::new([3]).expect("a short sum");
        let text =
            |range: (Bound<u64>, Bound<u64>)| layout.resolve_range(range).unwrap_err().to_string();
        let message = text((Bound::Included(2), Bound::Excluded(9)));
        assert_eq!(message, "range 2..9 is out of bounds (length 3 bytes)");
        let message = text((Bound::Unbounded, Bound::Included(u64::MAX)));
        assert!(
            message.starts_with("range ..=18446744073709551615 "),
            "{message}"
        );
    }
}
