//! Clients and hosts that are killed at random moments, a thousand times.
//!
//! The state is a page with a table, followed by data pages. A commit fills some pages with its
//! generation, every word of them, and writes the generation into the table. A state can therefore
//! be checked for consistency, and its generation is known.
//!
//! The acknowledged generation is the word that the host has written for the client. No restored
//! state may be older.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flatspan::shm::Memfd;
use flatspan::shm::queue::{
    Client, Generation, QueueError, QueueHost, QueueHostOptions, QueueOptions,
};
use flatspan::snapshot::StoreOptions;

use crate::support;

const PAGE: usize = 4096;
const PAGES: usize = 16;
const MEMFD: &str = "FLATSPAN_CRASH_TEST_MEMFD";
/// One word for each side: 1 while it is inside a commit or a snapshot.
const INSIDE: &str = "FLATSPAN_CRASH_TEST_INSIDE";
const STORE: &str = "FLATSPAN_CRASH_TEST_STORE";

fn options() -> QueueOptions {
    QueueOptions::new((PAGES * PAGE) as u64).depth(3)
}

fn host_options() -> QueueHostOptions {
    let store = StoreOptions::default()
        .part_bytes(64 << 10)
        .reserve_bytes(16 << 20)
        // So that base checkpoints are made too.
        .journal_bytes_max(256 << 10);
    QueueHostOptions::default().store_options(store)
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The generations of the pages, if the state is consistent.
fn consistent_generations(client: &Client) -> Result<[u64; PAGES], String> {
    let mut bytes = vec![0; PAGES * PAGE];
    client
        .read(0, &mut bytes)
        .map_err(|error| error.to_string())?;
    let words: Vec<_> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    let pages: Vec<_> = words.chunks(PAGE / 8).collect();
    let table: [u64; PAGES] = std::array::from_fn(|page| pages[0][page]);
    for (page, words) in pages.iter().enumerate().skip(1) {
        if words.iter().any(|word| *word != table[page]) {
            return Err(format!("page {page} is torn, or not of {}", table[page]));
        }
    }
    let newest = table.iter().max().copied().unwrap_or(0);
    match Generation::new(newest) == client.generation() && client.aux() == newest.to_le_bytes() {
        true => Ok(table),
        false if client.generation().is_none() && newest == 0 => Ok(table),
        false => Err(format!(
            "pages up to {newest}, tail {:?}, generation {:?}",
            client.aux(),
            client.generation()
        )),
    }
}

fn inherited(variable: &str) -> Option<File> {
    let path = std::env::var(variable).ok()?;
    let file = File::options().read(true).write(true).open(path);
    Some(file.expect("a file of the parent"))
}

fn say(inside: &File, side: u64, value: u64) {
    inside
        .write_all_at(&value.to_le_bytes(), side * 8)
        .expect("a word");
}

#[test]
fn client_process() {
    let (Some(memfd), Some(inside)) = (inherited(MEMFD), inherited(INSIDE)) else {
        return;
    };
    let parent = rustix::process::getppid();
    let mut client = Client::open(memfd, options()).expect("a writer");
    let mut table = consistent_generations(&client).expect("the stored state is consistent");
    let mut state =
        u64::from(std::process::id()) * 7919 + client.generation().map_or(0, Generation::get);
    while rustix::process::getppid() == parent {
        say(&inside, 0, 1);
        let next = client.generation().map_or(0, Generation::get) + 1;
        let pages = random(&mut state);
        let given_up = random(&mut state).is_multiple_of(8);
        let committed = client.commit_with_aux(&next.to_le_bytes(), |commit| {
            // A number may be lost with a killed client. The auxiliary data does not match then,
            // and the commit is aborted.
            if commit.generation() != next {
                return Err(QueueError::NotAQueue);
            }
            let mut new = table;
            for page in (1..PAGES).filter(|page| pages >> page & 1 == 1 || *page == 1) {
                commit.write((page * PAGE) as u64, &next.to_le_bytes().repeat(PAGE / 8))?;
                new[page] = next;
                // Half of the time is spent here.
                std::thread::sleep(Duration::from_micros(random(&mut state) % 100));
            }
            let bytes: Vec<u8> = new.iter().flat_map(|word| word.to_le_bytes()).collect();
            commit.write(0, &bytes)?;
            if given_up {
                Err(QueueError::NotAQueue)
            } else {
                Ok(new)
            }
        });
        say(&inside, 0, 0);
        if let Ok(new) = committed {
            table = new;
        } else {
            // The next number is one higher than the last attempted one, so it is queried.
            let number = client.begin().expect("a commit").generation();
            catch_up(&mut client, &mut table, number.get() + 1);
        }
        std::thread::sleep(Duration::from_micros(random(&mut state) % 1500));
    }
}

/// Commits page 1 with a generation that is known in advance.
fn catch_up(client: &mut Client, table: &mut [u64; PAGES], next: u64) {
    let mut new = *table;
    new[1] = next;
    let bytes: Vec<u8> = new.iter().flat_map(|word| word.to_le_bytes()).collect();
    let committed = client.commit_with_aux(&next.to_le_bytes(), |commit| {
        assert_eq!(commit.generation(), next);
        commit.write(PAGE as u64, &next.to_le_bytes().repeat(PAGE / 8))?;
        commit.write(0, &bytes)
    });
    committed.expect("a commit");
    *table = new;
}

#[test]
fn host_process() {
    let (Some(memfd), Some(inside)) = (inherited(MEMFD), inherited(INSIDE)) else {
        return;
    };
    let store = std::env::var(STORE).expect("a store");
    let parent = rustix::process::getppid();
    let mut host = QueueHost::open(store, memfd, host_options()).expect("a host");
    while rustix::process::getppid() == parent {
        say(&inside, 1, 1);
        host.snapshot().expect("a snapshot");
        say(&inside, 1, 0);
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Process(Option<Child>);

impl Process {
    fn start(test: &str, memfd: &Memfd, inside: &Memfd, store: &Path) -> Self {
        let path = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--test-threads", "1"])
            .env(MEMFD, path(memfd.as_fd().as_raw_fd()))
            .env(INSIDE, path(inside.as_fd().as_raw_fd()))
            .env(STORE, store)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(Some(child.expect("a process")))
    }

    /// The process must not have ended by itself.
    fn kill(&mut self) {
        let Some(mut child) = self.0.take() else {
            return;
        };
        child.kill().expect("a signal");
        let output = child.wait_with_output().expect("the process ends");
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(
            signal,
            Some(9),
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // The test has failed already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn fd(file: &Memfd) -> OwnedFd {
    file.as_fd().try_clone_to_owned().expect("a descriptor")
}

fn word(file: &Memfd, at: u64) -> u64 {
    let mut bytes = [0; 8];
    match File::from(fd(file)).read_exact_at(&mut bytes, at) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Not for that many rounds yet.
        Err(_) => 0,
    }
}

/// The content of the store, restored into a memfd of its own.
fn restored(store: &Path) -> (Memfd, u64) {
    let memfd = Memfd::create("flatspan-crash-test", 0).expect("a memfd");
    let host = QueueHost::open(store, fd(&memfd), host_options()).expect("a host");
    let generation = host.persisted().map_or(0, Generation::get);
    drop(host);
    if let Some(client) = Client::open_existing(fd(&memfd)).expect("a queue") {
        consistent_generations(&client).expect("the restored state is consistent");
        assert_eq!(client.generation().map_or(0, Generation::get), generation);
    }
    (memfd, generation)
}

#[test]
fn kills_of_client_and_host_lose_nothing_acknowledged() {
    let kills = support::campaign::count("FLATSPAN_CRASH_TEST_KILLS", 1000) as u32;
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    let inside = Memfd::create("flatspan-crash-test-inside", 16).expect("a memfd");
    let mut memfd = Memfd::create("flatspan-crash-test", 0).expect("a memfd");
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let (mut acknowledged, mut restarts) = (0, 0);
    let mut counts = BTreeMap::<String, u32>::new();
    // The memfd is completed before a client may have it.
    let start_host =
        |memfd: &Memfd| Process::start("crash_test::host_process", memfd, &inside, &store);
    let start_client =
        |memfd: &Memfd| Process::start("crash_test::client_process", memfd, &inside, &store);
    drop(QueueHost::open(&store, fd(&memfd), host_options()).expect("a host"));
    let mut host = start_host(&memfd);
    let mut client = start_client(&memfd);
    for kill in 0..kills {
        std::thread::sleep(Duration::from_micros(5000 + random(&mut state) % 30_000));
        let which = ["client", "host", "both"][(random(&mut state) % 3) as usize];
        let phase = |side: u64| match word(&inside, side * 8) {
            0 => "outside",
            _ => "inside",
        };
        let (client_phase, host_phase) = (phase(0), phase(1));
        if which != "host" {
            client.kill();
            *counts.entry(format!("client {client_phase}")).or_default() += 1;
        }
        if which != "client" {
            host.kill();
            *counts.entry(format!("host {host_phase}")).or_default() += 1;
        }
        *counts.entry(which.to_owned()).or_default() += 1;
        acknowledged = acknowledged.max(word(&memfd, PAGE as u64));
        if which == "both" {
            let (fresh, generation) = restored(&store);
            assert!(
                generation >= acknowledged,
                "kill {kill}: restored generation {generation}, but {acknowledged} was acknowledged"
            );
            if random(&mut state).is_multiple_of(2) {
                // The memory is lost too.
                (memfd, acknowledged) = (fresh, generation);
                restarts += 1;
            }
        }
        for side in 0..2 {
            say(&File::from(fd(&inside)), side, 0);
        }
        if which != "client" {
            host = start_host(&memfd);
        }
        if which != "host" {
            client = start_client(&memfd);
        }
    }
    client.kill();
    host.kill();
    let (_, generation) = restored(&store);
    assert!(generation >= acknowledged.max(word(&memfd, PAGE as u64)));
    println!(
        "{kills} kills: {counts:?}; {restarts} times with the memory; generation {generation}"
    );
    if kills >= 1000 {
        assert!(counts.values().all(|count| *count >= 50), "{counts:?}");
        assert_eq!(counts.len(), 7, "{counts:?}");
    }
}

/// At any position, a stopped host does not block the client. The host persists the client's
/// commits when it continues.
#[test]
fn a_stopped_or_dead_host_does_not_block_the_client() {
    use rustix::process::{Pid, Signal, kill_process};
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    let inside = Memfd::create("flatspan-crash-test-inside", 16).expect("a memfd");
    let memfd = Memfd::create("flatspan-crash-test", 0).expect("a memfd");
    drop(QueueHost::open(&store, fd(&memfd), host_options()).expect("a host"));
    let mut host = Process::start("crash_test::host_process", &memfd, &inside, &store);
    let pid = host.0.as_ref().expect("a process").id();
    let pid = Pid::from_raw(pid as i32).expect("a process");
    let mut client = Client::open(fd(&memfd), options()).expect("a writer");
    let mut commit = || {
        let next = client.generation().map_or(0, Generation::get) + 1;
        let committed = client.commit_with_aux(&next.to_le_bytes(), |commit| {
            commit.write(0, &next.to_le_bytes().repeat(PAGES * PAGE / 8))
        });
        committed.expect("a commit");
        client.generation().expect("a generation")
    };
    let wait_for = |generation: Generation| {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while generation > word(&memfd, PAGE as u64) {
            assert!(
                std::time::Instant::now() < end,
                "the host takes no snapshot"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    for round in 0..20 {
        wait_for(commit());
        // Mostly in the middle of a snapshot.
        commit();
        std::thread::sleep(Duration::from_micros(round * 150));
        kill_process(pid, Signal::STOP).expect("a signal");
        let newest = (0..200).map(|_| commit()).last();
        kill_process(pid, Signal::CONT).expect("a signal");
        wait_for(newest.expect("a commit"));
    }
    host.kill();
    for _ in 0..200 {
        commit();
    }
}
