//! The claims of copies: all of a range at once, so that no copy sees half of another.

use std::ops::Range;

use super::error::SpanError;
use super::group::Group;
use super::layout::Extent;
use crate::mapping_cache::{
    CachedFile, Claim, MappingError, Patience, Refused, Sharing, Stay, claim_patiently,
};

/// Claims on a range, given back on drop. Most ranges lie in one file.
#[derive(Debug, Default)]
pub(super) struct CopyClaims<'g> {
    _first: Option<Claim<'g>>,
    _more: Vec<Claim<'g>>,
}

/// Claims, how far they go, and why not farther.
type Reading<'g> = (CopyClaims<'g>, u64, Option<SpanError>);

/// A range of a file; two handles of one file have one number.
struct Target<'g> {
    number: usize,
    range: Range<u64>,
    file: &'g CachedFile,
}

impl Group {
    /// Claims a range for reading as far as its files can be opened; the error is that of the first one
    /// that cannot.
    pub(super) fn claim_for_reading(&self, range: Range<u64>) -> Result<Reading<'_>, SpanError> {
        let Range { start, end } = range;
        if let Some(claims) = self.claim_one(start..end, Sharing::Shared) {
            return match claims {
                Ok(claims) => Ok((claims, end, None)),
                Err(error @ MappingError::Busy { .. }) => Err(error.into()),
                Err(error) => Ok((CopyClaims::default(), start, Some(error.into()))),
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
        let claims = claim_all(merge(targets), Sharing::Shared)?;
        Ok((claims, reached, error))
    }

    /// As [`claim_for_reading`](Self::claim_for_reading), of a range that ends before the first byte that
    /// somebody has for writing. An error only when that is the first of all.
    pub(super) fn claim_what_is_free(&self, range: Range<u64>) -> Result<Reading<'_>, SpanError> {
        let Range { start, mut end } = range;
        loop {
            let error = match self.claim_for_reading(start..end) {
                Err(error @ SpanError::File(MappingError::Busy { .. })) => error,
                done => return done,
            };
            let first = self.layout.extents(start..end)?.next();
            let Some(first) = first else {
                return Err(error);
            };
            end = match &error {
                // Which of several files it was is not said: one file at a time.
                _ if first.len < end - start => start + first.len,
                SpanError::File(MappingError::Busy { offset, .. }) => {
                    let place = self.entries[first.entry].place(first);
                    let from = place.map_or(0, |(_, place)| offset.saturating_sub(place.start));
                    if from == 0 || from >= end - start {
                        return Err(error);
                    }
                    start + from
                }
                _ => return Err(error),
            };
        }
    }

    /// Claims a range for writing, creating files that may be created.
    pub(super) fn claim_for_writing(&self, range: Range<u64>) -> Result<CopyClaims<'_>, SpanError> {
        if let Some(claims) = self.claim_one(range.clone(), Sharing::Exclusive) {
            return Ok(claims?);
        }
        let mut targets = Vec::new();
        for extent in self.layout.extents(range)? {
            targets.extend(self.target(extent, Sharing::Exclusive)?);
        }
        Ok(claim_all(merge(targets), Sharing::Exclusive)?)
    }

    /// Claims a range for reading and one of another group for writing.
    pub(super) fn claim_for_cloning<'g>(
        &'g self,
        range: Range<u64>,
        to: &'g Self,
        into: Range<u64>,
    ) -> Result<CopyClaims<'g>, SpanError> {
        let targets_of = |group: &'g Self, range, sharing| {
            let extents = group.layout.extents(range)?;
            let targets = extents.map(|extent| group.target(extent, sharing));
            let targets = targets.filter_map(Result::transpose);
            let targets = targets.collect::<Result<Vec<_>, _>>()?;
            Ok::<_, SpanError>(merge(targets))
        };
        let sources = targets_of(self, range, Sharing::Shared)?;
        let targets = targets_of(to, into, Sharing::Exclusive)?;
        let meets = |a: &Target<'_>, b: &Target<'_>| {
            a.number == b.number && a.range.start < b.range.end && b.range.start < a.range.end
        };
        if sources.iter().any(|a| targets.iter().any(|b| meets(a, b))) {
            return Err(SpanError::Argument {
                argument: "at",
                reason: "the range would be copied onto itself".to_owned(),
            });
        }
        // Both kinds at once: nobody waits while holding one (hazard 38).
        Ok(claim_patiently(Patience::Copies, || {
            let claim = |sharing| {
                move |target: &Target<'g>| {
                    target
                        .file
                        .lock_range(target.range.clone(), sharing, Stay::Copy)
                }
            };
            let claims = sources.iter().map(claim(Sharing::Shared));
            let claims = claims.chain(targets.iter().map(claim(Sharing::Exclusive)));
            Ok(CopyClaims {
                _first: None,
                _more: claims.collect::<Result<Vec<_>, Refused<'g>>>()?,
            })
        })?)
    }

    /// Claims a range that lies in one file; `None` for another.
    fn claim_one(
        &self,
        range: Range<u64>,
        sharing: Sharing,
    ) -> Option<Result<CopyClaims<'_>, MappingError>> {
        let mut extents = self.layout.extents(range.clone()).ok()?;
        let only = extents.next()?;
        if only.len < range.end - range.start {
            return None;
        }
        let (file, place) = self.entries[only.entry].place(only)?;
        let claim = claim_patiently(Patience::Copies, || {
            file.lock_range(place.clone(), sharing, Stay::Copy)
        });
        Some(claim.map(|claim| CopyClaims {
            _first: Some(claim),
            _more: Vec::new(),
        }))
    }

    /// What to claim for an extent; nothing for padding.
    fn target(&self, extent: Extent, sharing: Sharing) -> Result<Option<Target<'_>>, MappingError> {
        let Some((file, range)) = self.entries[extent.entry].place(extent) else {
            return Ok(None);
        };
        let number = file.number(sharing)?;
        Ok(Some(Target {
            number,
            range,
            file,
        }))
    }

    /// Does the range meet the same bytes of a file twice?
    pub(super) fn meets_itself(&self, range: Range<u64>) -> Result<bool, SpanError> {
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

/// A range may meet a file twice, by repeated paths or hard links: it is claimed once.
fn merge(mut targets: Vec<Target<'_>>) -> Vec<Target<'_>> {
    targets.sort_by_key(|target| (target.number, target.range.start));
    targets.dedup_by(|next, kept| {
        let meets = next.number == kept.number && next.range.start <= kept.range.end;
        if meets {
            kept.range.end = kept.range.end.max(next.range.end);
        }
        meets
    });
    targets
}

fn claim_all<'g>(
    targets: Vec<Target<'g>>,
    sharing: Sharing,
) -> Result<CopyClaims<'g>, MappingError> {
    claim_patiently(Patience::Copies, || {
        let claims = targets.iter().map(|target| {
            target
                .file
                .lock_range(target.range.clone(), sharing, Stay::Copy)
        });
        let more = claims.collect::<Result<Vec<_>, Refused<'g>>>()?;
        Ok(CopyClaims {
            _first: None,
            _more: more,
        })
    })
}
