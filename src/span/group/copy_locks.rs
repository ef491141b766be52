//! Range locks for the duration of a copy. A copy locks its whole range at once, so that it never
//! observes part of another copy [I33].

use std::ops::Range;

use super::group::Group;
use super::layout::Extent;
use crate::mapping_cache::{
    CachedFile, LockKind, MappingError, RangeLock, RangeLockError, Sharing, Timeout,
    lock_range_timeout,
};
use crate::span::error::GroupError;

/// Range locks that are released on drop. Most ranges are in one file and need no allocation.
#[derive(Debug, Default)]
pub(super) struct CopyLocks<'g> {
    _first: Option<RangeLock<'g>>,
    _more: Vec<RangeLock<'g>>,
}

/// Locks of a prefix of a range, the end of the prefix, and the error that ended it.
type ReadablePrefix<'g> = (CopyLocks<'g>, u64, Option<GroupError>);

/// A range of a file. Handles of the same file have the same number.
struct Target<'g> {
    number: usize,
    range: Range<u64>,
    file: &'g CachedFile,
}

impl Group {
    /// Locks a range for reading, up to the first file that cannot be opened.
    pub(super) fn lock_for_reading(
        &self,
        range: Range<u64>,
    ) -> Result<ReadablePrefix<'_>, GroupError> {
        let Range { start, end } = range;
        if let Some(locks) = self.lock_single_file(start..end, Sharing::Shared) {
            return match locks {
                Ok(locks) => Ok((locks, end, None)),
                Err(error @ MappingError::RangeLocked { .. }) => Err(error.into()),
                Err(error) => Ok((CopyLocks::default(), start, Some(error.into()))),
            };
        }
        let (mut targets, mut reached, mut error) = (Vec::new(), start, None);
        for extent in self.layout.extents(start..end)? {
            match self.target(extent, Sharing::Shared) {
                Ok(target) => targets.extend(target),
                Err(failed) => {
                    error = Some(failed.into());
                    break;
                }
            }
            reached += extent.len;
        }
        let locks = lock_all(&merge(targets), Sharing::Shared)?;
        Ok((locks, reached, error))
    }

    /// Locks a range for reading, up to the first file that cannot be opened or the first byte that
    /// a span holds for writing. Fails only if a span holds the first byte.
    pub(super) fn lock_readable_prefix(
        &self,
        range: Range<u64>,
    ) -> Result<ReadablePrefix<'_>, GroupError> {
        let Range { start, mut end } = range;
        loop {
            let error = match self.lock_for_reading(start..end) {
                Err(error @ GroupError::File(MappingError::RangeLocked { .. })) => error,
                done => return done,
            };
            let first = self.layout.extents(start..end)?.next();
            let Some(first) = first else {
                return Err(error);
            };
            end = match &error {
                // The error does not identify one of several files: try the first file alone.
                _ if first.len < end - start => start + first.len,
                GroupError::File(MappingError::RangeLocked { offset, .. }) => {
                    let from = match self.entries[first.entry].file_range(first) {
                        Some((_, range)) => offset.saturating_sub(range.start),
                        None => 0,
                    };
                    if from == 0 || from >= end - start {
                        return Err(error);
                    }
                    start + from
                }
                _ => return Err(error),
            };
        }
    }

    /// Locks a range for writing, and creates missing files if the options allow it.
    pub(super) fn lock_for_writing(&self, range: Range<u64>) -> Result<CopyLocks<'_>, GroupError> {
        if let Some(locks) = self.lock_single_file(range.clone(), Sharing::Exclusive) {
            return Ok(locks?);
        }
        let mut targets = Vec::new();
        for extent in self.layout.extents(range)? {
            targets.extend(self.target(extent, Sharing::Exclusive)?);
        }
        Ok(lock_all(&merge(targets), Sharing::Exclusive)?)
    }

    /// Locks a range for reading and a range of another group for writing.
    pub(super) fn lock_for_copy_range<'g>(
        &'g self,
        range: Range<u64>,
        to: &'g Self,
        into: Range<u64>,
    ) -> Result<CopyLocks<'g>, GroupError> {
        let targets_of = |group: &'g Self, range, sharing| {
            let extents = group.layout.extents(range)?;
            let targets = extents.map(|extent| group.target(extent, sharing));
            let targets = targets.filter_map(Result::transpose);
            let targets = targets.collect::<Result<Vec<_>, _>>()?;
            Ok::<_, GroupError>(merge(targets))
        };
        let sources = targets_of(self, range, Sharing::Shared)?;
        let targets = targets_of(to, into, Sharing::Exclusive)?;
        let overlap = |a: &Target<'_>, b: &Target<'_>| {
            a.number == b.number && a.range.start < b.range.end && b.range.start < a.range.end
        };
        if sources
            .iter()
            .any(|a| targets.iter().any(|b| overlap(a, b)))
        {
            return Err(GroupError::InvalidArgument {
                argument: "at",
                reason: "source and target overlap".to_owned(),
            });
        }
        // Take both kinds at once: no thread waits while it holds a range lock [I38].
        Ok(lock_range_timeout(Timeout::Copies, |ticket| {
            let lock = |sharing| {
                move |target: &Target<'g>| {
                    let range = target.range.clone();
                    let file = target.file;
                    file.lock_range(range, sharing, LockKind::Copy, ticket)
                }
            };
            let shared = sources.iter().map(lock(Sharing::Shared));
            let exclusive = targets.iter().map(lock(Sharing::Exclusive));
            Ok(CopyLocks {
                _first: None,
                _more: shared
                    .chain(exclusive)
                    .collect::<Result<Vec<_>, RangeLockError<'g>>>()?,
            })
        })?)
    }

    /// Locks a range of a single file. `None` for a range that crosses entries or is padding.
    fn lock_single_file(
        &self,
        range: Range<u64>,
        sharing: Sharing,
    ) -> Option<Result<CopyLocks<'_>, MappingError>> {
        let mut extents = self.layout.extents(range.clone()).ok()?;
        let only = extents.next()?;
        if only.len < range.end - range.start {
            return None;
        }
        let (file, range) = self.entries[only.entry].file_range(only)?;
        let lock = lock_range_timeout(Timeout::Copies, |ticket| {
            file.lock_range(range.clone(), sharing, LockKind::Copy, ticket)
        });
        Some(lock.map(|lock| CopyLocks {
            _first: Some(lock),
            _more: Vec::new(),
        }))
    }

    /// The file range to lock for an extent; `None` for padding.
    fn target(&self, extent: Extent, sharing: Sharing) -> Result<Option<Target<'_>>, MappingError> {
        let Some((file, range)) = self.entries[extent.entry].file_range(extent) else {
            return Ok(None);
        };
        let number = file.number(sharing)?;
        Ok(Some(Target {
            number,
            range,
            file,
        }))
    }

    /// Whether a range contains the same bytes of a file twice.
    pub(in crate::span) fn overlaps_itself(&self, range: Range<u64>) -> Result<bool, GroupError> {
        let mut targets = Vec::new();
        for extent in self.layout.extents(range)? {
            targets.extend(self.target(extent, Sharing::Exclusive)?);
        }
        let bytes = |targets: &[Target<'_>]| -> u64 {
            let ranges = targets.iter().map(|target| &target.range);
            ranges.map(|range| range.end - range.start).sum()
        };
        let all = bytes(&targets);
        Ok(bytes(&merge(targets)) < all)
    }
}

/// Merges targets that overlap by repeated paths or hard links, so that each byte is locked once.
fn merge(mut targets: Vec<Target<'_>>) -> Vec<Target<'_>> {
    targets.sort_by_key(|target| (target.number, target.range.start));
    targets.dedup_by(|next, kept| {
        let overlaps = next.number == kept.number && next.range.start <= kept.range.end;
        if overlaps {
            kept.range.end = kept.range.end.max(next.range.end);
        }
        overlaps
    });
    targets
}

fn lock_all<'g>(targets: &[Target<'g>], sharing: Sharing) -> Result<CopyLocks<'g>, MappingError> {
    lock_range_timeout(Timeout::Copies, |ticket| {
        let locks = targets.iter().map(|target| {
            let range = target.range.clone();
            let file = target.file;
            file.lock_range(range, sharing, LockKind::Copy, ticket)
        });
        Ok(CopyLocks {
            _first: None,
            _more: locks.collect::<Result<Vec<_>, RangeLockError<'g>>>()?,
        })
    })
}
