//! Kills of the process that has a store open, at two sizes.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flatspan::snapshot::{HeapState, StoreReader};

use super::Size;
use super::content::Hashing;
use super::process::Process;
use crate::fixture::{expect, program};
use crate::support;
use crate::support::need::{Need, need};

const SIGKILL: i32 = 9;
/// A checkpoint may end before the kill arrives; of this many attempts, one kill must be in time.
const ATTEMPTS: usize = 20;

#[test]
fn a_store_survives_kills_during_and_after_checkpoints() {
    survives_kills(Size {
        bytes: 64 << 20,
        part_bytes: 4 << 20,
        timeout: Duration::from_secs(60),
    });
}

#[test]
fn a_store_of_six_gibibytes_survives_kills_during_and_after_checkpoints() {
    if !need(Need::Long, "minutes, 7 GiB of memory, 13 GiB of disk") {
        return;
    }
    survives_kills(Size {
        bytes: 6 << 30,
        part_bytes: 256 << 20,
        timeout: Duration::from_secs(900),
    });
}

fn survives_kills(size: Size) {
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    // A delta checkpoint follows the committed heap when a base checkpoint is interrupted.
    let mut writer = Process::start(&store, size, "copy", "bdbd");
    let mut acknowledged = round_in(writer.until("done 4").last(), "done");
    drop_killed(writer);
    check(&store, size, acknowledged..=acknowledged);

    let mut killed = false;
    for _ in 0..ATTEMPTS {
        writer = Process::start(&store, size, "copy", &"b".repeat(50));
        let (begun, done) = kill_during_base(writer, &store, acknowledged, size);
        acknowledged = done;
        killed = has_incomplete_heap(&store);
        if killed {
            check(&store, size, done..=begun);
            break;
        }
    }
    assert!(killed, "every checkpoint had ended when the kill arrived");

    let writer = Process::start(&store, size, "map", "db");
    let lines = writer.until("ready");
    let done = lines.iter().rev().find(|line| line.starts_with("done"));
    let done = round_in(done, "done");
    drop_killed(writer);
    assert!(!has_incomplete_heap(&store));
    check(&store, size, done..=done);
}

fn drop_killed(process: Process) {
    let (status, _) = process.kill();
    assert_eq!(status.signal(), Some(SIGKILL), "{status}");
}

/// Kills the process when a heap is incomplete. Returns the last round that was begun and the last
/// one that was done.
fn kill_during_base(process: Process, store: &Path, done: u64, size: Size) -> (u64, u64) {
    let deadline = Instant::now() + size.timeout;
    let (mut begun, mut done) = (done, done);
    let mut handle = |line: &String| match line.split(' ').next() {
        Some("begun") => begun = round_in(Some(line), "begun"),
        Some("done") => done = round_in(Some(line), "done"),
        _ => {}
    };
    handle(&process.line());
    handle(&process.line());
    while !has_incomplete_heap(store) {
        assert!(Instant::now() < deadline, "no checkpoint starts");
        process.line_at_once().iter().for_each(&mut handle);
    }
    let (status, rest) = process.kill();
    assert_eq!(status.signal(), Some(SIGKILL), "{status}");
    rest.iter().for_each(&mut handle);
    println!("    killed during round {begun}");
    (begun, done)
}

fn round_in(line: Option<&String>, word: &str) -> u64 {
    let mut words = line.expect("a line").split(' ');
    assert_eq!(words.next(), Some(word));
    words
        .next()
        .and_then(|round| round.parse().ok())
        .expect("a round")
}

/// Returns whether a heap is incomplete; `false` if a header is being written.
fn has_incomplete_heap(store: &Path) -> bool {
    let reader = StoreReader::open(store);
    let info = reader.and_then(|reader| reader.inspect());
    info.is_ok_and(|info| {
        let mut heaps = info.heaps.iter();
        heaps.any(|heap| matches!(heap.state, HeapState::Incomplete(_)))
    })
}

/// Verifies the store, and checks that export, restore by copy and restore by map return the same.
fn check(store: &Path, size: Size, rounds: std::ops::RangeInclusive<u64>) {
    let begun = Instant::now();
    expect(0, "verify", &[store]);
    println!("    verify {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let exported = hash_of_export(store, size.bytes);
    println!("    export {:.1} s", begun.elapsed().as_secs_f64());
    for restore in ["copy", "map"] {
        let process = Process::start(store, size, restore, "compare");
        let lines = process.until("ready");
        let holds = lines.iter().find(|line| line.starts_with("holds"));
        assert!(
            rounds.contains(&round_in(holds, "holds")),
            "{rounds:?}: {lines:?}"
        );
        let hash = holds.and_then(|line| line.split(' ').nth(2));
        assert_eq!(hash, Some(exported.as_str()), "restored by {restore}");
        let status = process.end();
        assert!(status.success(), "{status}");
    }
}

/// Hash of the output of `flatspan export` to a pipe.
fn hash_of_export(store: &Path, bytes: u64) -> String {
    let mut child = export(store).spawn().expect("the program starts");
    let mut out = child.stdout.take().expect("piped");
    let mut hash = Hashing::default();
    let exported = std::io::copy(&mut out, &mut hash);
    let status = child.wait().expect("a child");
    assert!(status.success(), "{status}");
    assert_eq!(exported.expect("a pipe"), bytes);
    hash.finish()
}

fn export(store: &Path) -> Command {
    let mut command = program();
    let args = [Path::new("export"), store, Path::new("-")];
    command.args(args).stdout(Stdio::piped());
    command
}
