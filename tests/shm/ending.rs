//! The end of `shm-restore`: exit codes, last snapshot, output.

use std::fs;
use std::io::{self, Write as _};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use crate::client;
use crate::event_names;
use crate::freeze_mode::{start, wait_until};
use crate::inherited_fds::TIMEOUT;
use crate::manager::Killed;
use crate::programs::{clean, expect, said};
use crate::states::{directory, newest, shell};
use crate::support::cleaner;
use crate::support::filesystem::{Kind, SmallFs};

#[test]
fn a_command_killed_by_a_signal_gives_a_nonzero_exit_status() {
    let directory = directory();
    let store = directory.path().join("store");
    for how in ["exit", "freeze", "queue"] {
        let how = format!("--mode={how}");
        for signal in [1, 2, 3, 6, 9, 11, 15] {
            let script = format!("kill -{signal} $$");
            expect(
                128 + signal,
                &mut shell(&[&how], &directory.path().join(&how), &script),
            );
        }
        for code in [0, 1, 125, 200, 255] {
            let script = format!("exit {code}");
            expect(
                code,
                &mut shell(&[&how], &store.with_extension(&how), &script),
            );
        }
    }
}

/// A former tool wrote the last state over the previous one: a full disk destroyed both.
#[test]
fn the_final_snapshot_never_overwrites_the_newest_state() {
    const BYTES: usize = 1 << 20;
    let Some(small) = SmallFs::new(Kind::Tmpfs, 24 << 20) else {
        return;
    };
    let store = small.path().join("store");
    expect(
        0,
        &mut shell(&[], &store, &client::words(&format!("fill 1 {BYTES}"))),
    );
    small.fill_leaving(100 << 10);
    for how in ["--mode=exit", "--mode=freeze"] {
        let fill = client::words(&format!("fill 2 {BYTES}"));
        let said = expect(
            125,
            &mut shell(
                &[how, "--interval=0.01"],
                &store,
                &format!("{fill}; sleep 0.2"),
            ),
        );
        assert!(said.contains("final snapshot failed"), "{said}");
        assert!(said.contains("No space left"), "{said}");
        assert!(newest(&store) == [1; BYTES], "the old content is kept");
    }
    // A failed snapshot does not end the host, and the next one is attempted.
    let unfill = small.path().join(".filler");
    let fill = client::words(&format!("fill 3 {BYTES}"));
    let script = format!("{fill}; sleep 0.2; rm {}; exit 4", unfill.display());
    let said = expect(
        4,
        &mut shell(&["--mode=freeze", "--interval=0.01"], &store, &script),
    );
    assert!(
        said.contains("snapshot failed") && said.contains("No space left"),
        "{said}"
    );
    assert!(newest(&store) == [3; BYTES]);
}

