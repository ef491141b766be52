//! Events on standard error: text with the important ones, or (`--json`) all as JSON.
//!
//! A thread of its own writes them. A stopped terminal or a pipe without a reader blocks only this
//! thread. Lines that it cannot write in time are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::job_control::block_sigttou;

/// Lines in the queue.
const LINES_MAX: usize = 1024;
/// Limit for the last lines at exit.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

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

    /// Emits an event that only JSON output has.
    pub(crate) fn emit(self, event: &str, fields: Value) {
        if self.json {
            line(&object(event, fields).to_string());
        }
    }

    /// Emits an event that text output has as its message.
    pub(crate) fn report(self, event: &str, message: &str, fields: Value) {
        if self.json {
            let mut object = object(event, fields);
            object["message"] = message.into();
            line(&object.to_string());
        } else {
            print(message);
        }
    }
}

/// Prints a message of this program as text.
pub(crate) fn print(message: &str) {
    line(&format!("shm-restore: {message}"));
}

/// Waits until all lines are written, for a limited time.
pub(crate) fn flush() {
    let state = LINES.state();
    let is_busy = |state: &mut State| state.has_writer && !state.is_idle();
    // Lines that are not written by then are lost with this process.
    drop(
        LINES
            .changed
            .wait_timeout_while(state, FLUSH_TIMEOUT, is_busy),
    );
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

/// The queue of lines for standard error.
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

    /// The next line: first those in the queue, then the number of lines dropped after them.
    fn next(&mut self) -> Option<String> {
        if let Some(line) = self.waiting.pop_front() {
            return Some(line);
        }
        let dropped = std::mem::take(&mut self.dropped);
        let message =
            format!("{dropped} lines were dropped, since standard error was not read in time");
        match (dropped, self.json) {
            (0, _) => None,
            (_, true) => {
                let fields = json!({ "lines": dropped, "message": message });
                Some(format!("{}\n", object("events_dropped", fields)))
            }
            (_, false) => Some(format!("shm-restore: {message}\n")),
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
            state.has_writer = thread
                .spawn(|| {
                    self.write_all();
                })
                .is_ok();
        }
        if !state.has_writer {
            drop(state);
            write(&line);
            return;
        }
        // After a dropped line nothing is queued until the drop is reported, so that the report is
        // in the place of the dropped lines.
        if state.dropped == 0 && state.waiting.len() < LINES_MAX {
            state.waiting.push_back(line);
        } else {
            state.dropped += 1;
        }
        self.changed.notify_all();
    }

    /// Runs the thread that writes.
    fn write_all(&self) -> ! {
        block_sigttou();
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
                self.changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

/// Writes a line by one call, so that lines of several processes do not mix.
fn write(line: &str) {
    // A closed standard error does not end this program.
    drop(io::stderr().lock().write_all(line.as_bytes()));
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
    fn dropped_lines_are_reported_in_place() {
        let mut text = state(false, 3);
        let mut lines = std::iter::from_fn(|| text.next()).collect::<Vec<_>>();
        assert_eq!(lines.len(), 3);
        assert!(lines[2].starts_with("shm-restore: 3 lines"), "{lines:?}");
        let mut json = state(true, 3);
        lines = std::iter::from_fn(|| json.next()).collect();
        let event: Value = serde_json::from_str(&lines[2]).expect("an object");
        assert_eq!(
            (&event["event"], &event["lines"]),
            (&json!("events_dropped"), &json!(3))
        );
        let mut none = state(false, 0);
        assert_eq!(std::iter::from_fn(|| none.next()).count(), 2);
        assert!(none.is_idle());
    }
}
