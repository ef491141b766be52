//! Files and directories that the programs publish by a rename: a new store, a crash file, exported
//! and imported files. The content must be durable before the rename, and the new name after it.
//! Otherwise a power cut leaves a name without content.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::client;
use crate::programs::{clean, expect};
use crate::states::directory;
use crate::support::need::{Need, need, program};

const FLATSPAN: &str = env!("CARGO_BIN_EXE_flatspan");
const SHM_RESTORE: &str = env!("CARGO_BIN_EXE_shm-restore");

/// Calls that change files or directories, make them durable, or rename them.
const CALLS: &str = "open,openat,openat2,creat,mkdir,mkdirat,write,writev,pwrite64,pwritev,pwritev2,sendfile,copy_file_range,\
                     ftruncate,fallocate,ioctl,mmap,link,linkat,unlink,unlinkat,rmdir,rename,renameat,renameat2,sync,syncfs,fsync,\
                     fdatasync";

/// Regression test for a bug of a former tool: after a power cut the file had its name and no
/// content.
#[test]
fn files_are_durable_before_and_after_a_rename() {
    if !need(Need::Tools, "strace") {
        return;
    }
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    // A new store in new directories.
    let (store, fill) = (
        text("new/directories/store"),
        client::words("fill 1 300000"),
    );
    let made = traced(
        directory.path(),
        0,
        &[SHM_RESTORE, &store, "sh", "-c", &fill],
    );
    assert_eq!(made, [path("new/directories/store")]);
    // The remains of a killed command.
    let crash = format!("{}; kill -SEGV $$", client::words("fill 2 300000"));
    let saved = traced(
        directory.path(),
        128 + 11,
        &[SHM_RESTORE, &store, "sh", "-c", &crash],
    );
    let is_saved = |path: &PathBuf| path.display().to_string().contains("store/crash-");
    assert!(saved.len() == 1 && saved.iter().all(is_saved), "{saved:?}");
    // Once to a new name, and once over an existing file.
    for options in [&[][..], &["--force"]] {
        let file = text("exported");
        let words = [&[FLATSPAN, "export"], options, &[&store, &file]].concat();
        assert_eq!(traced(directory.path(), 0, &words), [path("exported")]);
    }
    let (file, imported) = (text("exported"), text("imported"));
    let made = traced(directory.path(), 0, &[FLATSPAN, "import", &file, &imported]);
    assert_eq!(made.last(), Some(&path("imported")));
}

/// Runs a program under strace. Returns its renames below a directory, each of which must have been
/// durable at that moment.
#[track_caller]
fn traced(below: &Path, code: i32, words: &[&str]) -> Vec<PathBuf> {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let strace = program("strace").expect("requested before");
    let calls = format!("trace={CALLS}");
    let mut command = clean(strace);
    command
        .args(["-f", "-y", "-qq", "-s", "0", "--seccomp-bpf", "-e", &calls])
        .arg("-o")
        .arg(log.path())
        .args(words);
    expect(code, &mut command);
    let mut disk = Disk {
        below: below.to_path_buf(),
        ..Disk::default()
    };
    for call in calls_of(&fs::read_to_string(log.path()).expect("a log")) {
        disk.see(&call);
    }
    for name in &disk.renamed {
        let above = name.ancestors().skip(1);
        let mut above = above.take_while(|directory| directory.starts_with(below));
        let lost = above.find(|directory| disk.unsynced.contains(*directory));
        assert_eq!(lost, None, "the name {} is not durable", name.display());
    }
    disk.renamed
}

/// The lines of a log. Calls that others interrupted are joined at the position where they end.
fn calls_of(log: &str) -> Vec<String> {
    let mut begun = std::collections::BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let (pid, call) = line.split_once(' ').expect("a process id and a call");
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, begin);
        } else if let Some((_, end)) = call
            .split_once(" resumed>")
            .filter(|_| call.starts_with("<..."))
        {
            calls.push(format!("{}{end}", begun.remove(pid).expect("its begin")));
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}

/// Data that a power cut would lose.
#[derive(Debug, Default)]
struct Disk {
    below: PathBuf,
    /// Files that were written, and directories with new names in them.
    unsynced: BTreeSet<PathBuf>,
    renamed: Vec<PathBuf>,
}

