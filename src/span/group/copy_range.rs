//! Copies between groups inside the kernel.

use std::ops::{Range, RangeBounds};

use super::group::Group;
use super::layout::Extent;
use crate::span::error::GroupError;

impl Group {
    /// Copies a range to offset `at` of another group, whose files must be long enough.
    ///
    /// The copy shares storage where the filesystem supports it (reflink). Otherwise the kernel
    /// copies the bytes, or as a last resort this process. Holes remain holes.
    ///
    /// # Errors
    ///
    /// Part of the range may be copied on error.
    ///
    /// - [`GroupError::OutOfBounds`] if the range exceeds either group.
    /// - [`GroupError::WriteToPadding`] if either range contains padding.
    /// - [`GroupError::InvalidArgument`] if source and target overlap in a file.
    /// - [`GroupError::File`] if a span holds either range, a source file is too short, the target
    ///   is read-only or its disk is full.
    pub fn clone_range(
        &self,
        range: impl RangeBounds<u64>,
        to: &Self,
        at: u64,
    ) -> Result<(), GroupError> {
        let range = self.layout.resolve_range(range)?;
        let len = range.end - range.start;
        let end = at.checked_add(len).ok_or_else(|| GroupError::OutOfBounds {
            range: format!("{at} + {len}"),
            group_bytes: to.len(),
        })?;
        let _locks = self.lock_for_copy_range(range.clone(), to, at..end)?;
        for (from, into) in self.extent_pairs(range, to, at..end)? {
            let source = self.entries[from.entry].file_range(from);
            let target = to.entries[into.entry].file_range(into);
            let (source, from) = source.ok_or(GroupError::WriteToPadding { entry: from.entry })?;
            let (target, into) = target.ok_or(GroupError::WriteToPadding { entry: into.entry })?;
            source.copy_range_locked(from, target, into.start)?;
        }
        Ok(())
    }

    /// The extents of two ranges of the same length, split at the entry boundaries of both.
    fn extent_pairs(
        &self,
        range: Range<u64>,
        to: &Self,
        into: Range<u64>,
    ) -> Result<Vec<(Extent, Extent)>, GroupError> {
        let mut pairs = Vec::new();
        let mut targets = to.layout.extents(into)?;
        let mut unused: Option<Extent> = None;
        for mut from in self.layout.extents(range)? {
            while from.len > 0 {
                let Some(into) = unused.take().or_else(|| targets.next()) else {
                    unreachable!("both ranges have the same length");
                };
                let len = from.len.min(into.len);
                pairs.push((Extent { len, ..from }, Extent { len, ..into }));
                let rest = |extent: Extent| Extent {
                    offset: extent.offset + len,
                    len: extent.len - len,
                    ..extent
                };
                unused = Some(rest(into)).filter(|rest| rest.len > 0);
                from = rest(from);
            }
        }
        Ok(pairs)
    }
}
