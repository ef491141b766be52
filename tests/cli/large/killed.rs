//! A store whose process is killed, at two sizes.

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
/// A checkpoint that ends before the kill arrives is no failure, but one of so many must not.
const ATTEMPTS: usize = 20;

#[test]
fn a_store_outlives_kills_amid_and_behind_checkpoints() {
    outlives_kills(Size {
        bytes: 64 << 20,
        part_bytes: 4 << 20,
        patience: Duration::from_secs(60),
    });
}

#[test]
fn a_store_of_six_gibibytes_outlives_kills_amid_and_behind_checkpoints() {
    if !need(Need::Long, "minutes, 7 GiB of memory, 13 GiB of disk") {
        return;
    }
    outlives_kills(Size {
        bytes: 6 << 30,
        part_bytes: 256 << 20,
        patience: Duration::from_secs(900),
    });
}

fn outlives_kills(size: Size) {
    let folder = support::temp_dir();
    let store = folder.path().join("store");
    // A delta lies over the newer heap when a base is cut off.
    let mut writer = Process::start(&store, size, "copy", "bdbd");
    let mut acknowledged = round_in(writer.until("done 4").last(), "done");
    drop_killed(writer);
    check(&store, size, acknowledged..=acknowledged);

    let mut killed = false;
    for _ in 0..ATTEMPTS {
        writer = Process::start(&store, size, "copy", &"b".repeat(50));
        let (begun, done) = kill_amid_a_base(writer, &store, acknowledged, size);
        acknowledged = done;
        killed = has_taken_heap(&store);
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
    assert!(!has_taken_heap(&store));
    check(&store, size, done..=done);
}

fn drop_killed(process: Process) {
    let (status, _) = process.kill();
    assert_eq!(status.signal(), Some(SIGKILL), "{status}");
}

/// Kills it when the headers say that a heap is being written; the last round that was begun, and the last that was done.
fn kill_amid_a_base(process: Process, store: &Path, done: u64, size: Size) -> (u64, u64) {
    let deadline = Instant::now() + size.patience;
    let (mut begun, mut done) = (done, done);
    let mut hear = |line: &String| match line.split(' ').next() {
        Some("begun") => begun = round_in(Some(line), "begun"),
        Some("done") => done = round_in(Some(line), "done"),
        _ => {}
    };
    hear(&process.line());
    hear(&process.line());
    while !has_taken_heap(store) {
        assert!(Instant::now() < deadline, "no checkpoint is seen");
        process.line_at_once().iter().for_each(&mut hear);
    }
    let (status, rest) = process.kill();
    assert_eq!(status.signal(), Some(SIGKILL), "{status}");
    rest.iter().for_each(&mut hear);
    println!("    killed amid round {begun}");
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

/// Headers may be seen half written.
fn has_taken_heap(store: &Path) -> bool {
    let reader = StoreReader::open(store);
    let survey = reader.and_then(|reader| reader.survey());
    survey.is_ok_and(|survey| {
        let mut heaps = survey.heaps.iter();
        heaps.any(|heap| matches!(heap.state, HeapState::Taken(_)))
    })
}

/// What is on disk is good, and the same by every door: exported, restored by copy, by map.
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

/// Of what `flatspan export` sends into a pipe.
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
