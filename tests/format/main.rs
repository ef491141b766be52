//! Decoders of a store's files, and generated stores, on arbitrary and mutated bytes: the
//! properties of the fuzz targets, on a stable compiler.
#![allow(
    unfulfilled_lint_expectations,
    reason = "the format is public in the library and private in this target"
)]

#[path = "../../fuzz/properties/directory.rs"]
mod directory_property;
#[expect(
    unreachable_pub,
    reason = "public items of the library, included as a module"
)]
#[expect(unused_imports, reason = "the properties use a part of the format")]
#[expect(dead_code, reason = "the properties use a part of the format")]
#[path = "../../src/snapshot/format/mod.rs"]
mod format;
#[path = "../../fuzz/properties/journal.rs"]
mod journal_property;
#[path = "../../fuzz/properties/memory_backend.rs"]
mod memory_backend;
#[path = "../../fuzz/properties/metadata.rs"]
mod metadata_property;
#[expect(
    unreachable_pub,
    reason = "public items of the library, included as a module"
)]
#[expect(dead_code, reason = "the format uses a part of the numbers")]
#[path = "../../src/numbers.rs"]
mod numbers;
#[path = "../../fuzz/properties/store_files.rs"]
mod store_files;
#[path = "../../fuzz/properties/store.rs"]
mod store_property;
#[path = "../support/mod.rs"]
mod support;

mod arbitrary;
