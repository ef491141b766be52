//! Unmodified programs that are killed in the middle of a change [I26].

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::process::Command;

use flatspan::shm::Memfd;

use crate::client;
use crate::freeze_mode::{generation, start, wait_until};
use crate::inherited_fds::{InheritedFds, path_of};
use crate::programs::expect;
use crate::states::{directory, newest};

pub(crate) const BYTES: usize = 10_000;
const PAGES: usize = 12_288;

/// Keeps the memfd across the crash, as a service manager does.
pub(crate) struct Kept {
    pub(crate) memory: Memfd,
    pub(crate) directory: tempfile::TempDir,
}

impl Kept {
    pub(crate) fn new() -> Self {
        Self {
            memory: Memfd::create("kept", 0).expect("a memfd"),
            directory: directory(),
        }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    pub(crate) fn run(&self, options: &[&str], script: &str) -> Command {
        let mut command = InheritedFds::files([path_of(&self.memory)])
            .named("SHM_SHARED_FD")
            .command(env!("CARGO_BIN_EXE_shm-restore"));
        command
            .args(options)
            .arg(self.store())
            .args(["sh", "-c", script]);
        command
    }

    pub(crate) fn once(&self, how: &str) -> Command {
        let mut command = InheritedFds::files([path_of(&self.memory)])
            .named("SHM_SHARED_FD")
            .command(env!("CARGO_BIN_EXE_shm-restore"));
        command.args([how, "--once"]).arg(self.store());
        command
    }

    pub(crate) fn memory_state_path(&self) -> PathBuf {
        self.store().join("memory-state")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.memory.len().expect("a length") as usize];
        let file = fs::File::open(path_of(&self.memory)).expect("the file opens");
        file.read_exact_at(&mut bytes, 0).expect("its bytes");
        bytes
    }

    pub(crate) fn saved(&self) -> Vec<PathBuf> {
        let inside = self.store().read_dir().into_iter().flatten().flatten();
        let is_saved = |path: &PathBuf| path.display().to_string().contains("/crash-");
        inside.map(|entry| entry.path()).filter(is_saved).collect()
    }
}

pub(crate) fn filled(byte: u8) -> String {
    client::words(&format!("fill {byte} {BYTES}"))
}

pub(crate) fn whole(byte: u8) -> Vec<u8> {
    let mut pages = vec![0; PAGES];
    pages[..BYTES].fill(byte);
    pages
}

fn crash(byte: u8) -> String {
    format!("{}; kill -SEGV $$", filled(byte))
}

#[test]
fn a_crash_does_not_make_a_bad_state_the_newest() {
    for how in ["--mode=exit", "--mode=freeze"] {
        let kept = Kept::new();
        // Long enough that no snapshot is taken between the change and the crash.
        let options = [how, "--interval=1000"];
        expect(0, &mut kept.run(&options, &filled(1)));
        let said = expect(128 + 11, &mut kept.run(&options, &crash(2)));
        assert!(
            said.contains("was killed") && said.contains("/crash-"),
            "{said}"
        );
        assert_eq!(newest(&kept.store()), whole(1), "{how}");
        let saved = kept.saved();
        assert_eq!(saved.len(), 1);
        assert_eq!(fs::read(&saved[0]).expect("the crash file"), [2; BYTES]);
        // The same memfd, sealed and live, is not accepted permanently.
        assert_eq!(kept.bytes(), [2; BYTES]);
        expect(0, &mut kept.run(&options, "true"));
        assert_eq!(kept.bytes()[..BYTES], [1; BYTES]);
        assert_eq!(newest(&kept.store()), whole(1), "{how}");
        // Once only: from now on the memfd is live again.
        expect(0, &mut kept.run(&options, &filled(3)));
        expect(0, &mut kept.run(&options, "true"));
        assert_eq!(newest(&kept.store()), whole(3), "{how}");
    }
}

#[test]
fn a_crash_before_the_first_snapshot_restores_an_empty_memfd() {
    let kept = Kept::new();
    expect(128 + 11, &mut kept.run(&[], &crash(2)));
    assert_eq!(
        fs::read(&kept.saved()[0]).expect("the crash file"),
        [2; BYTES]
    );
    expect(0, &mut kept.run(&[], "true"));
    assert!(kept.bytes().iter().all(|byte| *byte == 0));
}

