//! `shm-restore` in freeze mode: point-in-time snapshots of an unmodified program.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flatspan::shm::Memfd;
use flatspan::snapshot::StoreReader;
use rustix::process::{Pid, Signal, kill_process};

use crate::client;
use crate::inherited_fds::{InheritedFds, TIMEOUT, path_of};
use crate::manager::Killed;
use crate::states::{
    GROWN_PAGES, PUBLISHED_PAGES, directory, newest, number_of_row, shell, shm_restore, word,
};

const FREEZE: [&str; 3] = ["--mode=freeze", "--interval", "0.02"];

pub(crate) fn generation(store: &Path) -> u64 {
    let reader = StoreReader::open(store).and_then(|reader| reader.newest());
    reader.map_or(0, |image| image.generation().get())
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < end, "the condition is not met: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn start(command: &mut Command) -> Killed {
    Killed(
        command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts"),
    )
}

/// Kills a process and all of its descendants, as simultaneously as possible.
pub(crate) fn kill_tree(host: &mut Child) {
    let mut tree = descendants(host.id());
    tree.insert(0, host.id());
    for pid in tree {
        let pid = Pid::from_raw(pid.cast_signed()).expect("a number");
        // The process may be gone.
        kill_process(pid, Signal::KILL).ok();
    }
    host.wait().expect("the program ends");
}

pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let listed = Command::new("ps")
            .args(["-o", "pid=", "--ppid"])
            .arg(found[at].to_string())
            .output();
        let listed = String::from_utf8(listed.expect("ps").stdout).expect("numbers");
        found.extend(
            listed
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
        at += 1;
    }
    found.split_off(1)
}

/// Three writers: the command, a child in a session of its own, and an orphan in another one.
#[test]
fn i27_a_snapshot_is_one_point_in_time_of_all_descendants() {
    let directory = directory();
    let (store, run) = (directory.path().join("store"), directory.path().join("run"));
    fs::write(&run, "").expect("a file");
    let rows = |row| client::words(&format!("rows {row} {}", run.display()));
    let script = format!("setsid {} & (setsid {} &) ; {}", rows(1), rows(2), rows(0));
    let mut host = start(&mut shell(&FREEZE, &store, &script));
    let mut seen = [0; 3];
    let mut before = 0;
    for _ in 0..30 {
        wait_until("the next generation", || generation(&store) > before);
        before = generation(&store);
        let state = newest(&store);
        for (row, seen) in seen.iter_mut().enumerate() {
            if state.len() >= (row + 1) * crate::states::ROW_PAGES * 4096 {
                let number = number_of_row(&state, row);
                assert!(number >= *seen, "{number} after {seen}");
                *seen = number;
            }
        }
    }
    assert!(
        seen.iter().all(|seen| *seen > 0),
        "all three write: {seen:?}"
    );
    fs::remove_file(&run).expect("the process ends");
    assert!(host.0.wait().expect("the program ends").success());
}

