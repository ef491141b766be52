//! Fuzz target: the store reader on a directory of arbitrary files.
#![no_main]

#[path = "../properties/directory.rs"]
mod property;
#[expect(dead_code, reason = "the property of stores uses more of the module")]
#[path = "../properties/store_files.rs"]
mod store_files;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let name = format!("flatspan-fuzz-{}", std::process::id());
    property::check(&std::env::temp_dir().join(name), data);
});
