//! The exit of the command: the final snapshot, or the memory of a crash.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::Result;
use flatspan::shm::process::descendants_with;
use flatspan::shm::{Memfd, ShmError};
use serde_json::json;

use crate::child::{exit_code, is_crash};
use crate::cli::{Cli, OnCrash};
use crate::crash_file;
use crate::events::Events;
use crate::exit_code;
use crate::host::{Outcome, StateHost};
use crate::memory_state::MemoryStateFile;
use crate::snapshot_thread::SnapshotTaker;

/// A shorter memory has no queue (docs/shared-memory-protocol.md).
const QUEUE_BYTES_MIN: u64 = 8192;

/// The command that has exited, and what it leaves.
pub(crate) struct Exit<'a> {
    pub(crate) cli: &'a Cli,
    pub(crate) memory: &'a Memfd,
    pub(crate) memory_state: Option<&'a MemoryStateFile>,
    pub(crate) status: ExitStatus,
    pub(crate) events: Events,
}

impl Exit<'_> {
    /// Persists the state or handles the crash. Returns the exit code of this program.
    pub(crate) fn finish(&self, taker: SnapshotTaker) -> u8 {
        self.events.emit(
            "command_exited",
            json!({ "exit_code": self.status.code(), "signal": self.status.signal() }),
        );
        self.report_remaining();
        let is_done = match self.memory_state {
            Some(memory_state) if is_crash(self.status) => self.handle_crash(taker, memory_state),
            memory_state => {
                if let Some(memory_state) = memory_state {
                    self.record_good(memory_state);
                }
                self.persist(taker)
            }
        };
        if is_done {
            exit_code(self.status)
        } else {
            exit_code::WRAPPER_FAILED
        }
    }

    /// Records that the memory is good, whether the final snapshot succeeds or not. If this program
    /// is killed before that snapshot is durable, the next start uses the memory.
    fn record_good(&self, memory_state: &MemoryStateFile) {
        if let Err(error) = memory_state.set_good() {
            let message = format!(
                "the next start with the same memory will treat it as that of a killed program and restore the last snapshot: {error:#}"
            );
            self.events
                .report("memory_state_clear_failed", &message, json!({}));
        }
    }

    /// Takes the final snapshot and closes the store. Returns whether the state is durable.
    fn persist(&self, mut taker: SnapshotTaker) -> bool {
        let snapshot: fn(&mut StateHost) -> Result<Outcome> = |host| match host.snapshot()? {
            Outcome::Starved { attempts } => {
                anyhow::bail!("the memory changed during all {attempts} copy attempts")
            }
            outcome => Ok(outcome),
        };
        // The second attempt reopens a poisoned store; other causes may be gone by then.
        let Some(outcome) = taker.take(snapshot).or_else(|| taker.take(snapshot)) else {
            let message = format!(
                "final snapshot failed; the newest state is that of the snapshot before. If the memory still exists, stop the remaining processes and run `shm-restore --once {}`",
                self.cli.store.display()
            );
            self.events
                .report("final_snapshot", &message, json!({ "durable": false }));
            return false;
        };
        if matches!(outcome, Outcome::NoQueue) && !self.report_no_queue() {
            return false;
        }
        if let Some(Err(error)) = taker.take_host().map(StateHost::close) {
            // The state is durable; only the next open takes longer.
            let message = format!("cannot close the store: {error:#}");
            self.events.report("close_failed", &message, json!({}));
        }
        self.events
            .emit("final_snapshot", json!({ "durable": true }));
        true
    }

    /// Returns whether nothing is lost, although the memory has no queue.
    fn report_no_queue(&self) -> bool {
        let store = self.cli.store.display();
        let (is_durable, message) = match content(self.memory) {
            Ok(Content::Queue) => return true,
            Ok(Content::Empty) => (
                true,
                format!("{store}: the command did not use the memory, so there is no state"),
            ),
            Ok(Content::Other) => (
                false,
                format!(
                    "{store}: the memory has no queue, so its content is not persisted; --mode=exit or freeze persists the memory of any program"
                ),
            ),
            Err(error) => (
                false,
                format!("{store}: cannot inspect the memory for a queue: {error}"),
            ),
        };
        self.events
            .report("no_queue", &message, json!({ "durable": is_durable }));
        is_durable
    }

    /// Keeps the newest snapshot and saves the memory if `--on-crash` says so. Returns whether that
    /// succeeded.
    fn handle_crash(&self, mut taker: SnapshotTaker, memory_state: &MemoryStateFile) -> bool {
        // The host holds the lock of the store until both are done.
        let recorded = memory_state.set_killed();
        let saved = match self.cli.on_crash {
            None | Some(OnCrash::Rollback) => {
                crash_file::save(&self.cli.store, self.memory).map(Some)
            }
            Some(OnCrash::Discard | OnCrash::Accept) => Ok(None),
        };
        drop(taker.take_host());
        if let Err(error) = recorded {
            let message = format!(
                "the next start with the same memory will treat it as that of a command whose exit was not observed: {error:#}"
            );
            self.events
                .report("memory_state_write_failed", &message, json!({}));
        }
        let is_saved = saved.is_ok();
        let (path, message) = match saved {
            Ok(Some(path)) => {
                let path = path.display().to_string();
                let message = format!(
                    "the command was killed: the newest state is the last snapshot, the memory was saved as {path}"
                );
                (Some(path), message)
            }
            Ok(None) => (
                None,
                "the command was killed: the newest state is the last snapshot, the memory was discarded"
                    .to_owned(),
            ),
            Err(error) => (
                None,
                format!("the command was killed, and its memory could not be saved: {error:#}"),
            ),
        };
        self.events
            .report("command_crashed", &message, json!({ "crash_file": path }));
        is_saved
    }

    /// Names descendants that still have the memory: no snapshot has their later writes.
    fn report_remaining(&self) {
        let Ok(remaining) = descendants_with(self.memory) else {
            return;
        };
        let names: Vec<String> = remaining
            .iter()
            .map(|process| format!("{} ({})", process.pid, process.name))
            .collect();
        if names.is_empty() {
            return;
        }
        let message = format!(
            "{}: writes of these processes after the final snapshot are not persisted: {}",
            self.cli.store.display(),
            names.join(", ")
        );
        self.events.report(
            "processes_remaining",
            &message,
            json!({ "processes": names }),
        );
    }
}

/// The content of a memory in which the host found no new commits.
enum Content {
    Empty,
    /// A restored queue that no client has continued; the store has its state.
    Queue,
    Other,
}

/// A queue starts with a word that is not zero, and has at least two pages.
fn content(memory: &Memfd) -> Result<Content, ShmError> {
    Ok(match memory.len()? {
        0 => Content::Empty,
        1..QUEUE_BYTES_MIN => Content::Other,
        _ => match memory.map(0..QUEUE_BYTES_MIN)?.load(0) {
            None | Some(0) => Content::Other,
            Some(_) => Content::Queue,
        },
    })
}
