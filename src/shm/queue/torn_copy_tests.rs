//! Copies of a state that another process overwrites: many are torn, and none of these is accepted
//! [I31].
//!
//! Each commit sets every word of the state to its generation, so a copy whose words differ is
//! torn.

use std::convert::Infallible;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::{Client, QueueOptions};
use super::error::QueueError;
use super::host_protocol::{CopyOutcome, copy_newest};
use super::layout::{Layout, marks, newest_first};
use super::mapped_words::{MappedWords, header_of};
use super::shared_words::Words;
use crate::numbers::Generation;
use crate::sys::memfd;

const STATE_BYTES: usize = 64 << 10;
const MEMFD: &str = "FLATSPAN_LITMUS_MEMFD";

/// Body of the writing process.
#[test]
fn overwriter() {
    let Ok(path) = std::env::var(MEMFD) else {
        return;
    };
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("the memfd of the parent");
    let mut writer = Client::open(file, options()).expect("a writer");
    let parent = rustix::process::getppid();
    let mut words = vec![0_u8; STATE_BYTES];
    while rustix::process::getppid() == parent {
        let next = (writer.generation().map_or(0, Generation::get) + 1).to_le_bytes();
        words.as_chunks_mut().0.fill(next);
        let committed = writer.commit(|commit| commit.write(0, &words));
        committed.expect("a commit");
    }
}

fn options() -> QueueOptions {
    QueueOptions::new(STATE_BYTES as u64).depth(2)
}

struct Overwriter(Child);

impl Overwriter {
    fn start(file: &File) -> Self {
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .args(["--exact", "shm::queue::torn_copy_tests::overwriter"])
            .env(MEMFD, path)
            .stdout(std::process::Stdio::null())
            .spawn();
        Self(child.expect("a process"))
    }
}

impl Drop for Overwriter {
    fn drop(&mut self) {
        // The process may have failed already. The test reports why.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Words whose second load of the mark returns the first value again.
struct WithoutSecondLoad<'m>(&'m MappedWords, AtomicU64);

impl Words for WithoutSecondLoad<'_> {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        self.0.words(range)
    }

    fn load_mark_again(&self, _: usize) -> u64 {
        self.1.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Counts {
    copies: u64,
    torn: u64,
    accepted: u64,
    torn_accepted: u64,
}

fn count(counts: &mut Counts, words: &impl Words, layout: &Layout) {
    let (mut least, mut most) = (u64::MAX, 0);
    // With `known` 0 every page is copied.
    let outcome: Result<_, Infallible> = copy_newest(
        words,
        layout,
        0,
        || Ok(()),
        |_, page| {
            least = page.iter().fold(least, |least, word| least.min(*word));
            most = page.iter().fold(most, |most, word| most.max(*word));
            Ok(())
        },
    );
    let Ok(outcome) = outcome;
    if most == 0 {
        return;
    }
    counts.copies += 1;
    counts.torn += u64::from(least != most);
    if let CopyOutcome::Accepted { generation, .. } = outcome {
        counts.accepted += 1;
        counts.torn_accepted += u64::from(least != most || most != generation);
    }
}

/// Shows that the second load must read live memory, not the copied mark.
#[test]
fn i31_torn_copies_are_never_accepted() -> Result<(), QueueError> {
    let copies = std::env::var("FLATSPAN_LITMUS_COPIES");
    // As the campaigns of the integration tests (docs/testing.md).
    let is_full = std::env::var("FLATSPAN_CAMPAIGN").is_ok_and(|length| length == "full");
    let copies: u64 = match copies {
        Ok(text) => text.parse().expect("a number"),
        Err(_) if is_full => 1_000_000,
        Err(_) => 100_000,
    };
    let file = memfd::create("flatspan-litmus").expect("a memfd");
    let overwriter = Overwriter::start(&file);
    let started = std::time::Instant::now();
    let header = loop {
        let is_sealed = memfd::seals(&file).expect("seals").shrink;
        if let Some(header) = is_sealed.then(|| header_of(&file)).transpose()?.flatten() {
            break header;
        }
        assert!(
            started.elapsed().as_secs() < 60,
            "the writer starts within a minute"
        );
        std::thread::yield_now();
    };
    let layout = header.layout();
    let own = memfd::reopen(&file, false).expect("a description");
    let memory = MappedWords::new(own, &layout, false)?;
    let mut counts = Counts::default();
    while counts.copies < copies {
        count(&mut counts, &memory, &layout);
    }
    println!("with the second load: {counts:?}");
    assert!(counts.torn > 0, "some copies are torn");
    assert!(counts.accepted > 1000, "{counts:?}");
    assert_eq!(counts.torn_accepted, 0, "{counts:?}");

    // Without the second load torn copies are accepted.
    let mut counts = Counts::default();
    while counts.copies < copies && counts.torn_accepted == 0 {
        let first = marks(&memory, &layout);
        let newest = newest_first(&first).first().copied();
        let seen = newest.map_or(0, |(_, entry)| first[entry]);
        count(
            &mut counts,
            &WithoutSecondLoad(&memory, seen.into()),
            &layout,
        );
    }
    println!("without the second load: {counts:?}");
    assert!(counts.torn_accepted > 0, "{counts:?}");
    drop(overwriter);
    Ok(())
}
