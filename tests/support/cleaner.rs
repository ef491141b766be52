//! A small process that undoes a mount once its test lets go of it, or dies.
//!
//! It waits for the end of its standard input, whose other end only the guard holds: that end comes on
//! drop, on panic and on SIGKILL alike. So one path undoes everything, and every test run exercises it.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Unmounts `mount` (lazily if it is busy) and removes `folder` when dropped.
#[derive(Debug)]
pub(crate) struct Cleaner {
    input: Option<ChildStdin>,
    process: Child,
}

/// The end of the input is the signal; signals of a terminal or of `timeout` must not reach the script.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
read -r _
umount "$1" 2>/dev/null || umount -l "$1" 2>/dev/null
rm -rf --one-file-system -- "$2"
"#;

const PATIENCE: Duration = Duration::from_secs(30);

impl Cleaner {
    /// Starts watching; call it before mounting. `folder` holds `mount` and is removed with all in it.
    pub(crate) fn watch(mount: &Path, folder: &Path) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", SCRIPT, "flatspan-cleaner"])
            .args([mount, folder])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        Self {
            input: process.stdin.take(),
            process,
        }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        drop(self.input.take());
        if !wait(&mut self.process, PATIENCE) {
            let _may_be_gone = self.process.kill();
            let _reaped = self.process.wait();
        }
    }
}

/// Waits at most so long for a process to end; whether it did.
pub(crate) fn wait(process: &mut Child, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    loop {
        match process.try_wait() {
            Ok(Some(_)) | Err(_) => return true,
            Ok(None) if Instant::now() >= deadline => return false,
            Ok(None) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
