//! A group cut into pieces of one length, as torrents hash it.

use std::ops::Range;

use super::batch::Batches;
use super::error::SpanError;
use super::group::Group;
use super::hasher::{PieceHasher, Sha1Digest};
use super::mapped_bytes::Promise;

/// Bytes read at a time where a piece is hashed alone: small enough to stay in the second cache.
const BLOCK_BYTES: usize = 128 << 10;

/// The pieces of a group: all of one length but the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Pieces<'g> {
    pub(super) group: &'g Group,
    piece_bytes: u64,
    /// Set by [`Pieces::in_place`].
    pub(super) promise: Option<Promise>,
}

impl<'g> Pieces<'g> {
    /// Cuts a group into pieces of `piece_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`SpanError::Argument`] for pieces of no length, or more of them than memory has addresses.
    pub fn new(group: &'g Group, piece_bytes: u64) -> Result<Self, SpanError> {
        let refuse = |reason: &str| SpanError::Argument {
            argument: "piece_bytes",
            reason: reason.to_owned(),
        };
        if piece_bytes == 0 {
            return Err(refuse("pieces need a length"));
        }
        if isize::try_from(group.len().div_ceil(piece_bytes)).is_err() {
            return Err(refuse("too many pieces"));
        }
        Ok(Self {
            group,
            piece_bytes,
            promise: None,
        })
    }

    /// The group that is cut.
    #[must_use]
    pub fn group(&self) -> &'g Group {
        self.group
    }

    /// Length of a piece in bytes; the last may be shorter.
    #[must_use]
    pub fn piece_bytes(&self) -> u64 {
        self.piece_bytes
    }

    /// How many pieces there are.
    #[must_use]
    pub fn count(&self) -> usize {
        // Lossless: checked when this was made.
        self.group.len().div_ceil(self.piece_bytes) as usize
    }

    /// Where a piece lies in the group; empty for a number past the last.
    #[must_use]
    pub fn range(&self, piece: usize) -> Range<u64> {
        let end = self.group.len();
        let start = (piece as u64).saturating_mul(self.piece_bytes).min(end);
        start..start.saturating_add(self.piece_bytes).min(end)
    }

    /// Hashes one piece with SHA-1.
    ///
    /// # Errors
    ///
    /// [`SpanError::Argument`] for a number past the last; what reading the piece returns, wherever in
    /// it.
    pub fn hash(&self, piece: usize) -> Result<Sha1Digest, SpanError> {
        self.check(piece)?;
        let mut batches = Batches::new(self);
        let mut results = batches.hash(piece..piece + 1, &|| false);
        let result = results.pop().flatten();
        result.expect("one for each piece, as nobody stops it")
    }

    /// Hashes one piece with any hash.
    ///
    /// # Errors
    ///
    /// As for [`hash`](Self::hash).
    pub fn hash_with<H: PieceHasher>(&self, piece: usize) -> Result<H::Digest, SpanError> {
        self.check(piece)?;
        let mut hasher = H::default();
        let mut buf = vec![0; BLOCK_BYTES];
        let Range { start: mut at, end } = self.range(piece);
        while at < end {
            let len = usize::try_from(end - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            self.group.read_exact_at(at, &mut buf[..len])?;
            hasher.update(&buf[..len]);
            at += len as u64;
        }
        Ok(hasher.finish())
    }

    pub(super) fn check(&self, piece: usize) -> Result<(), SpanError> {
        if piece < self.count() {
            return Ok(());
        }
        Err(SpanError::Argument {
            argument: "piece",
            reason: format!("{piece} of {}", self.count()),
        })
    }
}
