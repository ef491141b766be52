//! `count` goes on where it was, however it ended.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{durable, stdout};
use crate::support::{self, cleaner};

const PATIENCE: Duration = Duration::from_secs(30);

/// `durable count` at work, killed on drop.
struct Counter {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Counter {
    fn start(store: &Path) -> Self {
        let mut process = durable()
            .arg("count")
            .arg(store)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("its output");
        line
    }

    /// Waits until it says so often where it is; the last that it said.
    fn count(&mut self, lines: usize) -> u64 {
        let lines = std::iter::repeat_with(|| self.line()).take(lines);
        number_behind("at ", &lines.last().expect("a line"))
    }

    /// Ends it by a signal; what it said last.
    fn end(mut self, signal: Signal) -> String {
        kill_process(Pid::from_child(&self.process), signal).expect("a signal");
        assert!(
            cleaner::wait(&mut self.process, PATIENCE),
            "it does not end"
        );
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("its output");
        rest
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn number_behind(words: &str, text: &str) -> u64 {
    let rest = text
        .split_once(words)
        .unwrap_or_else(|| panic!("no {words:?} in {text:?}"))
        .1;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .expect("a number")
}

/// Counts one step; the greeting.
fn once(store: &Path) -> String {
    let output = durable()
        .arg("count")
        .arg(store)
        .args(["--times", "1"])
        .output();
    let output = output.expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    stdout(&output)
}

#[test]
fn a_count_goes_on_after_it_was_killed() {
    let folder = support::temp_dir();
    let store = folder.path().join("store");
    let mut counter = Counter::start(&store);
    assert!(counter.line().starts_with("begins at 0, "));
    let mut last = counter.count(3);
    counter.end(Signal::KILL);
    for _ in 0..3 {
        let mut counter = Counter::start(&store);
        let begun = number_behind("continues at ", &counter.line());
        assert!(begun >= last, "{last} was counted, {begun} came back");
        last = counter.count(1);
        counter.end(Signal::KILL);
    }
    let greeting = once(&store);
    assert!(
        number_behind("continues at ", &greeting) >= last,
        "{greeting}"
    );
    // The journal had it.
    assert!(number_behind("generation ", &greeting) >= 1, "{greeting}");
}

#[test]
fn a_count_that_is_interrupted_is_closed_and_goes_on_exactly_there() {
    let folder = support::temp_dir();
    let store = folder.path().join("store");
    for signal in [Signal::INT, Signal::TERM] {
        let mut counter = Counter::start(&store);
        counter.line();
        counter.count(1);
        let rest = counter.end(signal);
        let closed = number_behind("closed at ", &rest);
        let greeting = once(&store);
        assert_eq!(
            number_behind("continues at ", &greeting),
            closed,
            "{greeting}"
        );
        assert!(greeting.contains(", 0 records replayed"), "{greeting}");
    }
}

#[test]
fn what_is_no_count_is_refused() {
    let folder = support::temp_dir();
    let path = folder.path().join("other");
    let options = flatspan::snapshot::StoreOptions::default().initial_bytes(4096);
    let store = flatspan::snapshot::Store::open(&path, options).expect("a store");
    let written: Result<(), flatspan::snapshot::SnapshotError> =
        store.transaction(|tx| tx.write(0, &[77]));
    written.expect("a transaction");
    store.close().expect("closed");
    let output = durable()
        .arg("count")
        .arg(&path)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    std::fs::write(folder.path().join("file"), "").expect("a file");
    let output = durable()
        .arg("count")
        .arg(folder.path().join("file"))
        .output();
    assert_eq!(output.expect("the program starts").status.code(), Some(4));
}
