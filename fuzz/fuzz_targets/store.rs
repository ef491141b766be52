//! Stores on arbitrary files: METADATA, checksum tree and journal, wrong under good checksums.
#![no_main]

#[path = "../properties/memory_disk.rs"]
mod memory_disk;
#[path = "../properties/store.rs"]
mod property;
#[path = "../properties/store_files.rs"]
mod store_files;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    property::check(data);
});
