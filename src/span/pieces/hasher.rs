//! Hash functions of pieces, and the digest of SHA-1.

use std::fmt;
use std::str::FromStr;

use sha1::Digest as _;
use thiserror::Error;

/// Hash function that takes a piece block by block.
///
/// ```
/// use flatspan::span::{Group, PieceHasher, Pieces};
///
/// /// Sum of all bytes.
/// #[derive(Default)]
/// struct Sum(u64);
///
/// impl PieceHasher for Sum {
///     type Digest = u64;
///
///     fn update(&mut self, bytes: &[u8]) {
///         self.0 += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
///     }
///
///     fn finish(self) -> u64 {
///         self.0
///     }
/// }
///
/// let group = Group::builder("/").padding(100).open()?;
/// assert_eq!(Pieces::new(&group, 10)?.hash_with::<Sum>(0)?, 0);
/// # Ok::<(), flatspan::span::GroupError>(())
/// ```
pub trait PieceHasher: Default {
    /// Result of the hash function.
    type Digest: Copy + Eq + Send;

    /// Hashes the next bytes.
    fn update(&mut self, bytes: &[u8]);

    /// Returns the hash of all bytes.
    fn finish(self) -> Self::Digest;
}

/// Digest of SHA-1 (FIPS 180-4), displayed and parsed as 40 hexadecimal digits.
///
/// ```
/// use flatspan::span::Sha1Digest;
///
/// let digest: Sha1Digest = "a9993e364706816aba3e25717850c26c9cd0d89d".parse()?;
/// assert_eq!(digest.as_bytes()[..2], [0xa9, 0x99]);
/// assert_eq!(digest.to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
/// # Ok::<(), flatspan::span::Sha1DigestParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha1Digest([u8; 20]);

impl Sha1Digest {
    /// Creates a digest from its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

/// Text that is not a SHA-1 digest: other than 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a SHA-1 digest has 40 hexadecimal digits")]
#[non_exhaustive]
pub struct Sha1DigestParseError;

impl fmt::Display for Sha1Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Sha1Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1Digest({self})")
    }
}

impl FromStr for Sha1Digest {
    type Err = Sha1DigestParseError;

    fn from_str(text: &str) -> Result<Self, Sha1DigestParseError> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(Sha1DigestParseError);
        };
        if pairs.len() != 20 {
            return Err(Sha1DigestParseError);
        }
        let mut bytes = [0; 20];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                return Err(Sha1DigestParseError);
            };
            // Lossless: both digits are less than 16.
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self(bytes))
    }
}

impl AsRef<[u8]> for Sha1Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 20]> for Sha1Digest {
    fn from(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }
}

impl From<Sha1Digest> for [u8; 20] {
    fn from(digest: Sha1Digest) -> Self {
        digest.0
    }
}

/// SHA-1 (FIPS 180-4) by the crate `sha1`, which uses the SHA instructions of the CPU if it has
/// them.
#[derive(Clone, Debug, Default)]
pub struct Sha1(sha1::Sha1);

impl PieceHasher for Sha1 {
    type Digest = Sha1Digest;

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Sha1Digest {
        Sha1Digest(self.0.finalize().into())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_parsed_as_it_is_displayed() {
        let bytes: [u8; 20] = std::array::from_fn(|index| index as u8 * 13);
        let digest = Sha1Digest::from(bytes);
        let text = digest.to_string();
        assert_eq!(text.len(), 40);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
        assert_eq!(<[u8; 20]>::from(digest), bytes);
        assert_eq!(digest.as_ref(), bytes);
    }

    #[test]
    fn text_other_than_40_hexadecimal_digits_is_no_digest() {
        let forty = "a9993e364706816aba3e25717850c26c9cd0d89d";
        for text in ["", "a9", &forty[1..], &forty[2..], &forty.replace('e', "g")] {
            assert_eq!(
                text.parse::<Sha1Digest>(),
                Err(Sha1DigestParseError),
                "{text}"
            );
        }
        assert!(format!("{forty}00").parse::<Sha1Digest>().is_err());
        assert!("+a".repeat(20).parse::<Sha1Digest>().is_err());
    }
}
