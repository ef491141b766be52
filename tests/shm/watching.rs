//! `shm-fd watch -n 0.1 primes` on a terminal, as in the README.

use std::io::Write as _;
use std::process::Stdio;

use flatspan::shm::{Memfd, SHARED_FD_NAME};

use crate::manager::{Killed, Manager, set_notify_socket};
use crate::primes::count_checked;
use crate::programs::{clean, primes, shm_fd};
use crate::support::cleaner;
use crate::support::need::{Need, need};

/// Runs a command line on a terminal until the table has the given number of primes, ends it by
/// Ctrl-C, and counts the primes.
///
/// `watch` draws only changes of the screen, so the test reads the memfd that a service manager has
/// kept.
fn watch(line: &str, count: usize) -> usize {
    let mut manager = Manager::on_a_path();
    let mut command = clean("script");
    set_notify_socket(&mut command, &manager);
    let script = command
        .args(["-qec", line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut script = Killed(script.spawn().expect("script"));
    manager.hear_until(|manager| !manager.kept(SHARED_FD_NAME).is_empty());
    let kept = manager.kept(SHARED_FD_NAME)[0]
        .try_clone_to_owned()
        .expect("another file");
    let memory = Memfd::from_fd(kept).expect("a memfd");
    manager.hear_until(|_| {
        let table = memory.map(0..1_000_000);
        table.is_ok_and(|table| table.load(count) != Some(0))
    });
    // Ctrl-C.
    let mut keys = script.0.stdin.take().expect("its input");
    keys.write_all(b"\x03").expect("a key");
    assert!(
        cleaner::wait(&mut script.0, crate::inherited_fds::TIMEOUT),
        "Ctrl-C ends the program"
    );
    let found = count_checked(&memory);
    assert!(found > count, "{found} of {count}");
    found
}

#[test]
fn watch_repeats_the_program_on_the_same_memfd() {
    if !need(Need::Tools, "watch") || !need(Need::Tools, "script") {
        return;
    }
    let line = format!("{} watch -n 0.1 {}", shm_fd().display(), primes().display());
    watch(&line, 3500);
}

/// The same with `shm-restore`, as in the README: the second start continues from the state at
/// Ctrl-C.
#[test]
fn watch_under_shm_restore_continues_after_ctrl_c() {
    if !need(Need::Tools, "watch") || !need(Need::Tools, "script") {
        return;
    }
    let dir = crate::support::temp_dir();
    let line = format!(
        "{} {} {} watch -n 0.1 {} --brief",
        shm_fd().display(),
        env!("CARGO_BIN_EXE_shm-restore"),
        dir.path().join("prime-snapshot").display(),
        primes().display()
    );
    // The second memfd is new and gets the stored state: two more runs are needed each time.
    let first = watch(&line, 1500);
    watch(&line, first + 1500);
}
