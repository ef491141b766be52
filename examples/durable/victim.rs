//! A child as its parent has it: started, listened to, killed.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::line::Line;

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Victim {
    process: Child,
    pipe: ChildStdout,
    /// Read, and not a line yet.
    rest: Vec<u8>,
}

/// What came from the pipe.
#[derive(Debug)]
pub(crate) enum Heard {
    Lines(Vec<Line>),
    Nothing,
    /// The pipe has ended: nobody has its other end any more.
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
        let pipe = process.stdout.take().context("a pipe")?;
        Ok(Self {
            process,
            pipe,
            rest: Vec::new(),
        })
    }

    /// Waits at most so long for lines.
    pub(crate) fn hear(&mut self, patience: Duration) -> Result<Heard> {
        let timeout = Timespec::try_from(patience)?;
        let mut ready = [PollFd::new(&self.pipe, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Heard::Nothing),
            polled => polled?,
        };
        let mut buf = [0; 4096];
        match self.pipe.read(&mut buf)? {
            0 => Ok(Heard::End),
            len => Ok(Heard::Lines(self.lines(&buf[..len])?)),
        }
    }

    /// Ends it now, if it has not ended; how it did, and what it said before.
    pub(crate) fn kill(mut self) -> Result<(ExitStatus, Vec<Line>)> {
        self.process.kill()?;
        let status = self.process.wait()?;
        let mut last = Vec::new();
        self.pipe.read_to_end(&mut last)?;
        let lines = self.lines(&last)?;
        Ok((status, lines))
    }

    /// How it ended by itself.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }

    fn lines(&mut self, heard: &[u8]) -> Result<Vec<Line>> {
        self.rest.extend_from_slice(heard);
        let end = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let text = std::str::from_utf8(&whole).context("a child says text")?;
        let parsed = text
            .lines()
            .map(|line| Line::parse(line).with_context(|| format!("a child said {line:?}")));
        parsed.collect()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Both do nothing to one that was waited for.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
