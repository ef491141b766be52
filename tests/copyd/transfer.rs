//! Large transfers by peers that are killed repeatedly.

use std::env;

use crate::program::{Files, Server, expect};
use crate::support;

/// Sets the amount of transferred data; the budget grows with it.
const BYTES_VARIABLE: &str = "FLATSPAN_COPYD_BYTES";
const BYTES: u64 = 64 << 20;
const BYTES_PER_BUDGET_MIB: u64 = 16 << 20;
const BUDGET_MIB_MAX: u64 = 32;
/// A prime number, so that blocks cross files and pages.
const FILES: u64 = 13;
const PEERS: u64 = 8;
const KILLS: u64 = 40;
const SEED: &str = "7";

#[test]
fn blocks_of_killed_peers_are_stored_within_the_budget() {
    let bytes = env::var(BYTES_VARIABLE).map_or(BYTES, |text| text.parse().expect("bytes"));
    let budget_mib = (bytes / BYTES_PER_BUDGET_MIB).clamp(4, BUDGET_MIB_MAX);
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: bytes.div_ceil(FILES),
        count: FILES,
    };
    let budget = format!("{budget_mib}M");
    let server = Server::start(&files, &["--receive", "--budget", &budget]);

    let (total, peers, kills) = (
        files.len().to_string(),
        PEERS.to_string(),
        KILLS.to_string(),
    );
    let mut args = vec!["load", "--json", &server.address, "--bytes", &total];
    args.extend(["--peers", &peers, "--kills", &kills, "--seed", SEED]);
    let load = expect(0, &args);
    let blocks = files.len().div_ceil(16 << 10);
    assert_eq!(load["kills"], KILLS, "{load}");
    assert_eq!(load["puts"], blocks, "{load}");
    assert_eq!(load["gets"], blocks, "{load}");
    assert_eq!(load["mismatched"], 0, "{load}");

    let peak_rss = server.peak_rss();
    let stats = server.end();
    println!("load: {load}\nserver: {stats}\nits peak of resident memory: {peak_rss} bytes");
    let number = |name: &str| stats[name].as_u64().expect(name);
    // A block touches at most two windows.
    let pinned_max = PEERS * 2 * number("window_bytes");
    assert_eq!(number("budget_bytes"), budget_mib << 20);
    assert!(number("mapped_bytes_max") <= number("budget_bytes") + pinned_max);
    assert!(number("evictions") > 0, "no window was evicted");
    assert_eq!(number("pinned_mappings"), 0);
    // Requests that were not acknowledged to killed peers may have been executed.
    assert!(number("puts") >= blocks && number("gets") >= blocks);
    assert_eq!(number("refused"), load["busy"].as_u64().expect("busy"));

    let check = files.check(0, SEED);
    assert_eq!(check["ok"], check["pieces"], "{check}");
    assert_eq!(check["total_bytes"], files.len());
}

#[test]
fn check_reports_pieces_with_wrong_content() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 300_001,
        count: 3,
    };
    let server = Server::start(&files, &["--receive"]);
    let total = files.len().to_string();
    let load = |code, seed: &str| {
        let mut args = vec!["load", "--json", &server.address, "--bytes", &total];
        args.extend(["--peers", "2", "--seed", seed]);
        expect(code, &args)
    };
    load(0, "1");
    files.check(0, "1");
    // A byte of the third piece of 256 KiB.
    let (_, byte) = server.connect().get(600_000, 1);
    server.connect().put(600_000, &[!byte[0]]);
    let check = files.check(1, "1");
    assert_eq!(check["mismatched"], serde_json::json!([2]), "{check}");
    assert_eq!(check["ok"], 3, "{check}");
    std::fs::remove_file(directory.path().join("000002")).expect("a file");
    let check = files.check(1, "1");
    // The third piece is in two files, the last one only in the missing file.
    assert_eq!(check["unreadable"][0]["piece"], 2, "{check}");
    assert_eq!(check["unreadable"][1]["piece"], 3, "{check}");
    assert_eq!(check["ok"], 2, "{check}");
}
