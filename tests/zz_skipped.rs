//! The last target of `cargo test` (cargo runs targets in the order of their names): lists the
//! skipped tests of this run.

#[path = "support/mod.rs"]
mod support;

use std::env;

use support::need::{Need, is_required};
use support::skips;

/// Set by a caller that has run the loom models itself, as `.ci/run` does.
const LOOM_RAN_VARIABLE: &str = "FLATSPAN_LOOM_RAN";

#[test]
fn skipped_tests_are_listed() {
    loom_models();
    let skipped = skips::take();
    if skipped.is_empty() {
        return skips::say("\nflatspan: nothing was skipped\n");
    }
    let mut text = format!(
        "\nflatspan: {} skipped, because this run lacks\n",
        skipped.len()
    );
    for line in skipped {
        text.extend(["    ", &line, "\n"]);
    }
    text.push_str(
        "FLATSPAN_REQUIRE=loom,uffd,fuse,tools,long turns each of these into a failure\n",
    );
    skips::say(&text);
}

/// The models need a separate build.
fn loom_models() {
    if env::var_os(LOOM_RAN_VARIABLE).is_some() {
        return;
    }
    let how = "RUSTFLAGS='--cfg loom' cargo test --release --lib loom_";
    assert!(
        !is_required(Need::Loom),
        "the loom models are required: run {how}, then this with {LOOM_RAN_VARIABLE}=1"
    );
    skips::record_line(&format!(
        "the loom models: {how} is a run of its own (loom)"
    ));
}