#[test]
fn descendants_that_still_map_the_memfd_are_named() {
    let directory = directory();
    let (store, run) = (directory.path().join("store"), directory.path().join("run"));
    fs::write(&run, "").expect("a file");
    let script = format!(
        "{}; setsid sh -c 'while [ -e {} ]; do sleep 0.02; done' >/dev/null 2>&1 & exit 3",
        client::words("fill 1 4096"),
        run.display()
    );
    // The filling and the waiting are one background list.
    let script = script.replacen("; setsid", " && setsid", 1);
    let output = shell(&[], &store, &script)
        .output()
        .expect("the program runs");
    fs::remove_file(&run).expect("the process ends");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("are not persisted"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_memfd_without_a_queue_is_a_failure() {
    let directory = directory();
    let (store, run) = (directory.path().join("store"), directory.path().join("run"));
    let queue = ["--mode=queue", "--interval=1000"];
    let said = expect(0, &mut shell(&queue, &store, "true"));
    assert!(said.contains("did not use the memory"), "{said}");
    for bytes in [1, 10_000] {
        let fill = client::words(&format!("fill 0 {bytes}"));
        let said = expect(125, &mut shell(&queue, &store, &fill));
        assert!(said.contains("the memory has no queue"), "{said}");
    }
    // A restored state that was not continued is already kept.
    fs::write(&run, "").expect("a file");
    let script = format!(
        "{} & while [ ! -e {said} ]; do sleep 0.02; done; rm {}; wait $!",
        client::words(&format!("commit {}", run.display())),
        run.display(),
        said = run.with_extension("said").display()
    );
    expect(0, &mut shell(&queue, &store, &script));
    let state = newest(&store);
    let said = expect(0, &mut shell(&queue, &store, "true"));
    assert_eq!(said, "");
    assert_eq!(newest(&store), state);
}

#[test]
fn events_are_json_lines() {
    let directory = directory();
    let store = directory.path().join("store");
    let mut names = Vec::new();
    for code in [0, 9] {
        let script = format!("{}; exit {code}", client::words("fill 1 4096"));
        let output = shell(&["--json"], &store, &script)
            .output()
            .expect("the program runs");
        let lines = String::from_utf8(output.stderr).expect("text");
        for line in lines.lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect(line);
            event_names::assert_documented(&event);
            names.push(event["event"].as_str().expect("a name").to_owned());
        }
    }
    let first = [
        "restored",
        "command_started",
        "command_exited",
        "snapshot",
        "final_snapshot",
    ];
    let second = [
        "restored",
        "command_started",
        "command_exited",
        "final_snapshot",
    ];
    assert_eq!(names, [&first[..], &second].concat());
}

#[test]
fn closed_output_does_not_stop_the_host() {
    let directory = directory();
    let store = directory.path().join("store");
    let mut command = clean("sh");
    let line = format!(
        "{} --json {} sh -c 'exit 3' 2>&1 >/dev/null | :; exec 2>&-; {} --json {} sh -c 'exit 3'",
        env!("CARGO_BIN_EXE_shm-restore"),
        store.display(),
        env!("CARGO_BIN_EXE_shm-restore"),
        store.display()
    );
    expect(3, command.args(["-c", &line]));
}

/// A pipe that is full and whose reader is stopped.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("its flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("the descriptor is nonblocking");
    while writer.write(&[b'-'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).expect("it blocks");
    (reader, writer)
}

#[test]
fn a_stalled_reader_does_not_block_the_host() {
    let directory = directory();
    let (store, said) = (
        directory.path().join("store"),
        directory.path().join("said"),
    );
    let (reader, writer) = full_pipe();
    let script = format!(
        "exec 2>/dev/null; trap 'exit 5' TERM; {}; echo >{}; while :; do sleep 0.02; done",
        client::words("fill 1 4096"),
        said.display()
    );
    let mut command = shell(
        &["--json", "--mode=freeze", "--interval=0.01"],
        &store,
        &script,
    );
    let mut host = Killed(command.stderr(writer).spawn().expect("the program starts"));
    drop(command);
    wait_until("the command", || said.exists());
    let pid = Pid::from_raw(host.0.id().cast_signed()).expect("a number");
    kill_process(pid, Signal::TERM).expect("a signal");
    assert!(cleaner::wait(&mut host.0, TIMEOUT), "the program ends");
    assert_eq!(host.0.wait().expect("its status").code(), Some(5));
    assert_eq!(newest(&store), [1; 4096]);
    drop(reader);
}

#[test]
fn orphans_are_reaped_under_many_signals() {
    let directory = directory();
    let (store, orphan) = (
        directory.path().join("store"),
        directory.path().join("orphan"),
    );
    let script = format!(
        "(sh -c 'echo $$ >{}; sleep 0.2' &); while :; do sleep 0.1; done",
        orphan.display()
    );
    let host = start(&mut shell(&[], &store, &script));
    let number = || fs::read_to_string(&orphan).unwrap_or_default();
    wait_until("the orphan", || number().ends_with('\n'));
    let of_orphan = format!("/proc/{}", number().trim());
    let pid = Pid::from_raw(host.0.id().cast_signed()).expect("a number");
    wait_until("the orphan is reaped", || {
        kill_process(pid, Signal::USR1).expect("a signal");
        !fs::exists(&of_orphan).expect("/proc")
    });
    kill_process(pid, Signal::TERM).expect("a signal");
    let mut host = host;
    assert!(cleaner::wait(&mut host.0, TIMEOUT), "the program ends");
}
