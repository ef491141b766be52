//! The progress bar of `shm-restore` on terminals that accept no output.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::client;
use crate::freeze_mode::wait_until;
use crate::programs::expect;
use crate::signalling::on_a_terminal;
use crate::states::{directory, shell};
use crate::support::need::{Need, need};

/// A command line that restores a state slowly, so that a bar is shown, and then creates a file.
fn slow_start(directory: &Path) -> String {
    let store = directory.join("store");
    expect(
        0,
        &mut shell(&[], &store, &client::words("fill 1 10000000")),
    );
    format!(
        "strace -f -o /dev/null -e trace=pread64 -e inject=pread64:delay_enter=200000 {} {} touch {}",
        env!("CARGO_BIN_EXE_shm-restore"),
        store.display(),
        directory.join("done").display()
    )
}

/// Runs a script on a terminal of its own.
fn run(script: &str, directory: &Path, steps: &mut dyn FnMut(&mut std::process::ChildStdin)) {
    let path = directory.join("script");
    fs::write(&path, script).expect("a file");
    let code = on_a_terminal(&format!("sh {}", path.display()), steps);
    assert_eq!(code, Some(0));
}

#[test]
fn a_bar_in_the_background_stops_no_process() {
    if !need(Need::Tools, "script") || !need(Need::Tools, "strace") {
        return;
    }
    let directory = directory();
    let done = directory.path().join("done");
    // A job of its own. A stopped job is not waited for any longer.
    let script = format!(
        "set -m; stty tostop; {} & while [ -e /proc/$! ] && ! grep -q 'State:.*T (stopped)' /proc/$!/status; do sleep 0.05; done; kill -9 -$! 2>/dev/null; :",
        slow_start(directory.path())
    );
    run(&script, directory.path(), &mut |_| {});
    assert!(done.exists(), "the command was not started");
}

#[test]
fn a_bar_on_a_stopped_terminal_does_not_block() {
    if !need(Need::Tools, "script") || !need(Need::Tools, "strace") {
        return;
    }
    let directory = directory();
    let [ready, go, done] = ["ready", "go", "done"].map(|name| directory.path().join(name));
    let script = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.02; done; {}",
        ready.display(),
        go.display(),
        slow_start(directory.path())
    );
    run(&script, directory.path(), &mut |keys| {
        wait_until("ready", || ready.exists());
        keys.write_all(b"\x13").expect("a key");
        // The output is on its way to the terminal.
        thread::sleep(Duration::from_millis(300));
        fs::write(&go, "").expect("a file");
        wait_until("the command", || done.exists());
        keys.write_all(b"\x11").expect("a key");
    });
}
