//! The format of a store: bytes in, facts out, and back. No I/O (docs/file-format.md).

mod journal;
mod metadata;
mod pages;
mod tree;

pub(crate) use journal::{
    Body, Change, JournalHeader, RECORD_HEADER_BYTES, RECORD_MAGIC, RECORDS_AT, RecordHeader,
    RecordKind,
};
#[cfg(all(test, not(loom)))]
pub(crate) use metadata::tests;
pub(crate) use metadata::{Copies, HALF_BYTES, METADATA_BYTES, is_part_length};
pub use metadata::{Defect, Metadata};
pub use pages::{HeapName, StoreId};
pub(crate) use pages::{NUMBERS_END, PAGE_BYTES, hash_page, is_zero};
pub(crate) use tree::{BlockId, FAN, PAGES_MAX, ROOT};
