//! Hashing a piece while its blocks arrive, so that a piece that is complete need not be read again.

use std::collections::BTreeMap;

use super::error::SpanError;
use super::guard::SpanMut;
use super::hasher::{PieceHasher, Sha1};
use super::parts::GroupHandle;
use super::pieces::Pieces;

/// Bytes copied out of a span at a time: small enough to stay in the second cache, where they still are
/// after they arrived.
const BLOCK_BYTES: usize = 64 << 10;

/// A piece whose blocks arrive in any order. Those that arrive early are kept until the gap before them is
/// filled; see [`early_bytes`](Self::early_bytes).
///
/// A block counts once: bytes that arrive again are not looked at, so what is in the files must not be
/// written again either.
#[derive(Debug)]
pub struct ArrivingPiece<H: PieceHasher = Sha1> {
    /// Where the piece starts in the group.
    start: u64,
    len: u64,
    /// So many bytes from its start went into the hasher.
    hashed: u64,
    hasher: H,
    /// By their offset in the piece, all behind `hashed`. They may overlap.
    early: BTreeMap<u64, Vec<u8>>,
}

impl<H: PieceHasher> ArrivingPiece<H> {
    /// A piece of which nothing has arrived.
    ///
    /// # Errors
    ///
    /// [`SpanError::Argument`] for a number past the last.
    pub fn new(pieces: &Pieces<'_>, piece: usize) -> Result<Self, SpanError> {
        pieces.check(piece)?;
        let range = pieces.range(piece);
        Ok(Self {
            start: range.start,
            len: range.end - range.start,
            hashed: 0,
            hasher: H::default(),
            early: BTreeMap::new(),
        })
    }

    /// Takes a block that arrived, at its offset in the group.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`] when it does not lie in the piece; then it is not taken.
    pub fn block(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SpanError> {
        let at = offset.checked_sub(self.start);
        let inside = at.filter(|at| {
            let end = at.checked_add(bytes.len() as u64);
            end.is_some_and(|end| end <= self.len)
        });
        let Some(at) = inside else {
            return Err(SpanError::Range {
                range: format!("{offset} + {} of a piece", bytes.len()),
                group_bytes: self.len,
            });
        };
        if at > self.hashed {
            let known = self.early.get(&at).map_or(0, Vec::len);
            if bytes.len() > known {
                self.early.insert(at, bytes.to_vec());
            }
            return Ok(());
        }
        self.hash(at, bytes);
        while let Some(early) = self.early.first_entry()
            && *early.key() <= self.hashed
        {
            let (at, bytes) = early.remove_entry();
            self.hash(at, &bytes);
        }
        Ok(())
    }

    /// Takes what was just received into a span.
    ///
    /// # Errors
    ///
    /// As for [`block`](Self::block), and for [`SpanMut::copy_to`].
    pub fn span<G: GroupHandle>(&mut self, span: &SpanMut<G>) -> Result<(), SpanError> {
        let mut buf = vec![0; span.len().min(BLOCK_BYTES)];
        let mut at = 0;
        while at < span.len() {
            let len = buf.len().min(span.len() - at);
            span.copy_to(at, &mut buf[..len])?;
            self.block(span.range().start + at as u64, &buf[..len])?;
            at += len;
        }
        Ok(())
    }

    /// Bytes of blocks that arrived early and are kept in memory.
    #[must_use]
    pub fn early_bytes(&self) -> usize {
        self.early.values().map(Vec::len).sum()
    }

    /// Bytes hashed so far: all from the start of the piece up to the first gap.
    #[must_use]
    pub fn hashed_bytes(&self) -> u64 {
        self.hashed
    }

    /// The hash, once all has arrived; before that the piece comes back.
    ///
    /// # Errors
    ///
    /// The piece itself, with gaps.
    pub fn finish(self) -> Result<H::Digest, Self> {
        if self.hashed < self.len {
            return Err(self);
        }
        Ok(self.hasher.finish())
    }

    /// Hashes what is new of bytes that begin in, or right behind, what was hashed.
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

    use super::super::group::Group;
    use super::*;

    proptest! {
        /// Blocks of any size in any order, some of them twice, hash as the whole.
        #[test]
        fn any_order_gives_the_same_hash(
            cuts in prop::collection::vec(1usize..700, 1..20),
            order in prop::collection::vec(any::<u32>(), 60),
        ) {
            let len: usize = cuts.iter().sum();
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
            let group = Group::builder("/").padding(len as u64).open().unwrap();
            let pieces = Pieces::new(&group, len as u64).unwrap();
            let mut blocks: Vec<(usize, usize)> = Vec::new();
            let mut at = 0;
            for cut in cuts {
                blocks.push((at, at + cut));
                at += cut;
            }
            for extra in order.iter().take(5) {
                let start = *extra as usize % len;
                blocks.push((start, len.min(start + 300)));
            }
            let mut keys = order.iter().cycle();
            blocks.sort_by_cached_key(|_| *keys.next().unwrap());
            let mut piece = ArrivingPiece::<Sha1>::new(&pieces, 0).unwrap();
            for (start, end) in blocks {
                piece.block(start as u64, &bytes[start..end]).unwrap();
            }
            let mut whole = Sha1::default();
            whole.update(&bytes);
            prop_assert_eq!(piece.early_bytes(), 0);
            prop_assert_eq!(piece.finish().unwrap(), whole.finish());
        }
    }

    #[test]
    fn a_block_outside_the_piece_is_refused_and_a_gap_keeps_the_piece() {
        let group = Group::builder("/").padding(100).open().unwrap();
        let pieces = Pieces::new(&group, 40).unwrap();
        let mut piece = ArrivingPiece::<Sha1>::new(&pieces, 2).unwrap();
        for (offset, len) in [(79, 1), (99, 2), (u64::MAX, 1)] {
            assert!(piece.block(offset, &vec![0; len]).is_err(), "{offset}");
        }
        piece.block(90, &[0; 10]).unwrap();
        let mut piece = piece.finish().unwrap_err();
        assert_eq!((piece.hashed_bytes(), piece.early_bytes()), (0, 10));
        piece.block(80, &[0; 10]).unwrap();
        assert_eq!(piece.finish().unwrap(), pieces.hash(2).unwrap());
    }
}
