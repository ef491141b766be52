//! The hash of a piece, behind a small trait.

use sha1::Digest as _;

/// A hash that takes a piece block by block.
pub trait PieceHasher: Default {
    /// What comes out.
    type Digest: Copy + Eq + Send;

    /// Takes the next bytes.
    fn update(&mut self, bytes: &[u8]);

    /// The hash of all bytes taken.
    fn finish(self) -> Self::Digest;
}

/// A SHA-1 hash, as in BEP 3.
pub type Sha1Digest = [u8; 20];

/// SHA-1 (FIPS 180-4) of the `sha1` crate, which uses the CPU's instructions where there are any.
#[derive(Clone, Debug, Default)]
pub struct Sha1(sha1::Sha1);

impl PieceHasher for Sha1 {
    type Digest = Sha1Digest;

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Sha1Digest {
        self.0.finalize().into()
    }
}