/// Also for the last snapshot of a command that was not stopped before: a process that outlives it
/// still writes.
#[test]
fn i27_the_final_snapshot_is_one_point_in_time_of_remaining_processes() {
    let directory = directory();
    let (run, go) = (directory.path().join("run"), directory.path().join("go"));
    for (round, how) in ["exit", "exit", "exit", "freeze"].iter().enumerate() {
        let store = directory.path().join(format!("store-{round}"));
        fs::write(&run, "").expect("a file");
        fs::write(&go, "").expect("a file");
        let memory = Memfd::create("watched", 0).expect("a memfd");
        memory.seal_restored().expect("a seal");
        let mut command = InheritedFds::files([path_of(&memory)])
            .named("SHM_SHARED_FD")
            .command(env!("CARGO_BIN_EXE_shm-restore"));
        let script = format!(
            "setsid {} & while [ -e {} ]; do sleep 0.02; done",
            client::words(&format!("rows 0 {}", run.display())),
            go.display()
        );
        command
            .args(["--json", "--interval=1000", "--mode", how])
            .arg(&store)
            .args(["sh", "-c", &script]);
        // The remaining processes have the output open too.
        let events = directory.path().join("events");
        command.stderr(fs::File::create(&events).expect("a file"));
        let mut host = Killed(command.spawn().expect("the program starts"));
        wait_until("the writer works", || {
            let map = memory.map(0..8);
            map.is_ok_and(|map| map.load(0).is_some_and(|number| number > 1000))
        });
        fs::remove_file(&go).expect("the process ends");
        assert!(host.0.wait().expect("the program ends").success());
        let number = number_of_row(&newest(&store), 0);
        fs::remove_file(&run).expect("the process ends");
        assert!(number > 1000, "{number}");
        let events = fs::read_to_string(&events).expect("the messages of the service");
        let place = |event: &str| events.find(&format!(r#""event":"{event}""#));
        let (remaining, snapshot) = (place("processes_remaining"), place("snapshot"));
        assert!(
            remaining.is_some() && remaining < snapshot,
            "wrong order: {events}"
        );
    }
}

/// Also covers a former tool that considered only the memory that existed at the start.
#[test]
fn a_memfd_that_grows_during_snapshots_is_saved() {
    let directory = directory();
    let store = directory.path().join("store");
    let mut host = start(&mut shell(&FREEZE, &store, &client::words("grow")));
    let mut lengths = Vec::new();
    while host.0.try_wait().expect("its status").is_none() {
        if let Ok(image) = StoreReader::open(&store).and_then(|reader| reader.newest()) {
            lengths.push(image.len());
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(host.0.wait().expect("the program ends").success());
    let state = newest(&store);
    assert_eq!(state.len() as u64, GROWN_PAGES * 4096);
    for page in 0..GROWN_PAGES {
        assert_eq!(word(&state, page as usize), page + 1);
    }
    lengths.dedup();
    assert!(
        lengths.len() > 2,
        "snapshots have different lengths: {lengths:?}"
    );
}

/// A process that sees the length also sees all content below it.
#[test]
fn i27_a_snapshot_has_the_length_of_its_point_in_time() {
    let directory = directory();
    let store = directory.path().join("store");
    let mut host = start(&mut shell(&FREEZE, &store, &client::words("publish")));
    let mut lengths = Vec::new();
    let mut check = || {
        let state = newest(&store);
        let pages = state.len() as u64 / 4096;
        let said = if pages > 0 { word(&state, 0) } else { 0 };
        // A page exists first, and is counted afterwards.
        let is_reported = said == pages || said + 1 == pages || (said == 0 && pages <= 2);
        assert!(is_reported, "{said} pages were reported, but {pages} exist");
        if said > 1 {
            assert_eq!(word(&state, said as usize - 1), said);
        }
        lengths.push(pages);
    };
    while host.0.try_wait().expect("its status").is_none() {
        if generation(&store) > 0 {
            check();
        }
    }
    check();
    assert!(host.0.wait().expect("the program ends").success());
    lengths.dedup();
    assert_eq!(lengths.last(), Some(&PUBLISHED_PAGES));
    assert!(lengths.len() > 5, "snapshots while it grew: {lengths:?}");
}

#[test]
fn after_a_kill_of_the_whole_tree_the_last_snapshot_is_restored() {
    let directory = directory();
    let (store, run) = (directory.path().join("store"), directory.path().join("run"));
    fs::write(&run, "").expect("a file");
    let script = client::words(&format!("rows 0 {}", run.display()));
    let mut last = 0;
    for _ in 0..3 {
        let mut host = start(&mut shell(&FREEZE, &store, &script));
        let before = generation(&store);
        wait_until("three snapshots", || generation(&store) > before + 3);
        kill_tree(&mut host.0);
        let number = number_of_row(&newest(&store), 0);
        assert!(number > last, "{number} after {last}");
        last = number;
    }
}

#[test]
fn a_queue_client_continues_from_the_durable_generation() {
    let directory = directory();
    let (store, run) = (directory.path().join("store"), directory.path().join("run"));
    let queue = ["--mode=queue", "--interval", "0.02"];
    let script = client::words(&format!("commit {}", run.display()));
    let said = || fs::read_to_string(run.with_extension("said")).unwrap_or_default();
    let mut last = 0;
    for _ in 0..3 {
        fs::write(&run, "").expect("a file");
        let mut host = start(&mut shell(&queue, &store, &script));
        let before = generation(&store);
        wait_until("three snapshots", || generation(&store) > before + 3);
        kill_tree(&mut host.0);
        let state = newest(&store);
        let number = committed(&state);
        assert!(number > last, "{number} after {last}");
        last = number;
    }
    // Killed alone, the client has committed all that it has reported, and the host persists it.
    fs::remove_file(run.with_extension("said")).expect("the entry before it");
    let mut host = start(&mut shell(&queue, &store, &format!("exec {script}")));
    wait_until("a commit", || {
        said().parse::<u64>().is_ok_and(|said| said > last + 3)
    });
    for pid in descendants(host.0.id()) {
        // The process may be gone.
        kill_process(
            Pid::from_raw(pid.cast_signed()).expect("a number"),
            Signal::KILL,
        )
        .ok();
    }
    assert_eq!(
        host.0.wait().expect("the program ends").code(),
        Some(128 + 9)
    );
    let said: u64 = said().parse().expect("a number");
    assert!([said, said + 1].contains(&committed(&newest(&store))));
}

/// In the image of a queue: every page of buffer 0 has the same number.
#[track_caller]
fn committed(image: &[u8]) -> u64 {
    let pages = image.len() / 4096;
    let first = word(image, pages - crate::states::ROW_PAGES);
    for page in pages - crate::states::ROW_PAGES..pages {
        assert_eq!(word(image, page), first, "torn");
    }
    first
}

#[test]
fn an_interval_of_zero_is_refused() {
    let directory = directory();
    let store = directory.path().join("store");
    for interval in ["0", "0.009", "-1", "nan", "inf", "soon"] {
        let mut command = shm_restore(&["--mode=freeze"], &store);
        let interval = format!("--interval={interval}");
        let output = command.args([&interval, "true"]).output();
        let output = output.expect("the program runs");
        assert_eq!(output.status.code(), Some(125), "{interval}");
        assert!(!store.exists(), "{interval}");
    }
}
