//! The command while it runs.

use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context as _, Result, bail};
use flatspan::shm::Placed;
use flatspan::shm::process::{FAULT_SIGNALS, ProcessId};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_current_process_group, kill_process_group,
    pidfd_open, waitid,
};

use crate::cli::Cli;
use crate::failure::{Outcome, exit};
use crate::gate;
use crate::marks::Marks;
use crate::messages::Message;
use crate::terminal::{Terminal, do_not_stop_for_output};

#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Of the process and of its group.
    pid: Pid,
    terminal: Option<Terminal>,
    is_over: bool,
}

impl Running {
    /// Where its end is to be seen, `marks` know of it before it runs.
    pub(crate) fn start(
        cli: &Cli,
        placed: &Placed,
        marks: Option<&Marks>,
        ended: Sender<Message>,
    ) -> Outcome<Self> {
        let terminal = Terminal::own();
        let mut command = Command::new(&cli.command[0]);
        command.args(&cli.command[1..]).process_group(0);
        let child = match marks {
            Some(marks) => {
                let mut own = None;
                let started = gate::spawn(placed, &mut command, |pid| note(marks, pid, &mut own));
                if let (Err(_), Some(own)) = (&started, own) {
                    // It has not run, so the memory is what it was.
                    marks.not_used_by(own)?;
                }
                started?
            }
            None => placed.spawn(&mut command)?,
        };
        do_not_stop_for_output();
        let running = Self {
            pid: Pid::from_child(&child),
            child,
            terminal,
            is_over: false,
        };
        if let Some(terminal) = &running.terminal {
            terminal.give(running.pid);
            // It may have been stopped for reading before.
            running.send(Signal::CONT);
        }
        running.tell_end(ended)?;
        Ok(running)
    }

    pub(crate) fn number(&self) -> u32 {
        self.child.id()
    }

    /// A pidfd is readable when the process has ended. Waiting for it before would take the stops of a
    /// [`Freezer`](flatspan::shm::Freezer) for its end.
    fn tell_end(&self, ended: Sender<Message>) -> Result<()> {
        let pidfd =
            pidfd_open(self.pid, PidfdFlags::empty()).context("cannot watch the command")?;
        thread::Builder::new()
            .name("end".to_owned())
            .spawn(move || {
                wait_readable(&pidfd);
                // Nobody listens any more when the program ends.
                let _ends = ended.send(Message::Ended);
            })
            .context("cannot start a thread")?;
        Ok(())
    }

    /// To all of its group.
    pub(crate) fn send(&self, signal: Signal) {
        // It may have ended.
        let _gone = kill_process_group(self.pid, signal);
    }

    /// Where the terminal is the command's and the command was stopped there, this program stops too. When both go on,
    /// it returns. Nothing may be in progress that others wait for.
    pub(crate) fn stop_with(&self) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        terminal.take_back(self.pid);
        // Ignored by the kernel where nobody could have us go on.
        let _own = kill_current_process_group(Signal::TSTP);
        self.go_on();
    }

    /// After a stop: as a shell does it.
    pub(crate) fn go_on(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.give(self.pid);
        }
        self.send(Signal::CONT);
    }

    /// Was it stopped at the terminal? A stop for want of the terminal is over when it has it.
    pub(crate) fn is_stopped(&self) -> bool {
        let Some(terminal) = &self.terminal else {
            return false;
        };
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let Ok(Some(status)) = waitid(WaitId::Pid(self.pid), options) else {
            return false;
        };
        let Some(signal) = status.stopping_signal().filter(|_| status.stopped()) else {
            return false;
        };
        let wants_it = [libc::SIGTTIN, libc::SIGTTOU].contains(&signal);
        if wants_it && terminal.is_of(self.pid) {
            self.send(Signal::CONT);
            return false;
        }
        true
    }

    /// When it has ended.
    pub(crate) fn status(mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("cannot wait for the command")?;
        self.is_over = true;
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.pid);
        }
        Ok(status)
    }
}

/// A command that nobody minds must not run on: another one may be started beside it.
impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.send(Signal::KILL);
        let _ended = self.child.wait();
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.pid);
        }
    }
}

fn note(marks: &Marks, pid: u32, own: &mut Option<ProcessId>) -> Result<()> {
    let look = || format!("cannot look at process {pid}");
    let command = ProcessId::of(pid).with_context(look)?;
    let command = command.context("it was killed")?;
    if !command.is_child().with_context(look)? {
        bail!("process {pid} is another one in /proc, which is of another PID namespace");
    }
    *own = Some(command);
    marks.used_by(command)
}

/// Is its memory worth nothing? A shell says by 128 and a signal that what it waited for was killed by that.
pub(crate) fn is_crash(status: ExitStatus) -> bool {
    let told = status
        .code()
        .and_then(|code| code.checked_sub(exit::SIGNALLED));
    status.signal().is_some() || told.is_some_and(|signal| FAULT_SIGNALS.contains(&signal))
}

/// As a shell says it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| exit::SIGNALLED + signal));
    // Lossless: the system has 8 bits for the one, and 64 signals.
    code.map_or(exit::FAILED, |code| code as u8)
}

fn wait_readable(pidfd: &OwnedFd) {
    let mut wanted = [PollFd::new(pidfd, PollFlags::IN)];
    while poll(&mut wanted, None) == Err(Errno::INTR) {}
}
