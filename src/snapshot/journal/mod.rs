//! Journal of a store: the writer of an open store, and the replay when it is opened.

mod journal_replay;
#[cfg(all(test, not(loom)))]
mod journal_rollback_tests;
mod journal_writer;
mod position;

pub use journal_replay::IgnoredTail;
pub(crate) use journal_replay::{
    Record, Replayed, Start, numbers, open_file, record_at, record_bytes, records, replay,
};
pub(crate) use journal_writer::{Journal, JournalStart};
pub(crate) use position::Position;
