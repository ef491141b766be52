//! The command while it runs.

use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context as _, Result, bail};
use flatspan::shm::PlacedFds;
use flatspan::shm::process::{FAULT_SIGNALS, ProcessId};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_current_process_group, kill_process_group,
    pidfd_open, waitid,
};

use crate::cli::Cli;
use crate::exec_barrier;
use crate::exit_code;
use crate::failure::Failure;
use crate::job_control::{Terminal, ignore_sigttou};
use crate::main_loop::Message;
use crate::memory_state::MemoryStateFile;

#[derive(Debug)]
pub(crate) struct RunningCommand {
    child: Child,
    /// Id of the process and of its process group.
    pid: Pid,
    terminal: Option<Terminal>,
    has_exited: bool,
}

impl RunningCommand {
    /// Starts the command. If there is a memory-state file, it names the process before the process
    /// executes the command.
    pub(crate) fn start(
        cli: &Cli,
        placed: &PlacedFds,
        memory_state: Option<&MemoryStateFile>,
        exits: Sender<Message>,
    ) -> Result<Self, Failure> {
        let terminal = Terminal::own();
        let mut command = Command::new(&cli.command[0]);
        command.args(&cli.command[1..]).process_group(0);
        let child = match memory_state {
            Some(memory_state) => spawn_recorded(placed, &mut command, memory_state)?,
            None => placed.spawn(&mut command)?,
        };
        ignore_sigttou();
        let running = Self {
            pid: Pid::from_child(&child),
            child,
            terminal,
            has_exited: false,
        };
        if let Some(terminal) = &running.terminal {
            terminal.give(running.pid);
            // SIGTTIN may have stopped it before it had the terminal.
            running.send(Signal::CONT);
        }
        running.watch_exit(exits)?;
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a message when the process has exited, which makes its pidfd readable. A wait before
    /// that would mistake a stop by the [`Freezer`](flatspan::shm::Freezer) for the exit.
    fn watch_exit(&self, exits: Sender<Message>) -> Result<()> {
        let pidfd =
            pidfd_open(self.pid, PidfdFlags::empty()).context("cannot watch the command")?;
        thread::Builder::new()
            .name("exit".to_owned())
            .spawn(move || {
                wait_readable(&pidfd);
                // The receiver is gone if this program is about to exit.
                let _ = exits.send(Message::Exited);
            })
            .context("cannot start a thread")?;
        Ok(())
    }

    /// Sends a signal to the process group of the command.
    pub(crate) fn send(&self, signal: Signal) {
        // Fails if the group has exited.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Stops this program, too, if the command was stopped at its terminal. Returns when both
    /// continue. The caller must not hold a lock that other processes wait for.
    pub(crate) fn stop_with_command(&self) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        terminal.take_back(self.pid);
        // The kernel ignores it in an orphaned process group, which no shell could continue.
        let _ = kill_current_process_group(Signal::TSTP);
        self.resume();
    }

    /// Continues the command after a stop and gives it the terminal, as a shell does.
    pub(crate) fn resume(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.give(self.pid);
        }
        self.send(Signal::CONT);
    }

    /// Returns whether the command was stopped at the terminal. A command that was stopped because
    /// it lacked the terminal, and has it now, is continued instead.
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
        let lacked_terminal = [libc::SIGTTIN, libc::SIGTTOU].contains(&signal);
        if lacked_terminal && terminal.is_foreground(self.pid) {
            self.send(Signal::CONT);
            return false;
        }
        true
    }

    /// Returns the exit status; call it after [`Message::Exited`].
    pub(crate) fn status(mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("cannot wait for the command")?;
        self.has_exited = true;
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.pid);
        }
        Ok(status)
    }
}

/// Kills a command that this program no longer monitors: another one may be started on the same
/// store.
impl Drop for RunningCommand {
    fn drop(&mut self) {
        if self.has_exited {
            return;
        }
        self.send(Signal::KILL);
        drop(self.child.wait());
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.pid);
        }
    }
}

fn spawn_recorded(
    placed: &PlacedFds,
    command: &mut Command,
    memory_state: &MemoryStateFile,
) -> Result<Child, Failure> {
    let mut recorded = None;
    let spawned = exec_barrier::spawn(placed, command, |pid| {
        let process = own_child(pid)?;
        recorded = Some(process);
        memory_state.add_user(process)
    });
    if let (Err(_), Some(process)) = (&spawned, recorded) {
        // The command was not executed, so the memory is unchanged.
        memory_state.remove_user(process)?;
    }
    spawned
}

fn own_child(pid: u32) -> Result<ProcessId> {
    let context = || format!("cannot inspect process {pid}");
    let process = ProcessId::lookup(pid).with_context(context)?;
    let process = process.context("the process was killed")?;
    if !process.is_child().with_context(context)? {
        bail!("/proc belongs to another PID namespace: process {pid} there is a different one");
    }
    Ok(process)
}

/// Returns whether the memory may be inconsistent. A shell exits with 128 plus the number of the
/// signal that killed the process it waited for.
pub(crate) fn is_crash(status: ExitStatus) -> bool {
    let shell_signal = status
        .code()
        .and_then(|code| code.checked_sub(exit_code::SIGNAL_BASE.into()));
    status.signal().is_some() || shell_signal.is_some_and(|signal| FAULT_SIGNALS.contains(&signal))
}

/// Returns the exit code that a shell would return for the command.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| {
        let signal = status.signal()?;
        Some(i32::from(exit_code::SIGNAL_BASE) + signal)
    });
    // Lossless: exit codes have 8 bits, and signal numbers end at 64.
    code.map_or(exit_code::WRAPPER_FAILED, |code| code as u8)
}

fn wait_readable(pidfd: &OwnedFd) {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    while poll(&mut polled, None) == Err(Errno::INTR) {}
}