#[test]
fn on_crash_selects_the_reaction_to_a_crash() {
    let kept = Kept::new();
    expect(0, &mut kept.run(&[], &filled(1)));
    let said = expect(128 + 11, &mut kept.run(&["--on-crash=discard"], &crash(2)));
    assert!(said.contains("was discarded"), "{said}");
    assert!(kept.saved().is_empty());
    expect(0, &mut kept.run(&[], "true"));
    assert_eq!(newest(&kept.store()), whole(1));
    expect(128 + 11, &mut kept.run(&["--on-crash=accept"], &crash(2)));
    assert!(kept.saved().is_empty());
    assert_eq!(newest(&kept.store()), whole(2));
    expect(0, &mut kept.run(&[], "true"));
    assert_eq!(kept.bytes()[..BYTES], [2; BYTES]);
}

/// An exit code is a regular end of the program, whatever its number.
#[test]
fn an_exit_code_is_not_a_crash() {
    let kept = Kept::new();
    for (byte, code) in [(1, 1), (2, 200), (3, 255)] {
        expect(
            code,
            &mut kept.run(&[], &format!("{}; exit {code}", filled(byte))),
        );
        assert_eq!(newest(&kept.store()), whole(byte));
    }
    assert!(kept.saved().is_empty());
}

#[test]
fn the_recorded_state_of_another_memfd_is_ignored() {
    let kept = Kept::new();
    expect(0, &mut kept.run(&[], &filled(1)));
    expect(
        128 + 9,
        &mut kept.run(&[], &format!("{}; kill -9 $$", filled(2))),
    );
    let other = Kept {
        memory: Memfd::create("other", 0).expect("a memfd"),
        directory: kept.directory,
    };
    // A new memfd is restored. When it is live, it is kept.
    for byte in [1, 4, 5] {
        assert_eq!(
            newest(&other.store())[..],
            whole(if byte == 5 { 4 } else { 1 })[..]
        );
        if byte > 1 {
            expect(0, &mut other.run(&[], &filled(byte)));
        } else {
            expect(0, &mut other.run(&[], "true"));
        }
    }
    assert_eq!(newest(&other.store()), whole(5));
    assert!(other.memory_state_path().exists());
}

/// The memfd of a killed command, with a good state in the store.
fn crashed_memfd() -> Kept {
    let kept = Kept::new();
    expect(0, &mut kept.run(&[], &filled(1)));
    expect(128 + 11, &mut kept.run(&[], &crash(2)));
    kept
}

/// As start scripts do.
#[test]
fn a_crash_under_a_shell_does_not_make_a_bad_state_the_newest() {
    for fault in ["SEGV", "KILL", "ABRT"] {
        let kept = Kept::new();
        expect(0, &mut kept.run(&[], &filled(1)));
        let inner = format!("{}; kill -{fault} $$", filled(2));
        let script = "sh -c \"$1\"; exit $?";
        let mut host = kept.run(&[], script);
        let number = match fault {
            "SEGV" => 11,
            "KILL" => 9,
            _ => 6,
        };
        expect(128 + number, host.arg("sh").arg(&inner));
        assert_eq!(newest(&kept.store()), whole(1), "{fault}");
        assert_eq!(kept.saved().len(), 1, "{fault}");
    }
}

/// A process that the command started and that outlives it counts as the program.
#[test]
fn a_memfd_in_use_is_not_restored() {
    let kept = Kept::new();
    let run = kept.directory.path().join("run");
    expect(0, &mut kept.run(&[], &filled(1)));
    fs::write(&run, "").expect("a file");
    let before = kept.bytes();
    let rows = client::words(&format!("rows 0 {}", run.display()));
    let changed = "while cmp -s \"$1\" \"$2\"; do sleep 0.02; done";
    let copy = kept.directory.path().join("copy");
    fs::write(&copy, &before).expect("a file");
    let script = format!("{rows} >/dev/null 2>&1 & {changed}; kill -9 $$");
    let mut host = kept.run(&[], &script);
    let host = host.arg("sh").arg(path_of(&kept.memory)).arg(&copy);
    expect(128 + 9, host);
    let said = expect(125, &mut kept.run(&[], "true"));
    assert!(said.contains("still uses"), "{said}");
    assert!(kept.bytes() != before, "the memfd was restored");
    fs::remove_file(&run).expect("the process ends");
    expect(0, &mut kept.run(&[], "true"));
    assert_eq!(kept.bytes()[..BYTES], [1; BYTES]);
}

