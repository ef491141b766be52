//! A group of files as one byte array.
//!
//! A [`Group`] consists of entries in a fixed order: files, ranges of files, and padding of virtual
//! zeros. Missing files can be created when they are first written. [`Layout`] maps an offset of
//! the group to an entry. All file access goes through the [mapping cache](crate::mapping_cache).
//!
//! This layer guarantees:
//!
//! - A range that is inverted, overflows or exceeds the group is an error. It is never adjusted.
//! - Paths stay below the root directory of the group unless the caller allows otherwise.
//! - A file is opened, created or mapped on first use only. Empty files are the exception: no write
//!   would create them, so the group creates them when it is opened.
//! - Reading a missing or too short file is an error that names the file. The bytes before it
//!   remain readable, and the offsets after it do not change.
//!
//! Opening, mapping and evicting files is the task of the mapping cache.

// Modules: `group` holds the group, its layout and its file operations. `guard` holds spans, which
// lock and pin a range. `pieces` hashes a group piece by piece. `group` uses neither of the
// others, `guard` uses `group`, and `pieces` uses both.

mod error;
mod group;
mod guard;
#[cfg(feature = "pieces")]
mod pieces;

pub use error::GroupError;
pub use group::{
    Cursor, Entry, EntryHandle, EntryInfo, EntryKind, Extent, Extents, Group, GroupBuilder, Layout,
};
pub use guard::{GroupHandle, Span, SpanMut, ZeroCopySender};
#[cfg(feature = "pieces")]
pub use pieces::{PieceAssembler, PieceHasher, Pieces, Sha1, Sha1Digest, Sha1DigestParseError};

#[cfg(feature = "tokio")]
pub use group::AsyncCursor;
#[cfg(feature = "tokio")]
pub use guard::AsyncSocket;
#[cfg(any(feature = "stream", feature = "http-body"))]
pub use guard::SpanStream;
#[cfg(feature = "bytes")]
pub use guard::{SpanBuf, SpanBufMut};
#[cfg(feature = "rayon")]
pub use pieces::{
    FileReport, FileStatus, HashOptions, HashProgress, PieceHash, PieceState, VerifyReport,
};
