//! The process that has the store open, as the test uses it.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use super::Size;
use crate::support::child::NAME_VARIABLE;

/// Name of the test that the process runs.
pub(crate) const TEST: &str = "large::worker::worker";

pub(crate) const STORE: &str = "FLATSPAN_LARGE_STORE";
pub(crate) const BYTES: &str = "FLATSPAN_LARGE_BYTES";
pub(crate) const PART_BYTES: &str = "FLATSPAN_LARGE_PART_BYTES";
pub(crate) const RESTORE: &str = "FLATSPAN_LARGE_RESTORE";
pub(crate) const JOB: &str = "FLATSPAN_LARGE_JOB";

/// Prefix that separates the messages of the process from the output of libtest.
const MARK: &str = "large: ";

/// Sends one line to the test.
pub(crate) fn say(text: &str) {
    // The test may have closed the pipe.
    drop(stdout().write_all(format!("\n{MARK}{text}\n").as_bytes()));
}

/// The process; dropping it closes its standard input and kills it.
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
        // The thread ends when the process exits.
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
        let line = self.lines.recv_timeout(self.size.timeout);
        let line = line.expect("the process reports its progress");
        println!("    {line}");
        line
    }

    /// The next line, if there is one already.
    pub(crate) fn line_at_once(&self) -> Option<String> {
        match self.lines.try_recv() {
            Ok(line) => Some(line),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the process has exited"),
        }
    }

    /// Waits for a line with this prefix. Returns all lines up to it.
    pub(crate) fn until(&self, prefix: &str) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !lines.last().is_some_and(|line| line.starts_with(prefix)) {
            lines.push(self.line());
        }
        lines
    }

    /// Kills the process. Returns its status and the lines that were not read yet.
    pub(crate) fn kill(mut self) -> (ExitStatus, Vec<String>) {
        self.process.kill().expect("a signal");
        let status = self.process.wait().expect("a child");
        (status, self.lines.iter().collect())
    }

    /// Closes its standard input and waits for its exit.
    pub(crate) fn end(mut self) -> ExitStatus {
        drop(self.process.stdin.take());
        self.process.wait().expect("a child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
