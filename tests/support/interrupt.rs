//! Ctrl-C for a running program.

use std::{
    fs,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);

/// Kills the program if the test fails before the program ended.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a program, interrupts it once it has installed its handler, and returns its output.
pub(crate) fn interrupt(mut command: Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Guard(child.expect("the program starts"));
    let deadline = Instant::now() + PATIENCE;
    while !catches_interrupt(child.0.id()) {
        assert!(
            Instant::now() < deadline,
            "the program does not catch SIGINT"
        );
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&child.0), Signal::INT).expect("a signal");
    // The output fits into the pipes.
    while child.0.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "the program does not end");
        thread::sleep(Duration::from_millis(5));
    }
    let mut output = Output {
        status: child.0.wait().expect("a child"),
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let streams = (child.0.stdout.take(), child.0.stderr.take());
    std::io::copy(&mut streams.0.expect("piped"), &mut output.stdout).expect("standard output");
    std::io::copy(&mut streams.1.expect("piped"), &mut output.stderr).expect("standard error");
    output
}

/// Returns whether a process has a handler for SIGINT.
fn catches_interrupt(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.unwrap_or(0) & 1 << (Signal::INT.as_raw() - 1) != 0
}
