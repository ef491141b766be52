//! Helper process that undoes a mount when its test drops the guard, or dies.
//!
//! The process waits for the end of its standard input, whose other end only the guard holds. That
//! end comes on drop, on panic and on SIGKILL alike, so every test run exercises the only cleanup
//! path.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Unmounts `mount` (lazily if it is busy) and removes `directory` when dropped.
#[derive(Debug)]
pub(crate) struct Cleaner {
    input: Option<ChildStdin>,
    process: Child,
}

/// Cleanup starts at the end of the input. Signals of a terminal or of `timeout` must not reach the
/// script.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
read -r _
umount "$1" 2>/dev/null || umount -l "$1" 2>/dev/null
rm -rf --one-file-system -- "$2"
"#;

const PATIENCE: Duration = Duration::from_secs(30);

impl Cleaner {
    /// Starts the helper process; must be called before mounting. `directory` contains `mount` and
    /// is removed with all its content.
    pub(crate) fn watch(mount: &Path, directory: &Path) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", SCRIPT, "flatspan-cleaner"])
            .args([mount, directory])
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
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

/// Waits up to `timeout` for a process to end, and returns whether it ended.
pub(crate) fn wait(process: &mut Child, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
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
