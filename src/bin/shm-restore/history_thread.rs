//! The history of snapshots (`--keep-last`).
//!
//! A thread of its own maintains it: without reflinks each entry is a copy of the state, and
//! neither snapshots nor the final one wait for that. Of the snapshots taken meanwhile, the newest
//! is added.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flatspan::snapshot::{History, HistorySnapshot, StoreError};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::cli::Cli;
use crate::events::Events;
use crate::main_loop::Message;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The thread; `None` without `--keep-last`.
pub(crate) struct HistoryThread(Option<(Trigger, JoinHandle<()>)>);

/// Requests that the thread adds the newest snapshot.
#[derive(Clone)]
pub(crate) struct Trigger(Option<SyncSender<()>>);

struct Recorder {
    history: History,
    keep_last: usize,
    events: Events,
    error: Option<String>,
}

impl HistoryThread {
    pub(crate) fn start(cli: &Cli, events: Events) -> Result<Self> {
        let Some(mut recorder) = Recorder::new(cli, events) else {
            return Ok(Self(None));
        };
        let (sender, requests) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || {
                for () in &requests {
                    recorder.record();
                }
            })
            .context("cannot start a thread")?;
        Ok(Self(Some((Trigger(Some(sender)), thread))))
    }

    pub(crate) fn trigger(&self) -> Trigger {
        match &self.0 {
            Some((trigger, _)) => trigger.clone(),
            None => Trigger(None),
        }
    }

    /// Waits for pending requests, or for a signal that ends the wait. All other triggers must be
    /// dropped before.
    pub(crate) fn finish(self, messages: &Receiver<Message>, events: Events) {
        let Some((trigger, thread)) = self.0 else {
            return;
        };
        drop(trigger);
        while !thread.is_finished() {
            match messages.recv_timeout(POLL_INTERVAL) {
                Ok(Message::Signal(SIGHUP | SIGINT | SIGQUIT | SIGTERM)) => {
                    let message = "interrupted: the final snapshot is durable but was not added to the history";
                    events.report("history_failed", message, json!({ "error": "interrupted" }));
                    return;
                }
                Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(POLL_INTERVAL),
            }
        }
    }
}

impl Trigger {
    pub(crate) fn pull(&self) {
        if let Some(sender) = &self.0 {
            // A full channel holds a request that will find this snapshot, too.
            let _ = sender.try_send(());
        }
    }
}

/// Adds the newest snapshot on the calling thread.
pub(crate) fn add_once(cli: &Cli, events: Events) {
    if let Some(mut recorder) = Recorder::new(cli, events) {
        recorder.record();
    }
}

impl Recorder {
    fn new(cli: &Cli, events: Events) -> Option<Self> {
        Some(Self {
            history: History::new(&cli.store),
            keep_last: cli.keep_last?,
            events,
            error: None,
        })
    }

    /// Adds the newest snapshot, removes old ones and reports both. The snapshot itself is durable
    /// in any case.
    fn record(&mut self) {
        let start = Instant::now();
        let added = self.add();
        let removed = self.history.prune(self.keep_last);
        match added.and_then(|added| Ok((added, removed?))) {
            Ok((added, removed)) => {
                self.error = None;
                let removed: Vec<_> = removed.iter().map(HistorySnapshot::name).collect();
                let fields = json!({
                    "name": added.map(|snapshot| snapshot.name()),
                    "removed": removed,
                    "duration_seconds": start.elapsed().as_secs_f64(),
                });
                self.events.emit("history_added", fields);
            }
            Err(error) => self.report(error),
        }
    }

    /// Adds the newest snapshot. On a full disk the old ones are removed before, not after.
    fn add(&self) -> Result<Option<HistorySnapshot>, StoreError> {
        let Some(others) = self.keep_last.checked_sub(1) else {
            return Ok(None);
        };
        match self.history.add() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                if self.history.prune(others)?.is_empty() {
                    return Err(error);
                }
                self.history.add().map(Some)
            }
            added => added.map(Some),
        }
    }

    fn report(&mut self, error: StoreError) {
        let error = format!("{:#}", anyhow::Error::from(error));
        let fields = json!({ "error": error });
        // A repeated error is an event for JSON output only.
        if self.error.replace(error.clone()).as_ref() == Some(&error) {
            self.events.emit("history_failed", fields);
            return;
        }
        let message = format!("the snapshot is durable but was not added to the history: {error}");
        self.events.report("history_failed", &message, fields);
    }
}
