//! The program, and stores to run it on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use flatspan::snapshot::{Store, StoreError, StoreOptions, WriteMode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const PART: u64 = 64 << 10;
pub(crate) const PAGES: u64 = 40;

/// A store in a temporary directory.
pub(crate) struct Made {
    _dir: TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(64 << 20)
        .part_bytes(PART)
        .initial_bytes(PAGES * PAGE)
}

pub(crate) fn fill(store: &Store, page: u64, byte: u8) {
    let done: Result<(), StoreError> =
        store.transaction(|tx| tx.write_at(page * PAGE, &[byte; PAGE as usize]));
    done.expect("a transaction");
}

/// A store after a crash: pages 1 to 20 are in both heaps, 21 in heap a only, 22 to 24 in the
/// journal that follows heap a.
pub(crate) fn crashed() -> Made {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options()).expect("a store");
    (1..=20).for_each(|page| fill(&store, page, page as u8));
    store.checkpoint().expect("into heap b");
    fill(&store, 21, 21);
    store.checkpoint().expect("into heap a");
    (22..=24).for_each(|page| fill(&store, page, page as u8));
    Made { _dir: dir, path }
}

/// The newest state of [`crashed`].
pub(crate) fn content() -> Vec<u8> {
    let page = |page: u64| match page {
        1..=24 => [page as u8; PAGE as usize],
        _ => [0; PAGE as usize],
    };
    (0..PAGES).flat_map(page).collect()
}

/// The store of [`crashed`] after a clean shutdown.
pub(crate) fn closed() -> Made {
    let made = crashed();
    open_soon(&made.path).close().expect("closed");
    made
}

/// Opens a store that this process has dropped. A child process of another test may hold the lock
/// of the store until it executes its program.
fn open_soon(path: &Path) -> Store {
    for _ in 0..500 {
        match Store::open(path, options()) {
            Err(StoreError::InUse { .. }) => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.expect("a store"),
        }
    }
    panic!("{}: still in use", path.display());
}

/// A tracked store with these pages in a base checkpoint.
pub(crate) fn of_pages(pages: &[(u64, u8)]) -> Made {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options().write_mode(WriteMode::Tracked)).expect("a store");
    for (page, byte) in pages {
        let guard = store.write_guard().expect("the access lock");
        guard
            .write_at(page * PAGE, &[*byte; PAGE as usize])
            .expect("written");
    }
    store.close().expect("closed");
    Made { _dir: dir, path }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_flatspan"))
}

/// Runs the program and expects an exit code.
pub(crate) fn expect(code: i32, command: &str, args: &[&Path]) -> Output {
    let output = program()
        .arg(command)
        .args(args)
        .output()
        .expect("the program starts");
    check(code, output)
}

pub(crate) fn check(code: i32, output: Output) -> Output {
    let streams = || (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(code), "{:?}", streams());
    output
}

/// Runs the program with `--json` and returns one object per line.
pub(crate) fn json_lines(code: i32, command: &str, args: &[&Path]) -> Vec<Value> {
    let args: Vec<_> = args.iter().copied().chain([Path::new("--json")]).collect();
    let output = expect(code, command, &args);
    let text = stdout(&output);
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Runs the program with `--json` and returns its only object.
pub(crate) fn json(code: i32, command: &str, args: &[&Path]) -> Value {
    let mut lines = json_lines(code, command, args);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8 on standard output")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8 on standard error")
}
