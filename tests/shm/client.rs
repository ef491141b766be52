//! Programs for the tests of `shm-restore`: this binary, in a process of its own, as the command
//! that `shm-restore` runs.

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flatspan::shm::queue::{Client, QueueOptions};
use flatspan::shm::{ListenFds, Memfd, SHARED_FD_NAME};

use crate::states::{GROWN_PAGES, PAGE_WORDS, PUBLISHED_PAGES, ROW_PAGES};
use crate::support::child;

const TEST: &str = "client::client_program";
const ACT: &str = "FLATSPAN_TEST_ACT";

/// The words of a shell command that runs a program of this module. The shell passes the memfd on.
pub(crate) fn words(act: &str) -> String {
    let this = env::current_exe().expect("this binary");
    format!(
        "env {ACT}='{act}' {}={TEST} {} --exact {TEST} --nocapture --test-threads=1",
        child::NAME_VARIABLE,
        this.display()
    )
}

#[test]
fn client_program() {
    if !child::is_me(TEST) {
        return;
    }
    let act = env::var(ACT).expect("the variable is set");
    let words: Vec<&str> = act.split(' ').collect();
    match words[..] {
        ["rows", row, while_there] => rows(row.parse().expect("a number"), Path::new(while_there)),
        ["grow"] => grow(),
        ["publish"] => publish(),
        ["exec", while_there] => exec(Path::new(while_there)),
        ["raise", while_there] => raise(Path::new(while_there)),
        ["start", while_there] => start(Path::new(while_there)),
        ["fill", byte, bytes] => fill(
            byte.parse().expect("a byte"),
            bytes.parse().expect("a length"),
        ),
        ["sparse", bytes] => sparse(bytes.parse().expect("a length")),
        ["listen", log] => listen(Path::new(log)),
        ["count", while_there] => count(Path::new(while_there)),
        ["commit", while_there] => commit(Path::new(while_there)),
        _ => panic!("{act}"),
    }
    // Without the output of the test harness.
    process::exit(0);
}

fn memory() -> Memfd {
    let fd = ListenFds::from_env()
        .expect("descriptors")
        .take(SHARED_FD_NAME);
    Memfd::from_fd(fd.expect("the memfd")).expect("a memfd")
}

/// Stores a number into each page of a row, then the next number into each page, and so on.
fn rows(row: usize, while_there: &Path) {
    let memory = memory();
    let bytes = ((row + 1) * ROW_PAGES * 4096) as u64;
    memory.grow_to(bytes).expect("the file is extended");
    let map = memory.map_mut(0..bytes).expect("the mapping succeeds");
    let pages = &map.words()[row * ROW_PAGES * PAGE_WORDS..];
    let known = pages[0].load(Ordering::Relaxed);
    for number in known + 1.. {
        for page in 0..ROW_PAGES {
            pages[page * PAGE_WORDS].store(number, Ordering::Release);
        }
        if number % 256 == 0 && !while_there.exists() {
            return;
        }
    }
}

