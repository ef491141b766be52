//! Fuzz target: stores on arbitrary files. METADATA, checksum tree and journal are wrong, with
//! correct checksums.
#![no_main]

#[path = "../properties/memory_backend.rs"]
mod memory_backend;
#[path = "../properties/store.rs"]
mod property;
#[path = "../properties/store_files.rs"]
mod store_files;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    property::check(data);
});
