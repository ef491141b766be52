//! Copying from group to group inside the kernel.

use std::ops::{Range, RangeBounds};

use super::error::SpanError;
use super::group::Group;
use super::layout::Extent;

impl Group {
    /// Copies a range to `at` of another group, whose files must be long enough. Storage is shared where the
    /// filesystem can (reflink), bytes are copied in the kernel elsewhere, and only as a last resort through this
    /// process. Holes stay holes.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`] of either group; [`SpanError::Padding`] on either side; [`SpanError::Argument`] for bytes
    /// that would be copied onto themselves or others of the range; `Busy` beside spans; `ShortFile`, `ReadOnly`,
    /// `StorageFull`. Then some of it may be copied.
    pub fn clone_range(
        &self,
        range: impl RangeBounds<u64>,
        to: &Self,
        at: u64,
    ) -> Result<(), SpanError> {
        let range = self.layout.resolve(range)?;
        let end = at.saturating_add(range.end - range.start);
        let _claims = self.claim_for_cloning(range.clone(), to, at..end)?;
        for (from, into) in self.pairs(range, to, at..end)? {
            let source = self.entries[from.entry].place(from);
            let target = to.entries[into.entry].place(into);
            let (file, place) = source.ok_or(SpanError::Padding { entry: from.entry })?;
            let (target, into) = target.ok_or(SpanError::Padding { entry: into.entry })?;
            file.copy_range_locked(place, target, into.start)?;
        }
        Ok(())
    }

    /// Two ranges of one length, cut wherever an entry of either ends.
    fn pairs(
        &self,
        range: Range<u64>,
        to: &Self,
        into: Range<u64>,
    ) -> Result<Vec<(Extent, Extent)>, SpanError> {
        let mut pairs = Vec::new();
        let mut targets = to.layout.extents(into)?;
        let mut left: Option<Extent> = None;
        for mut from in self.layout.extents(range)? {
            while from.len > 0 {
                let Some(into) = left.take().or_else(|| targets.next()) else {
                    unreachable!("both ranges have one length");
                };
                let len = from.len.min(into.len);
                pairs.push((Extent { len, ..from }, Extent { len, ..into }));
                let rest = |extent: Extent| Extent {
                    offset: extent.offset + len,
                    len: extent.len - len,
                    ..extent
                };
                left = Some(rest(into)).filter(|rest| rest.len > 0);
                from = rest(from);
            }
        }
        Ok(pairs)
    }
}
