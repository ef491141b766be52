//! Fuzz target: a layout of arbitrary lengths, and arbitrary ranges.
#![no_main]

#[path = "../properties/layout.rs"]
mod property;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| property::check(data));
