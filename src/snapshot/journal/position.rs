//! Position in the journal.

use crate::numbers::JournalNumber;

/// End of the journal at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Sequence number of the last record.
    pub(crate) sequence: u64,
    /// Checksum of the last record.
    pub(crate) chain: u64,
    /// Number of the journal file for later records.
    pub(crate) journal: JournalNumber,
}
