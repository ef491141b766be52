//! A group of files as one byte array.
//!
//! A [`Group`] is files in order, seen as one array of bytes: existing files, files to be created when
//! they are first written, ranges of files, virtual zeros. [`Layout`] says which bytes are where;
//! everything else asks the files of the [mapping cache](crate::mapping_cache).
//!
//! The rules this layer keeps:
//!
//! - A range that is inverted, overflows or leaves the group is an error, never another range.
//! - Paths stay beneath the group's root unless the caller allows otherwise.
//! - Nothing is opened, created or mapped before it is needed, except empty files, which nobody would
//!   ever write.
//! - Reading where a file is missing or too short is an error that names it; the bytes before can be
//!   read, and nothing behind it shifts.
//!
//! What it does not know: how a file is opened, mapped or kept within a budget.

mod arriving;
#[cfg(feature = "bytes")]
mod as_bytes;
mod batch;
mod builder;
mod clone;
mod copy_claims;
mod cursor;
mod entry;
mod error;
mod group;
mod guard;
mod hasher;
mod layout;
mod mapped_bytes;
#[cfg(feature = "tokio")]
mod on_tokio;
mod parts;
mod pieces;
mod positioned;
#[cfg(feature = "rayon")]
mod read_ahead;
mod reshape;
#[cfg(feature = "rayon")]
mod run;
mod sha1_lanes;
mod storage;
mod transfer;
mod upkeep;
#[cfg(feature = "rayon")]
mod verify;
mod zerocopy;

pub use arriving::ArrivingPiece;
#[cfg(feature = "bytes")]
pub use as_bytes::{SpanBuf, SpanBufMut};
pub use builder::GroupBuilder;
pub use cursor::Cursor;
pub use entry::{EntryInfo, EntryKind};
pub use error::SpanError;
pub use group::Group;
pub use guard::{Span, SpanMut};
pub use hasher::{PieceHasher, Sha1, Sha1Digest};
pub use layout::{Extent, Extents, Layout};
#[cfg(feature = "tokio")]
pub use on_tokio::AsyncSocket;
pub use parts::GroupHandle;
pub use pieces::Pieces;
#[cfg(feature = "rayon")]
pub use run::{HashRun, PieceOutcome, Progress};
#[cfg(feature = "rayon")]
pub use verify::{FileReport, FileStatus, PieceState, Verification};
pub use zerocopy::ZeroCopySender;
