//! The messages that the main thread waits for.

use std::fs;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use anyhow::{Context as _, Result};
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;

const SIGNALS: [i32; 9] = [
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    Signal(i32),
    /// The command has exited and can be waited for.
    Exited,
}

#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) receiver: Receiver<Message>,
    pub(crate) sender: Sender<Message>,
}

impl Messages {
    /// Turns signals into messages, except those that this program inherited as ignored (nohup(1)).
    pub(crate) fn from_signals() -> Result<Self> {
        let ignored = ignored_signals();
        let handled = SIGNALS
            .iter()
            .filter(|signal| **signal == SIGCHLD || ignored >> (**signal - 1) & 1 == 0);
        let mut signals = Signals::new(handled).context("cannot handle signals")?;
        let (sender, receiver) = mpsc::channel();
        let thread_sender = sender.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if thread_sender.send(Message::Signal(signal)).is_err() {
                        break;
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { receiver, sender })
    }
}

/// The mask `SigIgn` of proc(5); 0 if the kernel does not provide it.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
