//! Fuzz target: arbitrary bytes as bencode and as a torrent.
#![no_main]
#![expect(
    dead_code,
    reason = "the example's modules have more than the property uses"
)]

#[path = "../../examples/torrent/bencode.rs"]
mod bencode;
#[path = "../../examples/torrent/bencode_writer.rs"]
mod bencode_writer;
#[path = "../../examples/torrent/fields.rs"]
mod fields;
#[path = "../../examples/torrent/file_list.rs"]
mod file_list;
#[path = "../../examples/torrent/file_tree.rs"]
mod file_tree;
#[path = "../../examples/torrent/findings.rs"]
mod findings;
#[path = "../../examples/torrent/metainfo.rs"]
mod metainfo;
#[path = "../../examples/torrent/metainfo_error.rs"]
mod metainfo_error;
#[path = "../../examples/torrent/metainfo_writer.rs"]
mod metainfo_writer;
#[path = "../../examples/torrent/paths.rs"]
mod paths;
#[path = "../properties/bencode.rs"]
mod property;
#[path = "../../examples/torrent/reading.rs"]
mod reading;
#[path = "../../examples/torrent/tracker.rs"]
mod tracker;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| property::check(data));
