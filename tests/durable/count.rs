//! `count` continues at the stored number after any end of the process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{durable, stdout};
use crate::support::{self, cleaner};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Running `durable count`, killed on drop.
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
            .expect("program starts");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("its output");
        line
    }

    /// Reads `lines` progress lines and returns the number of the last one.
    fn count(&mut self, lines: usize) -> u64 {
        let lines = std::iter::repeat_with(|| self.line()).take(lines);
        number_after("at ", &lines.last().expect("a line"))
    }

    /// Ends the process by a signal and returns the rest of its output.
    fn end(mut self, signal: Signal) -> String {
        kill_process(Pid::from_child(&self.process), signal).expect("a signal");
        assert!(
            cleaner::wait(&mut self.process, TIMEOUT),
            "the process does not end"
        );
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("its output");
        rest
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn number_after(words: &str, text: &str) -> u64 {
    let rest = text
        .split_once(words)
        .unwrap_or_else(|| panic!("no {words:?} in {text:?}"))
        .1;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .expect("a number")
}

/// Counts one step and returns the greeting.
fn count_once(store: &Path) -> String {
    let output = durable()
        .arg("count")
        .arg(store)
        .args(["--times", "1"])
        .output();
    let output = output.expect("program starts");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    stdout(&output)
}

#[test]
fn count_continues_after_a_kill() {
    let directory = support::temp_dir();
    let store = directory.path().join("store");
    let mut counter = Counter::start(&store);
    assert!(counter.line().starts_with("begins at 0, "));
    let mut last = counter.count(3);
    counter.end(Signal::KILL);
    for _ in 0..3 {
        let mut counter = Counter::start(&store);
        let begun = number_after("continues at ", &counter.line());
        assert!(begun >= last, "{last} was counted, {begun} came back");
        last = counter.count(1);
        counter.end(Signal::KILL);
    }
    let greeting = count_once(&store);
    assert!(
        number_after("continues at ", &greeting) >= last,
        "{greeting}"
    );
    // The journal has the last number.
    assert!(number_after("generation ", &greeting) >= 1, "{greeting}");
}

#[test]
fn interrupted_count_closes_the_store_and_continues_at_the_same_number() {
    let directory = support::temp_dir();
    let store = directory.path().join("store");
    for signal in [Signal::INT, Signal::TERM] {
        let mut counter = Counter::start(&store);
        counter.line();
        counter.count(1);
        let rest = counter.end(signal);
        let closed = number_after("closed at ", &rest);
        let greeting = count_once(&store);
        assert_eq!(
            number_after("continues at ", &greeting),
            closed,
            "{greeting}"
        );
        assert!(greeting.contains(", 0 records replayed"), "{greeting}");
    }
}

#[test]
fn count_rejects_a_store_without_a_count() {
    let directory = support::temp_dir();
    let path = directory.path().join("other");
    let options = flatspan::snapshot::StoreOptions::default().initial_bytes(4096);
    let store = flatspan::snapshot::Store::open(&path, options).expect("a store");
    let written: Result<(), flatspan::snapshot::StoreError> =
        store.transaction(|tx| tx.write_at(0, &[77]));
    written.expect("a transaction");
    store.close().expect("closed");
    let output = durable()
        .arg("count")
        .arg(&path)
        .output()
        .expect("program starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    std::fs::write(directory.path().join("file"), "").expect("a file");
    let output = durable()
        .arg("count")
        .arg(directory.path().join("file"))
        .output();
    assert_eq!(output.expect("program starts").status.code(), Some(4));
}
