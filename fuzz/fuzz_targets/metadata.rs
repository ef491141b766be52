//! Arbitrary blocks as METADATA and as headers of journal files.
#![no_main]

#[expect(dead_code, reason = "the format has more than the property uses")]
#[expect(unused_imports, reason = "the format has more than the property uses")]
#[path = "../../src/snapshot/format/mod.rs"]
mod format;
#[path = "../properties/metadata.rs"]
mod property;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    property::check(data);
});
