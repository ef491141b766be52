//! The process that has the memory, as the test has it: started, listened to, killed.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use super::Size;
use crate::support::child::NAME_VARIABLE;

/// The test that the process is.
pub(crate) const TEST: &str = "large::worker::worker";

pub(crate) const STORE: &str = "FLATSPAN_LARGE_STORE";
pub(crate) const BYTES: &str = "FLATSPAN_LARGE_BYTES";
pub(crate) const PART_BYTES: &str = "FLATSPAN_LARGE_PART_BYTES";
pub(crate) const RESTORE: &str = "FLATSPAN_LARGE_RESTORE";
pub(crate) const JOB: &str = "FLATSPAN_LARGE_JOB";

/// Tells what the process says from what libtest prints around it.
const MARK: &str = "large: ";

/// Says one line.
pub(crate) fn say(text: &str) {
    // Nobody may listen any more.
    let _gone = stdout().write_all(format!("\n{MARK}{text}\n").as_bytes());
}

/// The process, killed on drop. Its standard input is open as long as this lives.
pub(crate) struct Process {
    process: Child,
    lines: Receiver<String>,
    size: Size,
}

impl Process {
    /// Restores by `copy` or `map`, then makes a checkpoint for each letter of `job`, or compares.
    pub(crate) fn start(store: &Path, size: Size, restore: &str, job: &str) -> Self {
        let mut process = Command::new(env::current_exe().expect("this binary"))
            .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
            .env(NAME_VARIABLE, TEST)
            .env(STORE, store)
            .env(BYTES, size.bytes.to_string())
            .env(PART_BYTES, size.part_bytes.to_string())
            .env(RESTORE, restore)
            .env(JOB, job)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary starts");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let (to, lines) = channel();
        // Ends with the process.
        thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            let mut said = lines.filter_map(|line| line.strip_prefix(MARK).map(str::to_owned));
            said.try_for_each(|line| to.send(line))
        });
        Self {
            process,
            lines,
            size,
        }
    }

    /// The next line.
    pub(crate) fn line(&self) -> String {
        let line = self.lines.recv_timeout(self.size.patience);
        let line = line.expect("the process is at work, and says what it does");
        println!("    {line}");
        line
    }

    /// The next line, if there is one already.
    pub(crate) fn line_at_once(&self) -> Option<String> {
        match self.lines.try_recv() {
            Ok(line) => Some(line),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the process has ended by itself"),
        }
    }

    /// The first line that begins so; all up to there.
    pub(crate) fn until(&self, begin: &str) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !lines.last().is_some_and(|line| line.starts_with(begin)) {
            lines.push(self.line());
        }
        lines
    }

    /// Kills it; what it said before that nobody has heard.
    pub(crate) fn kill(mut self) -> (ExitStatus, Vec<String>) {
        self.process.kill().expect("a signal");
        let status = self.process.wait().expect("a child");
        (status, self.lines.iter().collect())
    }

    /// Lets it end by itself.
    pub(crate) fn end(mut self) -> ExitStatus {
        drop(self.process.stdin.take());
        self.process.wait().expect("a child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
