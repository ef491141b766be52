//! Signals and the terminal.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::client;
use crate::freeze_mode::{start, wait_until};
use crate::inherited_fds::TIMEOUT;
use crate::manager::{Killed, Manager};
use crate::programs::{clean, said};
use crate::states::{directory, newest, shell};
use crate::support::cleaner;
use crate::support::need::{Need, need};

fn send(to: &Killed, signal: Signal) {
    kill_process(Pid::from_child(&to.0), signal).expect("a signal");
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn ended(mut host: Killed) -> Output {
    let mut output = Output {
        status: host.0.wait().expect("the program ends"),
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let mut stderr = host.0.stderr.take().expect("a pipe");
    std::io::copy(&mut stderr, &mut output.stderr).expect("the output of the program");
    output
}

fn listening(log: &Path) -> String {
    format!(
        "exec {}",
        client::words(&format!("listen {}", log.display()))
    )
}

#[test]
fn signals_to_the_host_are_forwarded_once() {
    let directory = directory();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let options = ["--mode=freeze", "--interval=0.02"];
    let host = start(&mut shell(&options, &store, &listening(&log)));
    wait_until("ready", || lines(&log) == ["ready"]);
    let mut expected = vec!["ready".to_owned()];
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
        (Signal::CONT, "CONT"),
    ] {
        send(&host, signal);
        expected.push(name.to_owned());
        wait_until(name, || lines(&log).len() >= expected.len());
        assert_eq!(lines(&log), expected);
    }
    send(&host, Signal::HUP);
    let output = ended(host);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert_eq!(lines(&log), expected);
    assert!(newest(&store).is_empty(), "no state is stored");
}

#[test]
fn statistics_are_printed_on_request() {
    let directory = directory();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let host = start(&mut shell(&[], &store, &listening(&log)));
    wait_until("ready", || lines(&log) == ["ready"]);
    send(&host, Signal::USR1);
    send(&host, Signal::USR2);
    wait_until("the second signal is passed on", || lines(&log).len() == 2);
    send(&host, Signal::HUP);
    let output = ended(host);
    assert!(
        said(&output).contains("0 of 0 snapshots succeeded"),
        "{}",
        said(&output)
    );
    assert_eq!(lines(&log), ["ready", "USR2"], "USR1 is not passed on");
}

#[test]
fn signals_ignored_by_nohup_stay_ignored() {
    let directory = directory();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let script = "trap '' HUP; exec \"$@\"";
    let mut command = clean("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_shm-restore")]);
    command.arg(&store).args(["sh", "-c"]).arg(format!(
        "echo ready > {0}; while [ -e {0} ]; do sleep 0.01; done",
        log.display()
    ));
    let mut host = start(&mut command);
    wait_until("ready", || lines(&log) == ["ready"]);
    let status = fs::read_to_string(format!("/proc/{}/status", host.0.id())).expect("a status");
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .expect("a mask");
    assert_eq!(
        u64::from_str_radix(ignored.trim(), 16).expect("a mask") & 1,
        1
    );
    send(&host, Signal::HUP);
    fs::remove_file(&log).expect("the process ends");
    assert!(host.0.wait().expect("the program ends").success());
}

/// On a terminal of its own: key presses, and their effects.
pub(crate) fn on_a_terminal(
    line: &str,
    steps: &mut dyn FnMut(&mut std::process::ChildStdin),
) -> Option<i32> {
    let mut command = clean("script");
    let script = command
        .args(["-qec", line, "/dev/null"])
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut script = Killed(script.spawn().expect("script"));
    let mut keys = script.0.stdin.take().expect("its input");
    steps(&mut keys);
    assert!(cleaner::wait(&mut script.0, TIMEOUT), "the program ends");
    script.0.wait().expect("a status").code()
}

#[test]
fn i27_ctrl_c_reaches_the_command_once() {
    if !need(Need::Tools, "script") {
        return;
    }
    let directory = directory();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let program = directory.path().join("program");
    fs::write(&program, listening(&log)).expect("a file");
    let line = format!(
        "{} {} sh {}",
        env!("CARGO_BIN_EXE_shm-restore"),
        store.display(),
        program.display()
    );
    let code = on_a_terminal(&line, &mut |keys| {
        // A command that used the terminal before it owned it was stopped, and gets a CONT.
        wait_until("ready", || lines(&log).iter().any(|line| line == "ready"));
        for round in 1..=3 {
            keys.write_all(b"\x03").expect("a key");
            let ints = || lines(&log).iter().filter(|line| *line == "INT").count();
            wait_until("INT", || ints() >= round);
            // No other signal arrives by the path of a signal sent to the host.
            let pid = pid_of(&store);
            kill_process(pid, Signal::USR2).expect("a signal");
            wait_until("USR2", || {
                lines(&log).iter().filter(|line| *line == "USR2").count() == round
            });
            assert_eq!(ints(), round, "{:?}", lines(&log));
        }
        kill_process(pid_of(&store), Signal::HUP).expect("a signal");
    });
    assert_eq!(code, Some(7));
}

/// The host's process id, from its lock file.
fn pid_of(store: &Path) -> Pid {
    let pid = fs::read_to_string(store.join("lock")).expect("a lock");
    Pid::from_raw(pid.trim().parse().expect("a number")).expect("a number")
}

#[test]
fn a_command_reads_the_terminal_and_ctrl_z_works() {
    if !need(Need::Tools, "script") {
        return;
    }
    let directory = directory();
    let (store, log) = (directory.path().join("store"), directory.path().join("log"));
    let program = directory.path().join("program");
    let script = format!(
        "echo ready >> {0}; while read line; do echo \"$line\" >> {0}; [ \"$line\" = end ] && exit 5; done",
        log.display()
    );
    fs::write(&program, script).expect("a file");
    let line = format!(
        "{} {} sh {}",
        env!("CARGO_BIN_EXE_shm-restore"),
        store.display(),
        program.display()
    );
    let code = on_a_terminal(&line, &mut |keys| {
        wait_until("ready", || lines(&log) == ["ready"]);
        keys.write_all(b"one\n").expect("keys");
        wait_until("a line", || lines(&log).len() == 2);
        // Without a shell that could continue the job, the host continues at once.
        keys.write_all(b"\x1a").expect("a key");
        keys.write_all(b"end\n").expect("keys");
    });
    assert_eq!(lines(&log), ["ready", "one", "end"]);
    assert_eq!(code, Some(5));
}

#[test]
fn the_service_manager_is_notified() {
    let directory = directory();
    let store = directory.path().join("store");
    let mut manager = Manager::on_a_path();
    let words = client::words("fill 1 4096");
    let store_word = store.display().to_string();
    let args = [store_word.as_str(), "sh", "-c", words.as_str()];
    let output = manager.run(Path::new(env!("CARGO_BIN_EXE_shm-restore")), &args);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(
        manager.heard,
        ["READY=1", "STOPPING=1", "STATUS=generation 2 is durable"]
    );
}
