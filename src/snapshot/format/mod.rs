//! Encoding and decoding of all files of a store, without I/O (docs/file-format.md).

mod ids_and_hashes;
mod journal;
mod metadata;
mod tree_layout;

pub use ids_and_hashes::{HeapName, StoreId};
pub(crate) use ids_and_hashes::{NUMBERS_END, PAGE_BYTES, hash_page, is_zero};
pub use journal::RecordKind;
pub(crate) use journal::{
    Body, Change, JournalHeader, RECORD_HEADER_BYTES, RECORD_MAGIC, RECORDS_AT, RecordHeader,
};
#[cfg(all(test, not(loom)))]
pub(crate) use metadata::tests;
pub(crate) use metadata::{Copies, HALF_BYTES, METADATA_BYTES, is_part_length};
pub use metadata::{HeaderError, Metadata};
pub(crate) use tree_layout::{BlockId, FAN, PAGES_MAX, ROOT};
