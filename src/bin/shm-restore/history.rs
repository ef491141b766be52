//! The snapshots before the newest one (`--keep`).
//!
//! On a thread of its own: where storage cannot be shared a state is copied, and no snapshot waits for that, the last one least of
//! all. Of those that are taken meanwhile the newest is kept.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flatspan::snapshot::{self, Kept, SnapshotError};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::cli::Cli;
use crate::events::Events;
use crate::messages::Message;

const TICK: Duration = Duration::from_millis(20);

/// The thread; none where nothing is to be kept.
pub(crate) struct History(Option<(Bell, JoinHandle<()>)>);

/// Rung behind a snapshot.
#[derive(Clone)]
pub(crate) struct Bell(Option<SyncSender<()>>);

struct Keeping {
    of_store: snapshot::History,
    count: usize,
    events: Events,
    failed: Option<String>,
}

impl History {
    pub(crate) fn begin(cli: &Cli, events: Events) -> Result<Self> {
        let Some(mut keeping) = Keeping::new(cli, events) else {
            return Ok(Self(None));
        };
        let (bell, rung) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("history".to_owned());
        let thread = thread.spawn(move || rung.iter().for_each(|()| keeping.keep()));
        let thread = thread.context("cannot start a thread")?;
        Ok(Self(Some((Bell(Some(bell)), thread))))
    }

    pub(crate) fn bell(&self) -> Bell {
        match &self.0 {
            Some((bell, _)) => bell.clone(),
            None => Bell(None),
        }
    }

    /// Waits for what was asked for, unless a signal says not to. All other bells must be gone.
    pub(crate) fn finish(self, messages: &Receiver<Message>, events: Events) {
        let Some((bell, thread)) = self.0 else {
            return;
        };
        drop(bell);
        while !thread.is_finished() {
            match messages.recv_timeout(TICK) {
                Ok(Message::Signal(SIGHUP | SIGINT | SIGQUIT | SIGTERM)) => {
                    let text = "the last snapshot is durable, but not in the history: interrupted";
                    events.tell("not_kept", text, json!({ "error": "interrupted" }));
                    return;
                }
                Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(TICK),
            }
        }
    }
}

impl Bell {
    pub(crate) fn ring(&self) {
        if let Some(bell) = &self.0 {
            // If it is full, what is asked for already will have this one.
            let _asked_for_already = bell.try_send(());
        }
    }
}

/// Without a thread.
pub(crate) fn keep_once(cli: &Cli, events: Events) {
    if let Some(mut keeping) = Keeping::new(cli, events) {
        keeping.keep();
    }
}

impl Keeping {
    fn new(cli: &Cli, events: Events) -> Option<Self> {
        Some(Self {
            of_store: snapshot::History::of(&cli.store),
            count: cli.keep?,
            events,
            failed: None,
        })
    }

    /// The snapshot is durable whatever this comes to, which is told only.
    fn keep(&mut self) {
        let begun = Instant::now();
        let kept = self.add();
        let removed = self.of_store.prune(self.count);
        match kept.and_then(|kept| Ok((kept, removed?))) {
            Ok((kept, removed)) => {
                self.failed = None;
                let names: Vec<_> = removed.iter().map(Kept::name).collect();
                let fields = json!({
                    "name": kept.map(|kept| kept.name()),
                    "removed": names,
                    "seconds": begun.elapsed().as_secs_f64(),
                });
                self.events.note("kept", fields);
            }
            Err(error) => self.tell(error),
        }
    }

    /// The oldest go behind it, but where there is no room beside them.
    fn add(&self) -> Result<Option<Kept>, SnapshotError> {
        let Some(others) = self.count.checked_sub(1) else {
            return Ok(None);
        };
        match self.of_store.keep() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                if self.of_store.prune(others)?.is_empty() {
                    Err(error)
                } else {
                    self.of_store.keep().map(Some)
                }
            }
            kept => kept.map(Some),
        }
    }

    fn tell(&mut self, error: SnapshotError) {
        let text = format!("{:#}", anyhow::Error::from(error));
        let fields = json!({ "error": text });
        // The same again is told to programs only.
        if self.failed.replace(text.clone()).as_ref() == Some(&text) {
            self.events.note("not_kept", fields);
            return;
        }
        let text = format!("the snapshot is durable, but not in the history: {text}");
        self.events.tell("not_kept", &text, fields);
    }
}
