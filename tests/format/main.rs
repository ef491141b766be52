//! The decoders of a store's files, and stores of made-up files, on arbitrary and mutated bytes: the properties of the fuzz
//! targets, on a stable compiler.

#[path = "../../fuzz/properties/directory.rs"]
mod directory_property;
#[expect(unreachable_pub, reason = "it is a part of the library's face, there")]
#[expect(unused_imports, reason = "the format has more than the properties use")]
#[expect(dead_code, reason = "the format has more than the properties use")]
#[path = "../../src/snapshot/format/mod.rs"]
mod format;
#[path = "../../fuzz/properties/journal.rs"]
mod journal_property;
#[path = "../../fuzz/properties/memory_disk.rs"]
mod memory_disk;
#[path = "../../fuzz/properties/metadata.rs"]
mod metadata_property;
#[path = "../../fuzz/properties/store_files.rs"]
mod store_files;
#[path = "../../fuzz/properties/store.rs"]
mod store_property;
#[path = "../support/mod.rs"]
mod support;

mod arbitrary;