impl Disk {
    #[track_caller]
    fn see(&mut self, call: &str) {
        let Some((name, rest)) = call.split_once('(') else {
            return;
        };
        let result = rest.rsplit_once(" = ").map_or("", |(_, result)| result);
        // Also lines about signals and exits.
        if !result.starts_with(|first: char| first.is_ascii_digit()) {
            return;
        }
        match name {
            "open" | "openat" | "openat2" | "creat" if made(name, rest) => {
                self.added(opened(result).pop());
            }
            "mkdir" | "mkdirat" | "link" | "linkat" => {
                self.added(names(rest).pop().map(|name| resolved(name, rest)));
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendfile" | "ftruncate"
            | "fallocate" => self.changed(opened(rest).into_iter().next()),
            "ioctl" if rest.contains("FICLONE") => self.changed(opened(rest).into_iter().next()),
            "copy_file_range" => self.changed(opened(rest).pop()),
            "mmap" if rest.contains("MAP_SHARED") && rest.contains("PROT_WRITE") => {
                let mapped = opened(rest).into_iter().any(|file| self.is_below(&file));
                assert!(!mapped, "stores through this call are not visible: {call}");
            }
            "unlink" | "unlinkat" | "rmdir" => {
                if let Some(gone) = names(rest).pop() {
                    self.unsynced.remove(&resolved(gone, rest));
                }
            }
            "fsync" | "fdatasync" => {
                for file in &opened(rest) {
                    self.unsynced.remove(file);
                }
            }
            "sync" | "syncfs" => self.unsynced.clear(),
            "rename" | "renameat" | "renameat2" => self.rename(rest),
            _ => {}
        }
    }

    #[track_caller]
    fn rename(&mut self, rest: &str) {
        let mut names = names(rest);
        let (to, from) = (names.pop().expect("a name"), names.pop().expect("a name"));
        assert!(to.is_absolute() && from.is_absolute(), "{rest}");
        if !self.is_below(&to) {
            return;
        }
        let lost = self.unsynced.iter().find(|path| path.starts_with(&from));
        assert_eq!(lost, None, "{} becomes {}", from.display(), to.display());
        self.changed(parent(to.clone()));
        self.renamed.push(to);
    }

    /// A new name in a directory.
    fn added(&mut self, path: Option<PathBuf>) {
        if let Some(path) = path.filter(|path| self.is_below(path)) {
            self.changed(parent(path.clone()));
            self.changed(Some(path));
        }
    }

    fn changed(&mut self, path: Option<PathBuf>) {
        if let Some(path) = path.filter(|path| self.is_below(path)) {
            self.unsynced.insert(path);
        }
    }

    fn is_below(&self, path: &Path) -> bool {
        // Every opener of a store creates its locks again, and their content does not matter. The
        // file about a memfd loses its meaning together with the memfd: it may be empty after a
        // power cut.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let counts = !name.starts_with("lock") && !name.starts_with("memory-state");
        path.starts_with(&self.below) && counts
    }
}

/// A name relative to an open directory.
fn resolved(name: PathBuf, rest: &str) -> PathBuf {
    let directory = opened(rest).into_iter().next().unwrap_or_default();
    directory.join(name)
}

/// Returns whether the open call creates or truncates a file. An existing file that is opened with
/// `O_CREAT` counts too.
fn made(name: &str, rest: &str) -> bool {
    name == "creat" || rest.contains("O_CREAT") || rest.contains("O_TRUNC")
}

/// The paths of the descriptors: `3</a/path>`.
fn opened(text: &str) -> Vec<PathBuf> {
    let parts = text.split('<').skip(1);
    let paths = parts.filter_map(|part| part.split_once('>'));
    paths.map(|(path, _)| PathBuf::from(path)).collect()
}

/// The paths in quotes: `"/a/path"`.
fn names(text: &str) -> Vec<PathBuf> {
    let parts = text.split('"').skip(1).step_by(2);
    parts.map(PathBuf::from).collect()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function of `PathBuf`"
)]
fn parent(path: PathBuf) -> Option<PathBuf> {
    path.parent().map(Path::to_path_buf)
}
