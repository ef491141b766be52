//! Division of a group into pieces of equal length, as in BEP 3.

use std::ops::Range;

use super::mapped_bytes::NoWriters;
use crate::span::error::GroupError;
use crate::span::group::Group;

/// Pieces of a group. All have the same length except the last, which may be shorter.
///
/// ```
/// use flatspan::span::{Group, Pieces};
///
/// let group = Group::builder("/").padding(1000).open()?;
/// let pieces = Pieces::new(&group, 300)?;
/// assert_eq!(pieces.count(), 4);
/// assert_eq!(pieces.range(3), Some(900..1000));
/// assert_eq!(pieces.hash(0)?, pieces.hash(1)?);
/// # Ok::<(), flatspan::span::GroupError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pieces<'g> {
    pub(super) group: &'g Group,
    piece_bytes: u64,
    /// Set by `Pieces::hash_in_place`.
    pub(super) no_writers: Option<NoWriters>,
}

impl<'g> Pieces<'g> {
    /// Divides a group into pieces of `piece_bytes` bytes.
    ///
    /// # Errors
    ///
    /// - [`GroupError::InvalidArgument`] if `piece_bytes` is zero, or if the number of pieces
    ///   exceeds `isize::MAX`.
    pub fn new(group: &'g Group, piece_bytes: u64) -> Result<Self, GroupError> {
        let invalid = |reason: &str| GroupError::InvalidArgument {
            argument: "piece_bytes",
            reason: reason.to_owned(),
        };
        if piece_bytes == 0 {
            return Err(invalid("the length of a piece is zero"));
        }
        if isize::try_from(group.len().div_ceil(piece_bytes)).is_err() {
            return Err(invalid("the group has too many pieces of this length"));
        }
        Ok(Self {
            group,
            piece_bytes,
            no_writers: None,
        })
    }

    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &'g Group {
        self.group
    }

    /// Returns the length of a piece in bytes. The last piece may be shorter.
    #[must_use]
    pub fn piece_bytes(&self) -> u64 {
        self.piece_bytes
    }

    /// Returns the number of pieces.
    #[must_use]
    pub fn count(&self) -> usize {
        // Lossless: checked by `new`.
        self.group.len().div_ceil(self.piece_bytes) as usize
    }

    /// Returns the byte range of a piece in the group, or `None` if there is no such piece.
    #[must_use]
    pub fn range(&self, piece: usize) -> Option<Range<u64>> {
        (piece < self.count()).then(|| self.bounds(piece))
    }

    /// The byte range of a piece that exists.
    pub(super) fn bounds(&self, piece: usize) -> Range<u64> {
        let end = self.group.len();
        let start = (piece as u64).saturating_mul(self.piece_bytes).min(end);
        start..start.saturating_add(self.piece_bytes).min(end)
    }

    /// The byte range of a piece, or the error for a piece that does not exist.
    pub(super) fn checked_range(&self, piece: usize) -> Result<Range<u64>, GroupError> {
        self.range(piece)
            .ok_or_else(|| GroupError::InvalidArgument {
                argument: "piece",
                reason: format!("{piece} of {} pieces", self.count()),
            })
    }
}
