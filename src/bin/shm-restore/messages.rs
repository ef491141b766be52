//! What the main thread waits for.

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
    /// The command has ended, and can be waited for.
    Ended,
}

#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) receiver: Receiver<Message>,
    pub(crate) sender: Sender<Message>,
}

impl Messages {
    /// Signals are messages from now on, but those that whoever started this program has it ignore (nohup).
    pub(crate) fn of_signals() -> Result<Self> {
        let ignored = ignored();
        let wanted = SIGNALS
            .iter()
            .filter(|signal| **signal == SIGCHLD || ignored >> (**signal - 1) & 1 == 0);
        let mut signals = Signals::new(wanted).context("cannot handle signals")?;
        let (sender, receiver) = mpsc::channel();
        let theirs = sender.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if theirs.send(Message::Signal(signal)).is_err() {
                        break;
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { receiver, sender })
    }
}

/// The mask of ignored signals; none where the kernel does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .map(|mask| u64::from_str_radix(mask.trim(), 16));
    mask.and_then(Result::ok).unwrap_or(0)
}
