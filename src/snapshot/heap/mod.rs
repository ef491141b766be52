//! NVHeaps: headers, pages, checksum trees and the selection of the newest complete heap.

mod checksum_tree;
mod headers;
mod heap_io;
mod heap_selection;
mod stale_pages;

pub(crate) use checksum_tree::ChecksumTree;
pub(crate) use headers::{HeapHeaders, open_read_only, read_headers, stored_part_bytes};
pub(crate) use heap_io::{
    must_be_whole, offset_of, read_image, read_pages, remove_if_broken, rewrite_metadata, sync,
    write_metadata,
};
#[cfg(all(test, not(loom)))]
pub(crate) use heap_io::{read_copies, state};
pub(crate) use heap_selection::choose_heap;
pub use heap_selection::{HeapSelection, HeapState};
pub(crate) use stale_pages::StalePages;
