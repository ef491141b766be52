//! The terminal, and whose it is.
//!
//! # Safety
//!
//! The only unsafe calls have a signal ignored, or blocked in a thread, which runs no code.
#![expect(unsafe_code, reason = "signal(2), pthread_sigmask(3)")]

use std::fs::File;
use std::io::{self, IsTerminal as _};

use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The terminal that is ours to give away.
#[derive(Debug)]
pub(crate) struct Terminal {
    device: File,
    own: Pid,
}

impl Terminal {
    /// `None` where there is none, or another job has it (a shell has started us in the background), or our input is
    /// something else.
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
        (terminal.holder() == Some(terminal.own)).then_some(terminal)
    }

    /// Gives it to another group, if it is ours.
    pub(crate) fn give(&self, group: Pid) {
        if self.holder() == Some(self.own) {
            // It may have been taken away by a hangup, which the signal tells.
            let _gone = tcsetpgrp(&self.device, group);
        }
    }

    /// Takes it back from that group.
    pub(crate) fn take_back(&self, group: Pid) {
        if self.holder() == Some(group) {
            let _gone = tcsetpgrp(&self.device, self.own);
        }
    }

    pub(crate) fn is_of(&self, group: Pid) -> bool {
        self.holder() == Some(group)
    }

    fn holder(&self) -> Option<Pid> {
        tcgetpgrp(&self.device).ok()
    }
}

/// Taking the terminal back, and writing to it while another group has it, stops us no more. To be called when the command
/// was started, which would inherit it.
pub(crate) fn do_not_stop_for_output() {
    // SAFETY: the signal is ignored, so no code runs at any time that the rest does not expect.
    unsafe {
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
    }
}

/// Writing to a terminal that another group has stops nobody from now on where the calling thread does it. Unlike an ignored signal
/// that is nothing a command inherits.
pub(crate) fn output_stops_nobody() {
    // SAFETY: a set of bits, for which zeros are valid.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `signals` is such a set, borrowed for the calls, and no mask is asked for.
    unsafe {
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
    }
}

/// Is standard error a terminal, and ours?
pub(crate) fn errors_are_in_the_foreground() -> bool {
    tcgetpgrp(io::stderr()) == Ok(getpgrp())
}
