//! Where the records of an image end in each journal file.

use std::collections::BTreeMap;

use crate::numbers::JournalNumber;
use crate::snapshot::journal::Record;
use crate::snapshot::journal::record_bytes;

/// End of the records of an image, by the number of the journal file.
#[derive(Clone, Debug, Default)]
pub(super) struct JournalEnds(BTreeMap<JournalNumber, u64>);

impl JournalEnds {
    pub(super) fn add(&mut self, record: &Record<'_>) {
        let end = record.offset + record_bytes(&record.header);
        self.0.insert(record.journal, end);
    }

    /// Number and end of each file, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JournalNumber, u64)> {
        self.0.iter().map(|(number, end)| (*number, *end))
    }
}