#[test]
fn once_refuses_the_memory_of_a_crashed_program() {
    let kept = crashed_memfd();
    let once = |how: &str| expect(125, &mut kept.once(how));
    let said = once("--mode=exit");
    assert!(said.contains("killed command"), "{said}");
    // A queue would record its last complete state itself; this memfd is not a queue.
    let said = once("--mode=queue");
    assert!(!said.contains("killed command"), "{said}");
    assert_eq!(newest(&kept.store()), whole(1));
}

#[test]
fn the_memory_state_is_found_through_a_link_to_the_store() {
    let kept = crashed_memfd();
    let link = kept.directory.path().join("link");
    std::os::unix::fs::symlink(kept.store(), &link).expect("a link");
    let mut command = InheritedFds::files([path_of(&kept.memory)])
        .named("SHM_SHARED_FD")
        .command(env!("CARGO_BIN_EXE_shm-restore"));
    expect(0, command.arg(&link).arg("true"));
    assert_eq!(kept.bytes()[..BYTES], [1; BYTES]);
    assert_eq!(newest(&kept.store()), whole(1));
}

#[test]
fn an_unreadable_memory_state_file_is_an_error() {
    let kept = crashed_memfd();
    let memory_state = kept.memory_state_path();
    let refused = || {
        let said = expect(125, &mut kept.run(&[], "true"));
        assert!(said.contains("memory-state"), "{said}");
        assert_eq!(newest(&kept.store()), whole(1));
        assert_eq!(kept.bytes(), [2; BYTES], "the memfd is not changed");
    };
    // For example, a file of another version.
    let text = fs::read_to_string(&memory_state).expect("the memory-state file");
    fs::write(&memory_state, text.replacen("killed ", "", 1)).expect("a file");
    refused();
    fs::remove_file(&memory_state).expect("the memory-state file");
    fs::create_dir(&memory_state).expect("a directory");
    refused();
}

#[test]
fn the_memory_state_survives_a_start_without_rollback() {
    let kept = crashed_memfd();
    let said = expect(125, &mut kept.run(&["--mode=queue", "--json"], "true"));
    assert!(!said.contains(r#""rolled_back":true"#), "{said}");
    assert!(kept.memory_state_path().exists());
    expect(0, &mut kept.run(&[], "true"));
    assert_eq!(kept.bytes()[..BYTES], [1; BYTES]);
}

/// A half-restored memfd has a header already and may look like a queue.
#[test]
fn the_memory_of_a_crashed_program_is_not_taken_for_a_queue() {
    let kept = Kept::new();
    let run = kept.directory.path().join("run");
    fs::write(&run, "").expect("a file");
    let commit = client::words(&format!("commit {}", run.display()));
    let mut host = start(&mut kept.run(&["--mode=queue", "--interval=0.01"], &commit));
    wait_until("a generation", || {
        kept.store().exists() && generation(&kept.store()) > 2
    });
    fs::remove_file(&run).expect("the process ends");
    assert_eq!(host.0.wait().expect("the program ends").code(), Some(0));
    let memory = fs::metadata(path_of(&kept.memory)).expect("a memfd");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot");
    let line = format!("killed {} {} {}\n", boot.trim(), memory.dev(), memory.ino());
    fs::write(kept.memory_state_path(), line).expect("a memory-state file");
    let said = expect(125, &mut kept.run(&["--mode=queue"], "true"));
    assert!(said.contains("killed command"), "{said}");
    fs::remove_file(kept.memory_state_path()).expect("the memory-state file");
    expect(0, &mut kept.run(&["--mode=queue"], "true"));
}
