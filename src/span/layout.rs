//! Which bytes of a group are where. Pure arithmetic: prefix sums and a binary search.

use std::ops::{Bound, Range, RangeBounds};

use super::error::SpanError;

/// Entries of given lengths laid one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Where each entry ends. Never falls; entries of no length end where they start.
    ends: Vec<u64>,
}

/// A part of a range that lies in one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of the entry.
    pub entry: usize,
    /// Offset in the entry, in bytes.
    pub offset: u64,
    /// Length in bytes, never zero.
    pub len: u64,
}

impl Layout {
    /// Lays out entries of these lengths in bytes.
    ///
    /// # Errors
    ///
    /// [`SpanError::TooLong`] with the entry at which the sum passes 2^64 - 1.
    pub fn new(lengths: impl IntoIterator<Item = u64>) -> Result<Self, SpanError> {
        let mut layout = Self::default();
        for len in lengths {
            layout.push(len)?;
        }
        Ok(layout)
    }

    /// Adds an entry at the end.
    ///
    /// # Errors
    ///
    /// [`SpanError::TooLong`]; then nothing was added.
    pub fn push(&mut self, len: u64) -> Result<(), SpanError> {
        let entry = self.ends.len();
        let end = self.len().checked_add(len);
        self.ends.push(end.ok_or(SpanError::TooLong { entry })?);
        Ok(())
    }

    /// Gives the last entry another length, if there is one.
    ///
    /// # Errors
    ///
    /// [`SpanError::TooLong`]; then nothing was changed.
    pub fn resize_last(&mut self, len: u64) -> Result<(), SpanError> {
        let Some(last) = self.ends.len().checked_sub(1) else {
            return Ok(());
        };
        let end = self.start_of(last).checked_add(len);
        self.ends[last] = end.ok_or(SpanError::TooLong { entry: last })?;
        Ok(())
    }

    /// Bytes in all.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// True without a byte, with or without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.ends.len()
    }

    /// Where an entry lies in the array.
    ///
    /// # Panics
    ///
    /// When there is no such entry.
    #[must_use]
    pub fn range_of(&self, entry: usize) -> Range<u64> {
        self.start_of(entry)..self.ends[entry]
    }

    /// Checks a range and gives its bounds as numbers. A missing end is the end of the array.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`] for one that is inverted, passes 2^64 - 1 or leaves the array.
    #[inline(always)]
    pub fn resolve(&self, range: impl RangeBounds<u64>) -> Result<Range<u64>, SpanError> {
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
            _ => Err(self.refuse(range.start_bound().cloned(), range.end_bound().cloned())),
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, start: Bound<u64>, end: Bound<u64>) -> SpanError {
        SpanError::Range {
            range: format!("{:?}", (start, end)),
            group_bytes: self.len(),
        }
    }

    /// The parts of a range, entry by entry; entries of no length have none.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`], as for [`resolve`](Self::resolve).
    #[inline(always)]
    pub fn extents(&self, range: impl RangeBounds<u64>) -> Result<Extents<'_>, SpanError> {
        let Range { start, end } = self.resolve(range)?;
        let entry = self.ends.partition_point(|entry_end| *entry_end <= start);
        Ok(Extents {
            layout: self,
            entry,
            at: start,
            end,
        })
    }

    /// The entry that a range, resolved before, lies in, and its offset there; `None` if there are several, or if
    /// the range is empty.
    #[inline(always)]
    pub(super) fn locate(&self, start: u64, end: u64) -> Option<(usize, u64)> {
        let entry = self.ends.partition_point(|entry_end| *entry_end <= start);
        let is_inside = start < end && end <= *self.ends.get(entry)?;
        is_inside.then(|| (entry, start - self.start_of(entry)))
    }

    #[inline(always)]
    fn start_of(&self, entry: usize) -> u64 {
        entry.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// The parts of a range, from [`Layout::extents`]. A few words that fit in registers: what goes through
/// memory on the way to a load delays it (docs/benchmarks.md).
#[derive(Clone, Debug)]
pub struct Extents<'l> {
    layout: &'l Layout,
    /// The entry that `at` lies in, or an empty one before it.
    entry: usize,
    at: u64,
    end: u64,
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    #[inline(always)]
    fn next(&mut self) -> Option<Extent> {
        while self.at < self.end {
            let entry = self.entry;
            let entry_end = self.layout.ends[entry];
            let extent = Extent {
                entry,
                offset: self.at - self.layout.start_of(entry),
                len: self.end.min(entry_end) - self.at,
            };
            self.at += extent.len;
            self.entry += 1;
            if extent.len > 0 {
                return Some(extent);
            }
        }
        None
    }
}
