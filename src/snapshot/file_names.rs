//! Names of the files of a store.

use std::fmt;

use super::format::{HeapName, NUMBERS_END};
use crate::numbers::JournalNumber;

/// Logical file of a store: a sequence of part files that is addressed as one byte array. All parts
/// but the last one have the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a backend handles every logical file"
)]
pub enum LogicalFile {
    /// METADATA, then PAYLOAD.
    Heap(HeapName),
    /// Checksum tree of a heap.
    Table(HeapName),
    /// Journal file with this number.
    Journal(JournalNumber),
}

impl fmt::Display for LogicalFile {
    /// Formats the name of the part files without the part number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heap(name) => write!(f, "heap-{name}"),
            Self::Table(name) => write!(f, "table-{name}"),
            Self::Journal(number) => write!(f, "journal-{number}"),
        }
    }
}

impl LogicalFile {
    /// Returns the file name of a part.
    #[must_use]
    pub fn part_name(&self, part: u64) -> String {
        format!("{self}.{part:05}")
    }

    /// Parses the name of a part file. Returns `None` for other files.
    #[must_use]
    pub fn parse_part_name(file_name: &str) -> Option<(Self, u64)> {
        let (stem, part) = file_name.rsplit_once('.')?;
        let number = part.parse().ok()?;
        let array = match stem.split_once('-')? {
            ("heap", name) => Self::Heap(HeapName::parse(name)?),
            ("table", name) => Self::Table(HeapName::parse(name)?),
            ("journal", number) => {
                let number = u64::from_str_radix(number, 16).ok();
                let number = number.filter(|number| *number < NUMBERS_END)?;
                Self::Journal(JournalNumber::new(number)?)
            }
            _ => return None,
        };
        // Accept the canonical spelling only, so that each part has exactly one name.
        (array.part_name(number) == file_name).then_some((array, number))
    }
}
