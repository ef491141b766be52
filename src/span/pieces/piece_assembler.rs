//! Hashing of a piece while its blocks arrive, so that the complete piece need not be read again.

use std::collections::BTreeMap;

use super::hasher::{PieceHasher, Sha1};
use super::pieces::Pieces;
use crate::span::error::GroupError;
use crate::span::guard::{GroupHandle, SpanMut};

/// Bytes copied out of a span at a time. They fit in the L2 cache, which may still contain them
/// from their arrival.
const BLOCK_BYTES: usize = 64 << 10;

/// Hasher of a piece whose blocks arrive in any order.
///
/// A block that arrives early is buffered until the gap before it is filled: see
/// [`buffered_bytes`](Self::buffered_bytes).
///
/// Bytes that arrive a second time are ignored. The caller must not write them to the group again
/// either, since the hash would not match them.
///
/// ```
/// use flatspan::span::{Group, PieceAssembler, Pieces};
///
/// let group = Group::builder("/").padding(100).open()?;
/// let pieces = Pieces::new(&group, 40)?;
/// let mut piece: PieceAssembler = PieceAssembler::new(&pieces, 1)?;
/// piece.push_block(50, &[0; 30])?;
/// assert_eq!(piece.buffered_bytes(), 30);
/// piece.push_block(40, &[0; 10])?;
/// assert_eq!(piece.finish().expect("no gap"), pieces.hash(1)?);
/// # Ok::<(), flatspan::span::GroupError>(())
/// ```
#[derive(Debug)]
pub struct PieceAssembler<H: PieceHasher = Sha1> {
    /// Offset of the piece in the group.
    start: u64,
    len: u64,
    /// Length of the prefix that is hashed.
    hashed: u64,
    hasher: H,
    /// Blocks by their offset in the piece, all after `hashed`. They may overlap.
    buffered: BTreeMap<u64, Vec<u8>>,
}

impl<H: PieceHasher> PieceAssembler<H> {
    /// Creates the hasher of a piece without any block.
    ///
    /// # Errors
    ///
    /// - [`GroupError::InvalidArgument`] if there is no such piece.
    pub fn new(pieces: &Pieces<'_>, piece: usize) -> Result<Self, GroupError> {
        let range = pieces.checked_range(piece)?;
        Ok(Self {
            start: range.start,
            len: range.end - range.start,
            hashed: 0,
            hasher: H::default(),
            buffered: BTreeMap::new(),
        })
    }

    /// Adds a block at its offset in the group.
    ///
    /// # Errors
    ///
    /// - [`GroupError::OutOfBounds`] if the block exceeds the piece. The block is ignored.
    pub fn push_block(&mut self, offset: u64, bytes: &[u8]) -> Result<(), GroupError> {
        let at = offset.checked_sub(self.start);
        let inside = at.filter(|at| {
            let end = at.checked_add(bytes.len() as u64);
            end.is_some_and(|end| end <= self.len)
        });
        let Some(at) = inside else {
            return Err(GroupError::OutOfBounds {
                range: format!("{offset} + {} of a piece", bytes.len()),
                group_bytes: self.len,
            });
        };
        if at > self.hashed {
            let known = self.buffered.get(&at).map_or(0, Vec::len);
            if bytes.len() > known {
                self.buffered.insert(at, bytes.to_vec());
            }
            return Ok(());
        }
        self.hash(at, bytes);
        while let Some(first) = self.buffered.first_entry()
            && *first.key() <= self.hashed
        {
            let (at, bytes) = first.remove_entry();
            self.hash(at, &bytes);
        }
        Ok(())
    }

    /// Adds the content of a span, for example after it was received from a socket.
    ///
    /// # Errors
    ///
    /// The errors of [`push_block`](Self::push_block) and [`SpanMut::read_at`].
    pub fn push_span<G: GroupHandle>(&mut self, span: &SpanMut<G>) -> Result<(), GroupError> {
        let mut buf = vec![0; span.len().min(BLOCK_BYTES)];
        let mut at = 0;
        while at < span.len() {
            let len = buf.len().min(span.len() - at);
            span.read_at(at, &mut buf[..len])?;
            self.push_block(span.range().start + at as u64, &buf[..len])?;
            at += len;
        }
        Ok(())
    }

    /// Returns the bytes in memory of blocks that arrived early.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffered.values().map(Vec::len).sum()
    }

    /// Returns the number of hashed bytes: from the start of the piece to the first gap.
    #[must_use]
    pub fn hashed_bytes(&self) -> u64 {
        self.hashed
    }

    /// Returns the hash of the complete piece.
    ///
    /// # Errors
    ///
    /// Returns the hasher itself if the piece has a gap.
    pub fn finish(self) -> Result<H::Digest, Self> {
        if self.hashed < self.len {
            return Err(self);
        }
        Ok(self.hasher.finish())
    }

    /// Hashes the new bytes of a block that starts in the hashed prefix, or at its end.
    fn hash(&mut self, at: u64, bytes: &[u8]) {
        let known = usize::try_from(self.hashed - at).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..) {
            self.hasher.update(new);
            self.hashed += new.len() as u64;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::span::group::Group;

    proptest! {
        /// Blocks of any length in any order, some of them twice, have the hash of the whole piece.
        #[test]
        fn any_order_gives_the_same_hash(
            lens in prop::collection::vec(1usize..700, 1..20),
            order in prop::collection::vec(any::<u32>(), 60),
        ) {
            let len: usize = lens.iter().sum();
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
            let group = Group::builder("/").padding(len as u64).open().unwrap();
            let pieces = Pieces::new(&group, len as u64).unwrap();
            let mut blocks: Vec<(usize, usize)> = Vec::new();
            let mut at = 0;
            for block_len in lens {
                blocks.push((at, at + block_len));
                at += block_len;
            }
            for extra in order.iter().take(5) {
                let start = *extra as usize % len;
                blocks.push((start, len.min(start + 300)));
            }
            let mut keys = order.iter().cycle();
            blocks.sort_by_cached_key(|_| *keys.next().unwrap());
            let mut piece = PieceAssembler::<Sha1>::new(&pieces, 0).unwrap();
            for (start, end) in blocks {
                piece.push_block(start as u64, &bytes[start..end]).unwrap();
            }
            let mut whole = Sha1::default();
            whole.update(&bytes);
            prop_assert_eq!(piece.buffered_bytes(), 0);
            prop_assert_eq!(piece.finish().unwrap(), whole.finish());
        }
    }

    #[test]
    fn a_block_outside_the_piece_is_refused_and_a_gap_keeps_the_piece() {
        let group = Group::builder("/").padding(100).open().unwrap();
        let pieces = Pieces::new(&group, 40).unwrap();
        let mut piece = PieceAssembler::<Sha1>::new(&pieces, 2).unwrap();
        for (offset, len) in [(79, 1), (99, 2), (u64::MAX, 1)] {
            assert!(piece.push_block(offset, &vec![0; len]).is_err(), "{offset}");
        }
        piece.push_block(90, &[0; 10]).unwrap();
        let mut piece = piece.finish().unwrap_err();
        assert_eq!((piece.hashed_bytes(), piece.buffered_bytes()), (0, 10));
        piece.push_block(80, &[0; 10]).unwrap();
        assert_eq!(piece.finish().unwrap(), pieces.hash(2).unwrap());
    }
}
