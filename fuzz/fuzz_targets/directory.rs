//! A directory of arbitrary files, through the reader of stores.
#![no_main]

#[path = "../properties/directory.rs"]
mod property;
#[expect(dead_code, reason = "stores ask more of the files than readers do")]
#[path = "../properties/store_files.rs"]
mod store_files;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let name = format!("flatspan-fuzz-{}", std::process::id());
    property::check(&std::env::temp_dir().join(name), data);
});