/// Extends the memfd page by page and stores a number in each page.
fn grow() {
    let memory = memory();
    for page in 0..GROWN_PAGES {
        let start = page * 4096;
        memory.grow_to(start + 4096).expect("the file is extended");
        let map = memory
            .map_mut(start..start + 4096)
            .expect("the mapping succeeds");
        map.words()[0].store(page + 1, Ordering::Release);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Extends the memfd page by page and then stores its length in the first page.
fn publish() {
    let memory = memory();
    memory.grow_to(4096).expect("the file is extended");
    let said = memory.map_mut(0..4096).expect("the mapping succeeds");
    for page in 1..PUBLISHED_PAGES {
        let start = page * 4096;
        memory.grow_to(start + 4096).expect("the file is extended");
        let map = memory
            .map_mut(start..start + 4096)
            .expect("the mapping succeeds");
        map.words()[0].store(page + 1, Ordering::Release);
        said.words()[0].store(page + 1, Ordering::Release);
        thread::sleep(Duration::from_micros(50));
    }
}

/// Executes itself again and again from a thread that is not the main one, while other threads run.
fn exec(while_there: &Path) {
    if !while_there.exists() {
        return;
    }
    for _ in 0..3 {
        thread::spawn(|| thread::sleep(Duration::from_secs(100)));
    }
    let becomes = thread::spawn(|| {
        let this = env::current_exe().expect("this binary");
        let error = process::Command::new(this)
            .args(env::args_os().skip(1))
            .exec();
        panic!("{error}");
    });
    becomes.join().expect("the file does not return");
}

/// Sends itself signals. Each one is handled before the call that sends it returns.
fn raise(while_there: &Path) {
    use signal_hook::consts::signal::SIGUSR2;
    let handled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR2, Arc::clone(&handled)).expect("a handler");
    for number in 1_u64.. {
        signal_hook::low_level::raise(SIGUSR2).expect("a signal");
        assert!(handled.swap(false, Ordering::SeqCst), "{number} is lost");
        if number % 256 == 0 && !while_there.exists() {
            return;
        }
    }
}

/// Starts programs one after the other by `vfork`.
fn start(while_there: &Path) {
    while while_there.exists() {
        let ended = process::Command::new("true").status();
        assert!(ended.expect("a program").success());
    }
}

/// Prints each signal that it gets and ends only by HUP. (Not a shell: dash loses signals that
/// arrive while it handles another one.)
fn listen(log: &Path) {
    use signal_hook::consts::signal::{
        SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR2, SIGWINCH,
    };
    let names = [
        (SIGTERM, "TERM"),
        (SIGINT, "INT"),
        (SIGQUIT, "QUIT"),
        (SIGUSR2, "USR2"),
        (SIGWINCH, "WINCH"),
        (SIGCONT, "CONT"),
        (SIGHUP, "HUP"),
    ];
    let heard = names.iter().map(|(signal, _)| *signal);
    let mut heard = signal_hook::iterator::Signals::new(heard).expect("handlers");
    let say = |text: &str| {
        let mut log = fs::File::options().append(true).create(true).open(log);
        let written = log.as_mut().expect("the log").write_all(text.as_bytes());
        written.expect("a line");
    };
    say("ready\n");
    for signal in heard.forever() {
        match names.iter().find(|(number, _)| *number == signal) {
            Some((SIGHUP, _)) | None => process::exit(7),
            Some((_, name)) => say(&format!("{name}\n")),
        }
    }
}

/// Counts each USR1 in the second word while it increments the first one.
fn count(while_there: &Path) {
    let memory = memory();
    memory.grow_to(4096).expect("the file is extended");
    let map = memory.map_mut(0..4096).expect("the mapping succeeds");
    let mut heard = signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1]);
    thread::scope(|scope| {
        let heard = heard.as_mut().expect("a handler");
        let end = heard.handle();
        scope.spawn(|| {
            for _ in heard.forever() {
                map.words()[1].fetch_add(1, Ordering::Release);
            }
        });
        let work = || map.words()[0].fetch_add(1, Ordering::Release);
        while !work().is_multiple_of(256) || while_there.exists() {}
        end.close();
    });
}

fn fill(byte: u8, bytes: u64) {
    let memory = memory();
    memory.grow_to(bytes).expect("the file is extended");
    let map = memory.map_mut(0..bytes).expect("the mapping succeeds");
    let word = u64::from_ne_bytes([byte; 8]);
    for place in map.words() {
        place.store(word, Ordering::Relaxed);
    }
}

/// Increments a few words of a memory that is mostly holes: near the start, around 2 and 4 GiB, and
/// at the end.
fn sparse(bytes: u64) {
    let memory = memory();
    memory.grow_to(bytes).expect("the file is extended");
    for start in crate::large::places(bytes) {
        let map = memory
            .map_mut(start..start + 4096)
            .expect("the mapping succeeds");
        map.words()[1].fetch_add(start + 1, Ordering::Relaxed);
    }
}

/// Commits states in which every page holds the number of the generation.
fn commit(while_there: &Path) {
    let fd = memory().as_fd().try_clone_to_owned().expect("another file");
    let bytes = (ROW_PAGES * 4096) as u64;
    let mut writer = Client::open(fd, QueueOptions::new(bytes)).expect("a queue");
    let mut word = [0; 8];
    writer.read(0, &mut word).expect("the first word");
    let mut number = u64::from_ne_bytes(word);
    while while_there.exists() {
        number += 1;
        let committed = writer.commit(|change| {
            (0..ROW_PAGES as u64)
                .try_for_each(|page| change.write(page * 4096, &number.to_ne_bytes()))
        });
        committed.expect("a commit");
        let (new, said) = (
            while_there.with_extension("new"),
            while_there.with_extension("said"),
        );
        let renamed = fs::write(&new, number.to_string()).and_then(|()| fs::rename(&new, said));
        renamed.expect("a file");
    }
}
