//! Snapshots while the command runs, on a thread of their own: a slow disk does not delay signals.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use flatspan::shm::{Memfd, Notify};
use serde_json::json;

use crate::cli::{Cli, Mode};
use crate::events::Events;
use crate::freeze_command::CommandFreezer;
use crate::history_thread::Trigger;
use crate::host::{Outcome, StateHost, is_poisoned};
use crate::statistics::Statistics;

/// Takes snapshots, and reopens a poisoned store.
pub(crate) struct SnapshotTaker {
    pub(crate) cli: Arc<Cli>,
    pub(crate) memory: Memfd,
    /// `None` if the store could not be reopened.
    pub(crate) host: Option<StateHost>,
    pub(crate) freezer: Arc<CommandFreezer>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) history: Trigger,
    pub(crate) reports: Reports,
}

/// Reports the outcomes of snapshots. A repeated error is an event for JSON output only.
pub(crate) struct Reports {
    events: Events,
    is_starved: bool,
    error: Option<String>,
}

/// State of the main thread and the snapshot thread.
pub(crate) struct Shared {
    statistics: Mutex<Statistics>,
    snapshot: Mutex<()>,
    pub(crate) manager: Notify,
}

/// The thread.
pub(crate) struct SnapshotThread {
    stop: Sender<()>,
    thread: JoinHandle<SnapshotTaker>,
}

impl Shared {
    pub(crate) fn new(manager: Notify) -> Self {
        Self {
            statistics: Mutex::new(Statistics::new()),
            snapshot: Mutex::new(()),
            manager,
        }
    }

    pub(crate) fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Prevents snapshots while the guard is held.
    pub(crate) fn lock_snapshots(&self) -> MutexGuard<'_, ()> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotTaker {
    /// Starts the thread. Each interval starts at the end of the previous snapshot.
    pub(crate) fn run(mut self) -> Result<SnapshotThread> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("snapshots".to_owned())
            .spawn(move || {
                if self.cli.mode == Mode::Exit {
                    // Only the drop of the sender ends this wait.
                    let _ = stopped.recv();
                    return self;
                }
                while stopped.recv_timeout(self.cli.interval) == Err(RecvTimeoutError::Timeout) {
                    self.take(StateHost::snapshot);
                }
                self
            })
            .context("cannot start a thread")?;
        Ok(SnapshotThread { stop, thread })
    }

    /// Takes a snapshot and reports the outcome. Returns `None` if it failed.
    pub(crate) fn take(
        &mut self,
        snapshot: fn(&mut StateHost) -> Result<Outcome>,
    ) -> Option<Outcome> {
        let shared = Arc::clone(&self.shared);
        let guard = shared.lock_snapshots();
        let outcome = self.try_take(snapshot);
        shared.statistics().add(&outcome);
        self.reports.report(&outcome, &shared.manager);
        drop(guard);
        if matches!(outcome, Ok(Outcome::Persisted(_))) {
            self.history.pull();
        }
        outcome.ok()
    }

    fn try_take(&mut self, snapshot: fn(&mut StateHost) -> Result<Outcome>) -> Result<Outcome> {
        let outcome = match &mut self.host {
            Some(host) => snapshot(host),
            None => Err(anyhow!("the store is closed")),
        };
        match outcome {
            Err(error) if self.host.is_none() || is_poisoned(&error) => {
                // Dropping the host releases the lock of the store.
                self.host = None;
                let host = StateHost::open(&self.cli, &self.memory, Some(&self.freezer))?;
                snapshot(self.host.insert(host))
            }
            outcome => outcome,
        }
    }

    pub(crate) fn take_host(&mut self) -> Option<StateHost> {
        self.host.take()
    }
}

impl Reports {
    pub(crate) fn new(events: Events) -> Self {
        Self {
            events,
            is_starved: false,
            error: None,
        }
    }

    fn report(&mut self, outcome: &Result<Outcome>, manager: &Notify) {
        match outcome {
            Ok(Outcome::Persisted(snapshot)) => {
                self.events.emit("snapshot", snapshot.fields());
                let generation = snapshot.generation;
                // The status of a service is informational.
                drop(manager.status(&format!("generation {generation} is durable")));
            }
            Ok(Outcome::Starved { attempts }) => self.report_starved(*attempts),
            Ok(Outcome::Unchanged | Outcome::NoQueue) => {}
            Ok(Outcome::CommandExited) => return,
            Err(error) => {
                self.report_error(error, manager);
                return;
            }
        }
        if self.error.take().is_some() {
            self.events
                .report("snapshots_resumed", "snapshots succeed again", json!({}));
        }
    }

    fn report_starved(&mut self, attempts: u32) {
        let fields = json!({ "attempts": attempts });
        if std::mem::replace(&mut self.is_starved, true) {
            self.events.emit("starved", fields);
            return;
        }
        let message = format!(
            "no snapshot: the memory changed during all {attempts} copy attempts; use a longer ring or commit less often"
        );
        self.events.report("starved", &message, fields);
    }

    fn report_error(&mut self, error: &anyhow::Error, manager: &Notify) {
        let error = format!("{error:#}");
        let message = format!("snapshot failed: {error}");
        // The status of a service is informational.
        drop(manager.status(&message));
        let fields = json!({ "error": error });
        if self.error.replace(error.clone()) == Some(error) {
            self.events.emit("snapshot_failed", fields);
        } else {
            self.events.report("snapshot_failed", &message, fields);
        }
    }
}

impl SnapshotThread {
    /// Stops the thread after the snapshot that is in progress.
    pub(crate) fn stop(self) -> SnapshotTaker {
        drop(self.stop);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
