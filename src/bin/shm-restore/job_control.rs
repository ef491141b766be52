//! The controlling terminal and its foreground process group.
//!
//! # Safety
//!
//! The unsafe calls are `signal(2)` with `SIG_IGN` and `pthread_sigmask(3)` with `SIG_BLOCK`.
//! Neither installs code that could run at an arbitrary time.
#![expect(unsafe_code, reason = "signal(2), pthread_sigmask(3)")]

use std::fs::File;
use std::io::{self, IsTerminal as _};

use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// A terminal whose foreground process group this program may set.
#[derive(Debug)]
pub(crate) struct Terminal {
    device: File,
    own: Pid,
}

impl Terminal {
    /// Returns `None` in three cases: there is no terminal, another job is in the foreground (a
    /// shell started this program in the background), or standard input is something else.
    pub(crate) fn own() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok()?;
        let terminal = Self {
            device,
            own: getpgrp(),
        };
        (terminal.foreground() == Some(terminal.own)).then_some(terminal)
    }

    /// Makes another group the foreground group, if this program's group is.
    pub(crate) fn give(&self, group: Pid) {
        if self.foreground() == Some(self.own) {
            // Fails after a hangup, which SIGHUP reports.
            let _ = tcsetpgrp(&self.device, group);
        }
    }

    /// Makes this program's group the foreground group, if `group` is.
    pub(crate) fn take_back(&self, group: Pid) {
        if self.foreground() == Some(group) {
            // Fails after a hangup, which SIGHUP reports.
            let _ = tcsetpgrp(&self.device, self.own);
        }
    }

    pub(crate) fn is_foreground(&self, group: Pid) -> bool {
        self.foreground() == Some(group)
    }

    fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(&self.device).ok()
    }
}

/// Ignores SIGTTOU, so that this program can write and take the terminal back from the background.
/// Call it after the command was started, which would inherit the disposition.
pub(crate) fn ignore_sigttou() {
    // SAFETY: SIG_IGN runs no code, and the result is not used.
    unsafe {
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
    }
}

/// Blocks SIGTTOU in the calling thread, so that its output never stops the process group. Unlike
/// the disposition, the mask of this thread is not inherited by the command.
pub(crate) fn block_sigttou() {
    // SAFETY: zeros are a valid sigset_t, a set of bits.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `signals` is a sigset_t, borrowed for the call.
    unsafe {
        libc::sigemptyset(&raw mut signals);
    }
    // SAFETY: as before, and the signal number is valid.
    unsafe {
        libc::sigaddset(&raw mut signals, libc::SIGTTOU);
    }
    // SAFETY: `signals` is initialized and borrowed for the call; no old mask is requested.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
    }
}

/// Returns whether standard error is a terminal that this program is in the foreground of.
pub(crate) fn stderr_is_foreground() -> bool {
    tcgetpgrp(io::stderr()) == Ok(getpgrp())
}
