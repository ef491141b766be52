//! List of the skips in one run of `cargo test`.
//!
//! Each target is a process of its own, so the list is a file. All targets of a run are children of
//! one cargo process, whose process id and start time name the file: entries of earlier or parallel
//! runs do not mix. The last target, `zz_skipped`, prints the list and removes it.

use std::{
    env, fs,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::process::parent_id,
    path::{Path, PathBuf},
};

/// Variable that passes the list to children whose parent is not cargo.
pub(crate) const LIST_VARIABLE: &str = "FLATSPAN_SKIP_LIST";

const PREFIX: &str = "flatspan-skipped-";

/// Prints the skip past libtest's capture, and adds it to the list of this run.
pub(crate) fn record(test: &str, why: &str) {
    let target = module_path!().split("::").next().unwrap_or_default();
    record_line(&format!("{target}::{test}: {why}"));
}

/// As [`record`], for a line that a child printed.
pub(crate) fn record_line(line: &str) {
    say(&format!("SKIPPED {line}\n"));
    // Writes one short line to a file opened for appending, so that lines of parallel tests do not
    // mix. An ordinary user may not write there; its parent copies the printed line.
    let list = list_path();
    drop(list.parent().map(fs::create_dir_all));
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(list) {
        drop(file.write_all(format!("{line}\n").as_bytes()));
    }
}

/// Copies the skips that a child has printed but could not add to the list.
pub(crate) fn record_from(stderr: &str) {
    for line in stderr.lines() {
        if let Some(skipped) = line.strip_prefix("SKIPPED ") {
            record_line(skipped);
        }
    }
}

/// Returns the list of this run, sorted and without duplicates, and removes the lists of finished
/// runs.
pub(crate) fn take() -> Vec<String> {
    let path = list_path();
    let mut lines: Vec<String> = fs::read_to_string(&path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.dedup();
    // Not every run has a list.
    drop(fs::remove_file(&path));
    remove_stale(path.parent().expect("the list has a directory"));
    lines
}

/// Writes to the real standard error: libtest captures only the printing macros.
pub(crate) fn say(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Returns the path of the list of this run.
pub(crate) fn list_path() -> PathBuf {
    if let Some(handed) = env::var_os(LIST_VARIABLE) {
        return PathBuf::from(handed);
    }
    let cargo = parent_id();
    let started = start_time(cargo).unwrap_or_default();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{PREFIX}{cargo}-{started}"))
}

fn remove_stale(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(run) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        if !is_alive(run) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Returns whether the run named `pid-start` still exists.
pub(crate) fn is_alive(run: &str) -> bool {
    run.split_once('-').is_some_and(|(pid, started)| {
        let now = pid.parse().ok().and_then(start_time);
        now.is_some_and(|now| now.to_string() == started)
    })
}

/// Returns field 22 of `/proc/PID/stat`. The process id may be reused, but not together with the
/// start time.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, field 2, may contain spaces and parentheses.
    let (_, after_command) = stat.rsplit_once(") ")?;
    after_command.split(' ').nth(19)?.parse().ok()
}
