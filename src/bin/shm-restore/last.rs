//! When the command has ended.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::Result;
use flatspan::shm::process::descendants_with;
use flatspan::shm::{SharedFile, ShmError};
use serde_json::json;

use crate::child::{exit_code, is_crash};
use crate::cli::{Cli, OnCrash};
use crate::crash;
use crate::events::Events;
use crate::failure::exit;
use crate::keeper::{Keeper, Outcome};
use crate::marks::Marks;
use crate::snapshots::Taker;

/// A memory that is shorter has no queue: docs/shared-memory-protocol.md.
const QUEUE_BYTES_MIN: u64 = 8192;

/// Keeps the state, or what a crash has left of it, and gives the exit code.
pub(crate) fn end(
    cli: &Cli,
    memory: &SharedFile,
    taker: Taker,
    marks: Option<&Marks>,
    status: ExitStatus,
    events: Events,
) -> u8 {
    events.note(
        "ended",
        json!({ "code": status.code(), "signal": status.signal() }),
    );
    tell_remaining(cli, memory, events);
    let is_kept = match marks {
        Some(marks) if is_crash(status) => give_up(cli, memory, taker, marks, events),
        marks => {
            if let Some(marks) = marks {
                tell_good(marks, events);
            }
            keep(cli, memory, taker, events)
        }
    };
    if is_kept {
        exit_code(status)
    } else {
        exit::FAILED
    }
}

/// Its memory is good, whether it can be kept or not. Killed behind this, before the last snapshot is durable, this program leaves memory
/// that the next start takes.
fn tell_good(marks: &Marks, events: Events) {
    if let Err(error) = marks.good() {
        let text = format!(
            "a start with the same memory will take it for that of a killed program, and restore the last snapshot into it: {error:#}"
        );
        events.tell("not_unmarked", &text, json!({}));
    }
}

fn keep(cli: &Cli, memory: &SharedFile, mut taker: Taker, events: Events) -> bool {
    let last: fn(&mut Keeper) -> Result<Outcome> = |keeper| match keeper.snapshot()? {
        Outcome::Starved { attempts } => {
            anyhow::bail!("others still commit, and are faster ({attempts} attempts)")
        }
        outcome => Ok(outcome),
    };
    // A store that a sync has failed is opened anew by the second attempt; other reasons may be over by then.
    let Some(outcome) = taker.take(last).or_else(|| taker.take(last)) else {
        let text = "the last snapshot failed: the newest state is that of the one before";
        events.tell("last", text, json!({ "durable": false }));
        return false;
    };
    if matches!(outcome, Outcome::NoQueue) && !tell_no_queue(cli, memory, events) {
        return false;
    }
    if let Some(Err(error)) = taker.keeper().map(Keeper::close) {
        // It is durable, and only opening takes longer.
        let text = format!("the store could not be closed: {error:#}");
        events.tell("not_closed", &text, json!({}));
    }
    events.note("last", json!({ "durable": true }));
    true
}

/// Returns whether that is as good as a snapshot: there is nothing to be kept.
fn tell_no_queue(cli: &Cli, memory: &SharedFile, events: Events) -> bool {
    let store = cli.store.display();
    let (is_good, text) = match content(memory) {
        Ok(Content::Queue) => return true,
        Ok(Content::Nothing) => (
            true,
            format!("{store}: the command has not used the memory, so nothing is kept"),
        ),
        Ok(Content::Other) => (
            false,
            format!(
                "{store}: nothing is kept of the memory, as there is no queue in it (--snapshot=exit or stop keeps that of any program)"
            ),
        ),
        Err(error) => (
            false,
            format!("{store}: there is no queue in the memory: {error}"),
        ),
    };
    events.tell("no_queue", &text, json!({ "durable": is_good }));
    is_good
}

/// What is in a memory of which the host says that there is no queue.
enum Content {
    Nothing,
    /// One that was restored, and that no program has gone on with: the store has it.
    Queue,
    Other,
}

/// A queue begins with a word that is not zero. Its two first pages are there before that.
fn content(memory: &SharedFile) -> Result<Content, ShmError> {
    Ok(match memory.len()? {
        0 => Content::Nothing,
        1..QUEUE_BYTES_MIN => Content::Other,
        _ => match memory.map(0..QUEUE_BYTES_MIN)?.load(0) {
            None | Some(0) => Content::Other,
            Some(_) => Content::Queue,
        },
    })
}

/// The store stays as the last snapshot has left it.
fn give_up(
    cli: &Cli,
    memory: &SharedFile,
    mut taker: Taker,
    marks: &Marks,
    events: Events,
) -> bool {
    // While the store is ours.
    let marked = marks.killed();
    let saved = match cli.on_crash {
        None | Some(OnCrash::Rollback) => crash::save(&cli.store, memory).map(Some),
        Some(OnCrash::Discard | OnCrash::Keep) => Ok(None),
    };
    drop(taker.keeper());
    let mut is_done = true;
    if let Err(error) = marked {
        let text = format!(
            "the next start with the same memory will take it for that of a command whose end nobody saw: {error:#}"
        );
        events.tell("not_marked", &text, json!({}));
    }
    match saved {
        Ok(path) => {
            let path = path.map(|path| path.display().to_string());
            let whither = path.as_ref().map_or("was given up".to_owned(), |path| {
                format!("was saved as {path}")
            });
            let text = format!(
                "the command was killed: the last snapshot stays the newest, and the memory {whither}"
            );
            events.tell("crashed", &text, json!({ "saved": path }));
        }
        Err(error) => {
            let text =
                format!("the command was killed, and its memory could not be saved: {error:#}");
            events.tell("crashed", &text, json!({ "saved": null }));
            is_done = false;
        }
    }
    is_done
}

/// What they write behind the last snapshot is in none.
fn tell_remaining(cli: &Cli, memory: &SharedFile, events: Events) {
    let Ok(remaining) = descendants_with(memory) else {
        return;
    };
    let names: Vec<String> = remaining
        .iter()
        .map(|process| format!("{} ({})", process.pid, process.name))
        .collect();
    if !names.is_empty() {
        let text = format!(
            "{}: nothing is kept of what these do with the memory behind the last snapshot: {}",
            cli.store.display(),
            names.join(", ")
        );
        events.tell("remaining", &text, json!({ "processes": names }));
    }
}
