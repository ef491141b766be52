//! Pieces: fixed-length parts of a group that are hashed as one.

mod hash_batch;
mod hash_in_place;
#[cfg(feature = "rayon")]
mod hash_run;
mod hasher;
mod mapped_bytes;
mod piece_assembler;
mod pieces;
#[cfg(feature = "rayon")]
mod read_ahead;
mod sha1_simd;
#[cfg(feature = "rayon")]
mod verify;

#[cfg(feature = "rayon")]
pub use hash_run::{HashOptions, HashProgress, PieceHash};
pub use hasher::{PieceHasher, Sha1, Sha1Digest, Sha1DigestParseError};
pub use piece_assembler::PieceAssembler;
pub use pieces::Pieces;
#[cfg(feature = "rayon")]
pub use verify::{FileReport, FileStatus, PieceState, VerifyReport};
