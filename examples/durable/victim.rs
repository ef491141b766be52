//! Child process that is started, read from, and killed.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::line::Line;

/// Child process, killed on drop.
#[derive(Debug)]
pub(crate) struct Victim {
    process: Child,
    pipe: ChildStdout,
    /// Bytes that are not yet a complete line.
    rest: Vec<u8>,
}

/// Result of reading from the pipe.
#[derive(Debug)]
pub(crate) enum Received {
    Lines(Vec<Line>),
    Nothing,
    /// End of file: no process holds the other end of the pipe.
    End,
}

impl Victim {
    pub(crate) fn start(args: &[OsString]) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .arg("child")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C is for the parent.
            .process_group(0)
            .spawn()
            .context("cannot start a child")?;
        let pipe = process
            .stdout
            .take()
            .context("standard output of the child is a pipe")?;
        Ok(Self {
            process,
            pipe,
            rest: Vec::new(),
        })
    }

    /// Waits up to `timeout` for lines.
    pub(crate) fn receive(&mut self, timeout: Duration) -> Result<Received> {
        let timeout = Timespec::try_from(timeout)?;
        let mut ready = [PollFd::new(&self.pipe, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Received::Nothing),
            polled => polled?,
        };
        let mut buf = [0; 4096];
        match self.pipe.read(&mut buf)? {
            0 => Ok(Received::End),
            len => Ok(Received::Lines(self.lines(&buf[..len])?)),
        }
    }

    /// Kills the child if it still runs. Returns its exit status and the remaining lines.
    pub(crate) fn kill(mut self) -> Result<(ExitStatus, Vec<Line>)> {
        self.process.kill()?;
        let status = self.process.wait()?;
        let mut last = Vec::new();
        self.pipe.read_to_end(&mut last)?;
        let lines = self.lines(&last)?;
        Ok((status, lines))
    }

    /// Waits until the child ends by itself.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }

    fn lines(&mut self, received: &[u8]) -> Result<Vec<Line>> {
        self.rest.extend_from_slice(received);
        let end = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let text = std::str::from_utf8(&whole).context("the output of a child is UTF-8")?;
        let parsed = text.lines().map(|line| {
            Line::parse(line).with_context(|| format!("unexpected line from a child: {line:?}"))
        });
        parsed.collect()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Both fail harmlessly if the child was waited for.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
