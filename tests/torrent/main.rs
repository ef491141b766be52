//! The torrent example: its pure parts included as modules, and the program as a whole.

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
#[path = "../../src/bin/common/parse_size.rs"]
mod parse_size;
#[path = "../../examples/torrent/paths.rs"]
mod paths;
#[path = "../../examples/torrent/piece_length.rs"]
mod piece_length;
#[path = "../../fuzz/properties/bencode.rs"]
mod property;
#[path = "../../examples/torrent/reading.rs"]
mod reading;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../examples/torrent/tracker.rs"]
mod tracker;

mod bytes;
mod corpus;
mod creating;
mod foreign;
mod hostile;
mod interrupting;
mod lengths;
mod lenient;
mod messages;
mod program;
mod reading_bencode;
mod reading_metainfo;
mod refused;
mod verifying;
