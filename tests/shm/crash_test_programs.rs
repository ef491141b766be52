//! `shm-restore` and its program, killed at random moments: the program, the host, and both.
//!
//! The program counts: it writes each number into one page after the other. At any moment the pages
//! hold one number, from the first page on, and then possibly its predecessor. A state with another
//! pattern is torn.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use flatspan::shm::{ListenFds, Memfd, SHARED_FD_NAME};
use flatspan::snapshot::{Store, StoreOptions, WriteMode};
use rustix::process::{Pid, Signal, kill_process};

use crate::support;

const PAGES: usize = 64;
const PAGE_WORDS: usize = 512;
/// The duration of the counting in milliseconds; 0 for endless.
const COUNTS_FOR: &str = "FLATSPAN_CRASH_TEST_COUNTS_FOR";

#[test]
fn counter_process() {
    let Ok(counts_for) = std::env::var(COUNTS_FOR) else {
        return;
    };
    let counts_for = Duration::from_millis(counts_for.parse().expect("a number"));
    let mut handed = ListenFds::from_env().expect("descriptors");
    let memory = Memfd::from_fd(handed.take(SHARED_FD_NAME).expect("memory")).expect("a memfd");
    let bytes = (PAGES * PAGE_WORDS * 8) as u64;
    memory.grow_to(bytes).expect("the file is extended");
    let map = memory.map_mut(0..bytes).expect("a mapping");
    let words = map.words();
    let begun = Instant::now();
    let host = rustix::process::getppid();
    let mut number = words[0].load(Ordering::Relaxed);
    // After a kill during the counting, the interrupted number is completed.
    loop {
        for page in 0..PAGES {
            words[page * PAGE_WORDS].store(number, Ordering::Release);
        }
        let is_over = !counts_for.is_zero() && begun.elapsed() > counts_for;
        // The test kills an orphan of a killed host; the test may have died too.
        if is_over || (rustix::process::getppid() != host && begun.elapsed().as_secs() > 20) {
            return;
        }
        number += 1;
    }
}

struct Run {
    host: Child,
    events: Receiver<serde_json::Value>,
    seen: Vec<serde_json::Value>,
}

impl Run {
    fn start(store: &Path, strategy: &str, counts_for: u64) -> Self {
        let mut host = Command::new(env!("CARGO_BIN_EXE_shm-restore"))
            .arg(format!("--mode={strategy}"))
            .args(["--interval", "0.01", "--json"])
            .arg(store)
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "crash_test_programs::counter_process"])
            .env(COUNTS_FOR, counts_for.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("shm-restore");
        let lines = BufReader::new(host.stderr.take().expect("a pipe")).lines();
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(serde_json::Value::String(line));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self {
            host,
            events,
            seen: Vec::new(),
        }
    }

    fn client(&mut self) -> Pid {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if let Ok(event) = self.events.recv_timeout(Duration::from_secs(1)) {
                self.seen.push(event);
            }
            let started = self
                .seen
                .iter()
                .find(|event| event["event"] == "command_started");
            if let Some(pid) = started.and_then(|event| event["pid"].as_i64()) {
                return Pid::from_raw(pid as i32).expect("a process");
            }
        }
        panic!("nothing was started: {:?}", self.seen);
    }

    /// All output until now, and until the end of the host.
    fn acknowledged(&mut self) -> u64 {
        self.seen.extend(self.events.iter());
        let generations = self
            .seen
            .iter()
            .filter(|event| event["event"] == "snapshot");
        let generations = generations.filter_map(|event| event["generation"].as_u64());
        generations.max().unwrap_or(0)
    }

    fn status(&mut self) -> std::process::ExitStatus {
        self.host.wait().expect("the process ends")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        self.host.kill().ok();
        self.host.wait().ok();
    }
}

fn kill(pid: Pid) {
    // It may have ended by itself.
    let _ = kill_process(pid, Signal::KILL);
}

/// The state letter of the process from `/proc`; `None` if it is gone.
fn state_of(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The number in the stored state, if that is a point in time, and its generation.
fn stored(store: &Path) -> (u64, u64) {
    if !store.exists() {
        return (0, 0);
    }
    let options = StoreOptions::default().write_mode(WriteMode::Tracked);
    let store = Store::open(store, options).expect("a store");
    let inside = store.write_guard().expect("the name in the torrent");
    let number = |page: usize| {
        let mut bytes = [0; 8];
        let read = inside.read_at((page * PAGE_WORDS * 8) as u64, &mut bytes);
        read.expect("a word");
        u64::from_le_bytes(bytes)
    };
    if store.is_empty() {
        return (0, store.generation().get());
    }
    let numbers: Vec<_> = (0..PAGES).map(number).collect();
    let is_consistent = numbers.is_sorted_by(|a, b| a >= b) && numbers[0] - numbers[PAGES - 1] <= 1;
    assert!(is_consistent, "torn: {numbers:?}");
    (numbers[0], store.generation().get())
}

/// For each capture mode and each choice of killed processes.
#[test]
fn kills_of_program_and_shm_restore_tear_no_state() {
    const KILLS: u32 = 50;
    let dir = support::temp_dir();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for strategy in ["freeze", "exit"] {
        let store = dir.path().join(strategy);
        let (mut before, mut grown, mut snapshots) = (0, 0, 0);
        for kill_number in 0..KILLS {
            for victim in ["client", "host", "both", "none"] {
                if victim == "none" && kill_number % 5 > 0 {
                    continue;
                }
                let counts_for = if victim == "none" { 5 } else { 0 };
                let mut run = Run::start(&store, strategy, counts_for);
                let client = run.client();
                std::thread::sleep(Duration::from_micros(next() % 60_000));
                match victim {
                    "client" => kill(client),
                    "host" => {
                        run.host.kill().expect("a signal");
                        run.status();
                        // No process is left stopped [I27].
                        let end = Instant::now() + Duration::from_secs(20);
                        while matches!(state_of(client), Some('t' | 'T')) {
                            assert!(Instant::now() < end, "the process stays stopped");
                            std::thread::yield_now();
                        }
                        kill(client);
                    }
                    "both" => {
                        run.host.kill().expect("a signal");
                        kill(client);
                    }
                    _ => {}
                }
                let status = run.status();
                let acknowledged = run.acknowledged();
                match victim {
                    "client" => assert_eq!(status.code(), Some(137), "{:?}", run.seen),
                    "none" => assert_eq!(status.code(), Some(0), "{:?}", run.seen),
                    _ => {}
                }
                let (number, generation) = stored(&store);
                let at = format!("{strategy}, {victim} {kill_number}");
                assert!(
                    generation >= acknowledged,
                    "{at}: {generation} < {acknowledged}"
                );
                assert!(
                    number >= before,
                    "{at}: restored {number}, expected at least {before}"
                );
                if strategy == "exit" && victim != "none" {
                    assert_eq!(
                        number, before,
                        "{at}: an unwanted state was made the newest"
                    );
                }
                grown += u32::from(number > before);
                snapshots += u32::from(acknowledged > 0);
                before = number;
                remove_saved(&store);
            }
        }
        println!(
            "{strategy}: {KILLS} kills each of client, host and both; {snapshots} runs with snapshots, the number grew in {grown}, to {before}"
        );
        assert!(grown >= KILLS / 5, "the test has no coverage");
    }
}

/// Removes the crash files of killed programs.
fn remove_saved(store: &Path) {
    for entry in std::fs::read_dir(store).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("crash-") {
            std::fs::remove_file(entry.path()).expect("a file");
        }
    }
}
