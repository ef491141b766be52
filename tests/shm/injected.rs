//! `shm-restore` with errors injected into its system calls by strace.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::client;
use crate::freeze_mode::{generation, start, wait_until};
use crate::programs::{clean, expect, said};
use crate::states::{directory, newest, shell};
use crate::support::need::{Need, need, program};

const BYTES: usize = 100_000;

/// A store, and a command that fills the memfd with another byte.
struct Trial {
    directory: tempfile::TempDir,
    script: String,
}

impl Trial {
    /// Both heaps and a journal exist, and the part size is small enough that each of them has
    /// several parts.
    fn new() -> Self {
        let directory = directory();
        let before = directory.path().join("before");
        for byte in [7, 1] {
            let fill = client::words(&format!("fill {byte} {BYTES}"));
            expect(0, &mut shell(&["--part-size=64K"], &before, &fill));
        }
        let fill = client::words(&format!("fill 2 {BYTES}"));
        let done = directory.path().join("done");
        Self {
            script: format!("{fill}; echo >{}", done.display()),
            directory,
        }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Starts the host on a copy of the store, with an error in this call of each thread.
    fn run(&self, call: &str, fault: &str, number: u32) -> Output {
        // Neither exists at the first start.
        fs::remove_dir_all(self.store()).ok();
        fs::remove_file(self.directory.path().join("done")).ok();
        copy_store(&self.directory.path().join("before"), &self.store());
        let mut strace = clean(program("strace").expect("requested before"));
        let strace = strace
            .args(["-f", "-qq", "-e", &format!("trace={call}"), "-e"])
            .arg(format!("inject={call}:{fault}:when={number}"))
            .args(["-o", "/dev/null"])
            .arg(env!("CARGO_BIN_EXE_shm-restore"))
            .args(["--part-size=64K"])
            .arg(self.store())
            .args(["sh", "-c", &self.script]);
        strace.output().expect("the program runs")
    }

    /// Returns whether the command has completed.
    fn is_done(&self) -> bool {
        self.directory.path().join("done").exists()
    }

    /// The byte that fills the state. Checks that the state is complete and that the next start
    /// restores it.
    #[track_caller]
    fn restored_byte(&self, at: &str) -> u8 {
        let state = newest(&self.store());
        let byte = state.first().copied().unwrap_or(0);
        assert!(byte == 1 || (byte == 2 && self.is_done()), "{at}: {byte}");
        let (filled, rest) = state.split_at(BYTES);
        assert!(filled == [byte; BYTES], "{at}: torn");
        assert!(rest.iter().all(|byte| *byte == 0), "{at}: torn");
        expect(0, &mut shell(&[], &self.store(), "true"));
        assert!(newest(&self.store()) == state, "{at}");
        byte
    }
}

fn copy_store(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in from.read_dir().expect("a store").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// A former tool wrote the last state over the previous one: a kill in the middle of that destroyed
/// both.
#[test]
fn a_kill_during_the_final_snapshot_keeps_a_complete_state() {
    if !need(Need::Tools, "strace") {
        return;
    }
    let trial = Trial::new();
    let (mut kept_before, mut kept_after) = (0, 0);
    for call in ["pwrite64", "fdatasync", "fsync", "ftruncate", "fallocate"] {
        for number in 1.. {
            let output = trial.run(call, "signal=KILL", number);
            if output.status.code() == Some(0) {
                break;
            }
            assert_eq!(output.status.signal(), Some(9), "{}", said(&output));
            let byte = trial.restored_byte(&format!("{call} {number}"));
            kept_before += u32::from(byte == 1 && trial.is_done());
            kept_after += u32::from(byte == 2);
        }
    }
    println!(
        "killed after the command: {kept_before} times before the state is durable, {kept_after} times after"
    );
    assert!(
        kept_before > 0 && kept_after > 0,
        "the test has no coverage"
    );
}

/// After the error, data written since the last sync counts as lost, and the store is opened again.
#[test]
fn a_failed_sync_is_reported_and_snapshots_continue() {
    if !need(Need::Tools, "strace") {
        return;
    }
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let (store, run, log) = (path("store"), path("run"), path("log"));
    fs::write(&run, "").expect("a file");
    let mut strace = clean(program("strace").expect("requested before"));
    // In the thread that takes snapshots; the other threads sync less often.
    strace
        .args(["-f", "-qq", "-e", "trace=fdatasync", "-e"])
        .args(["inject=fdatasync:error=EIO:when=20", "-o"])
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_shm-restore"))
        .args(["--mode=queue", "--interval=0.01"])
        .arg(&store)
        .args(["sh", "-c"])
        .arg(client::words(&format!("commit {}", run.display())));
    let mut host = start(&mut strace);
    wait_until("a sync that fails", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("(INJECTED)"))
    });
    let before = generation(&store);
    wait_until("more snapshots", || generation(&store) > before + 3);
    fs::remove_file(&run).expect("the process ends");
    let status = host.0.wait().expect("the program ends");
    let mut said = String::new();
    let stderr = host
        .0
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut said);
    stderr.expect("text");
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        said.contains("snapshot failed: ") && said.contains("Input/output error"),
        "{said}"
    );
    assert!(said.contains("snapshots succeed again"), "{said}");
}

/// No further snapshot follows: the last one is attempted once more, with a store that is opened
/// again.
#[test]
fn a_failed_sync_in_the_final_snapshot_loses_nothing() {
    if !need(Need::Tools, "strace") {
        return;
    }
    let trial = Trial::new();
    let mut failed = 0;
    for number in 1.. {
        let output = trial.run("fdatasync", "error=EIO", number);
        let said = said(&output);
        let at = format!("sync {number}: {said}");
        if !said.contains("Input/output error") {
            assert_eq!(output.status.code(), Some(0), "{at}");
            break;
        }
        // Before the command starts, the error prevents its start.
        let code = if trial.is_done() { 0 } else { 125 };
        assert_eq!(output.status.code(), Some(code), "{at}");
        let byte = trial.restored_byte(&at);
        assert_eq!(byte == 2, trial.is_done(), "{at}");
        failed += u32::from(said.contains("snapshot failed: "));
    }
    assert!(failed > 0, "the test has no coverage");
}

/// Otherwise no host would watch the command, and the next start would run a second one beside it.
#[test]
fn a_command_that_cannot_be_watched_is_ended() {
    if !need(Need::Tools, "strace") {
        return;
    }
    let directory = directory();
    let (store, number) = (
        directory.path().join("store"),
        directory.path().join("number"),
    );
    let mut strace = clean(program("strace").expect("requested before"));
    strace
        .args(["-qq", "-e", "trace=pidfd_open", "-e"])
        .args(["inject=pidfd_open:error=EMFILE", "-o", "/dev/null"])
        .arg(env!("CARGO_BIN_EXE_shm-restore"))
        .arg(&store)
        .args([
            "sh",
            "-c",
            &format!(
                "echo $$ >{}; exec sleep 1000 >/dev/null 2>&1",
                number.display()
            ),
        ]);
    let output = strace.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(125), "{}", said(&output));
    assert!(said(&output).contains("cannot watch"), "{}", said(&output));
    if let Ok(number) = fs::read_to_string(&number) {
        let comm = format!("/proc/{}/comm", number.trim());
        assert!(fs::read_to_string(comm).is_err(), "the command still runs");
    }
}
