//! What is told on standard error: to people only what they must know, to programs (`--json`) everything.
//!
//! A thread of its own writes it, so that a terminal that is stopped, and a pipe that nobody reads, hold up nothing else. What they
//! do not take for too long is dropped, and how much that was is told.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::terminal::output_stops_nobody;

/// So many lines wait.
const LINES_MAX: usize = 1024;
/// At the end it is waited so long for them to be written.
const PATIENCE: Duration = Duration::from_secs(1);

static LINES: Lines = Lines {
    state: Mutex::new(State {
        waiting: VecDeque::new(),
        dropped: 0,
        json: false,
        has_writer: false,
        is_writing: false,
    }),
    changed: Condvar::new(),
};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Events {
    json: bool,
}

impl Events {
    pub(crate) fn new(json: bool) -> Self {
        LINES.state().json = json;
        Self { json }
    }

    /// For programs only.
    pub(crate) fn note(self, event: &str, fields: Value) {
        if self.json {
            line(&object(event, fields).to_string());
        }
    }

    /// For both.
    pub(crate) fn tell(self, event: &str, text: &str, fields: Value) {
        if self.json {
            let mut object = object(event, fields);
            object["text"] = text.into();
            line(&object.to_string());
        } else {
            say(text);
        }
    }
}

/// To whoever reads it, in words.
pub(crate) fn say(text: &str) {
    line(&format!("shm-restore: {text}"));
}

/// Waits until all that was told is written, as long as that may take.
pub(crate) fn flush() {
    let state = LINES.state();
    let is_busy = |state: &mut State| state.has_writer && !state.is_idle();
    // What is not written by then is lost with this process.
    let _too_late = LINES.changed.wait_timeout_while(state, PATIENCE, is_busy);
}

fn object(event: &str, fields: Value) -> Value {
    let mut object = json!({ "event": event });
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

fn line(text: &str) {
    LINES.add(format!("{text}\n"));
}

/// Lines on their way to standard error.
struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<String>,
    dropped: u64,
    json: bool,
    has_writer: bool,
    is_writing: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0 && !self.is_writing
    }

    /// Those that wait, then how many there was no room for behind them.
    fn next(&mut self) -> Option<String> {
        if let Some(line) = self.waiting.pop_front() {
            return Some(line);
        }
        let dropped = std::mem::take(&mut self.dropped);
        let text = format!("{dropped} lines are not here, as nobody has read");
        match (dropped, self.json) {
            (0, _) => None,
            (_, true) => {
                let fields = json!({ "lines": dropped, "text": text });
                Some(format!("{}\n", object("dropped", fields)))
            }
            (_, false) => Some(format!("shm-restore: {text}\n")),
        }
    }
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, line: String) {
        let mut state = self.state();
        if !state.has_writer {
            let thread = thread::Builder::new().name("events".to_owned());
            state.has_writer = thread.spawn(|| self.write_all()).is_ok();
        }
        if !state.has_writer {
            drop(state);
            write(&line);
            return;
        }
        // Behind what was dropped nothing is put before that is told, so that it is told where it was.
        if state.dropped == 0 && state.waiting.len() < LINES_MAX {
            state.waiting.push_back(line)
        } else {
            state.dropped += 1
        }
        self.changed.notify_all();
    }

    /// The life of the thread.
    fn write_all(&self) {
        output_stops_nobody();
        let mut state = self.state();
        loop {
            state = if let Some(line) = state.next() {
                state.is_writing = true;
                drop(state);
                write(&line);
                let mut state = self.state();
                state.is_writing = false;
                self.changed.notify_all();
                state
            } else {
                let woken = self.changed.wait(state);
                woken.unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

/// By one call, so that lines of several processes do not mix. A standard error that is gone is no reason to end.
fn write(line: &str) {
    let _gone = io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(json: bool, dropped: u64) -> State {
        State {
            waiting: ["first\n".to_owned(), "second\n".to_owned()].into(),
            dropped,
            json,
            has_writer: true,
            is_writing: false,
        }
    }

    #[test]
    fn what_was_dropped_is_told_where_it_was() {
        let mut words = state(false, 3);
        let mut lines = std::iter::from_fn(|| words.next()).collect::<Vec<_>>();
        assert_eq!(lines.len(), 3);
        assert!(lines[2].starts_with("shm-restore: 3 lines"), "{lines:?}");
        let mut json = state(true, 3);
        lines = std::iter::from_fn(|| json.next()).collect();
        let told: Value = serde_json::from_str(&lines[2]).expect("an object");
        assert_eq!(
            (&told["event"], &told["lines"]),
            (&json!("dropped"), &json!(3))
        );
        let mut none = state(false, 0);
        assert_eq!(std::iter::from_fn(|| none.next()).count(), 2);
        assert!(none.is_idle());
    }
}
