//! Snapshots while the command runs, on a thread of their own: signals are passed on however slow the disk is.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use flatspan::shm::{Notify, SharedFile};
use serde_json::json;

use crate::cli::{Cli, How};
use crate::events::Events;
use crate::history::Bell;
use crate::keeper::{Keeper, Outcome, is_poisoned};
use crate::standing::Standing;
use crate::statistics::Statistics;

/// Takes snapshots, and opens the store again where only that helps.
pub(crate) struct Taker {
    cli: Arc<Cli>,
    memory: SharedFile,
    /// `None` after opening it again has failed.
    keeper: Option<Keeper>,
    standing: Arc<Standing>,
    shared: Arc<Shared>,
    events: Events,
    is_starved: bool,
    failed: Option<String>,
    history: Bell,
}

/// What both threads use.
pub(crate) struct Shared {
    statistics: Mutex<Statistics>,
    turn: Mutex<()>,
    pub(crate) manager: Notify,
}

/// The thread.
pub(crate) struct Running {
    bell: Sender<()>,
    thread: JoinHandle<Taker>,
}

impl Shared {
    pub(crate) fn new(manager: Notify) -> Self {
        Self {
            statistics: Mutex::new(Statistics::new()),
            turn: Mutex::new(()),
            manager,
        }
    }

    pub(crate) fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// No snapshot is in progress as long as it is held.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taker {
    pub(crate) fn new(
        cli: Arc<Cli>,
        memory: SharedFile,
        keeper: Keeper,
        standing: Arc<Standing>,
        shared: Arc<Shared>,
        history: Bell,
        events: Events,
    ) -> Self {
        Self {
            history,
            cli,
            memory,
            keeper: Some(keeper),
            standing,
            shared,
            events,
            is_starved: false,
            failed: None,
        }
    }

    /// Begins to take them, one an interval after the end of the one before.
    pub(crate) fn run(mut self) -> Result<Running> {
        let (bell, rung) = mpsc::channel();
        let thread = thread::Builder::new().name("snapshots".to_owned());
        let thread = thread.spawn(move || {
            if self.cli.snapshot == How::Exit {
                let _end = rung.recv();
                return self;
            }
            while rung.recv_timeout(self.cli.interval) == Err(RecvTimeoutError::Timeout) {
                self.take(Keeper::snapshot);
            }
            self
        });
        Ok(Running {
            bell,
            thread: thread.context("cannot start a thread")?,
        })
    }

    /// Takes one and tells what it came to. Returns nothing where it has failed.
    pub(crate) fn take(&mut self, how: fn(&mut Keeper) -> Result<Outcome>) -> Option<Outcome> {
        let shared = Arc::clone(&self.shared);
        let turn = shared.turn();
        let outcome = self.try_to_take(how);
        shared.statistics().add(&outcome);
        self.tell(&outcome);
        drop(turn);
        if matches!(outcome, Ok(Outcome::Taken(_))) {
            self.history.ring();
        }
        outcome.ok()
    }

    fn try_to_take(&mut self, how: fn(&mut Keeper) -> Result<Outcome>) -> Result<Outcome> {
        let outcome = match &mut self.keeper {
            Some(keeper) => how(keeper),
            None => Err(anyhow!("the store is closed")),
        };
        match outcome {
            Err(error) if self.keeper.is_none() || is_poisoned(&error) => {
                // Its lock must be free.
                self.keeper = None;
                let standing = Some(&self.standing);
                let keeper = Keeper::open(&self.cli, &self.memory, standing)?;
                how(self.keeper.insert(keeper))
            }
            outcome => outcome,
        }
    }

    fn tell(&mut self, outcome: &Result<Outcome>) {
        match outcome {
            Ok(Outcome::Taken(taken)) => {
                self.events.note("snapshot", taken.fields());
                let generation = taken.generation;
                let status = format!("generation {generation} is durable");
                let _not_vital = self.shared.manager.status(&status);
            }
            Ok(Outcome::Starved { attempts }) => {
                let fields = json!({ "attempts": attempts });
                let text = "the command commits faster than its memory can be copied; a longer ring would help";
                if std::mem::replace(&mut self.is_starved, true) {
                    self.events.note("starved", fields)
                } else {
                    self.events.tell("starved", text, fields)
                }
            }
            Ok(Outcome::Nothing | Outcome::NoQueue) => {}
            Ok(Outcome::Ended) => return,
            Err(error) => {
                let text = format!("no snapshot: {error:#}");
                let _not_vital = self.shared.manager.status(&text);
                let fields = json!({ "error": format!("{error:#}") });
                // The same again is told to programs only.
                if self.failed.replace(text.clone()) == Some(text.clone()) {
                    self.events.note("failed", fields)
                } else {
                    self.events.tell("failed", &text, fields)
                }
                return;
            }
        }
        if self.failed.take().is_some() {
            self.events
                .tell("recovered", "snapshots are taken again", json!({}));
        }
    }

    pub(crate) fn keeper(&mut self) -> Option<Keeper> {
        self.keeper.take()
    }
}

impl Running {
    /// Behind the one that is in progress there are no more.
    pub(crate) fn stop(self) -> Taker {
        drop(self.bell);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
