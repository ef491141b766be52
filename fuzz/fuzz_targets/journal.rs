//! Fuzz target: arbitrary bytes as journal records.
#![no_main]

#[expect(dead_code, reason = "the property uses a part of the format")]
#[expect(unused_imports, reason = "the property uses a part of the format")]
#[path = "../../src/snapshot/format/mod.rs"]
mod format;
#[expect(dead_code, reason = "the format uses a part of the numbers")]
#[path = "../../src/numbers.rs"]
mod numbers;
#[path = "../properties/journal.rs"]
mod property;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    property::check(data);
});
