//! Copies of a state that another process hammers: how many are torn, and that none of those is accepted.
//!
//! Each commit sets every word of the state to its generation, so a copy whose words differ is torn.

use std::convert::Infallible;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::{QueueOptions, Writer};
use super::error::QueueError;
use super::layout::newest_first;
use super::mapped_words::{Mapped, header_of};
use super::host_protocol::{Taken, take};
use super::shared_words::Words;
use crate::sys::memfd;

const STATE_BYTES: usize = 64 << 10;
const MEMFD: &str = "FLATSPAN_LITMUS_MEMFD";

/// The process that hammers.
#[test]
fn hammer() {
    let Ok(path) = std::env::var(MEMFD) else {
        return;
    };
    let file = File::options().read(true).write(true).open(path);
    let file = file.expect("the memfd of the parent");
    let mut writer = Writer::open(file, options()).expect("a writer");
    let parent = rustix::process::getppid();
    let mut words = vec![0_u8; STATE_BYTES];
    while rustix::process::getppid() == parent {
        let next = (writer.generation() + 1).to_le_bytes();
        words.as_chunks_mut().0.fill(next);
        let committed = writer.commit(|commit| commit.write(0, &words));
        committed.expect("a commit");
    }
}

fn options() -> QueueOptions {
    QueueOptions::new(STATE_BYTES as u64).depth(2)
}

struct Hammer(Child);

impl Hammer {
    fn start(file: &File) -> Self {
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .args(["--exact", "shm::queue::torn_copy_tests::hammer"])
            .env(MEMFD, path)
            .stdout(std::process::Stdio::null())
            .spawn();
        Self(child.expect("a process"))
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        // It may have failed, and the test tells why.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Believes its first look at the mark.
struct Credulous<'m>(&'m Mapped, AtomicU64);

impl Words for Credulous<'_> {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        self.0.words(range)
    }

    fn look_again(&self, _: usize) -> u64 {
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

fn count(counts: &mut Counts, words: &impl Words, shape: &super::layout::Shape) {
    let (mut least, mut most) = (u64::MAX, 0);
    // Every page, as if nothing was known, and without looking for holes.
    let taken: Result<_, Infallible> = take(
        words,
        shape,
        0,
        || Ok(()),
        |_, page| {
            least = page.iter().fold(least, |least, word| least.min(*word));
            most = page.iter().fold(most, |most, word| most.max(*word));
            Ok(())
        },
    );
    let Ok(taken) = taken;
    if most == 0 {
        return;
    }
    counts.copies += 1;
    counts.torn += u64::from(least != most);
    if let Taken::Accepted { generation, .. } = taken {
        counts.accepted += 1;
        counts.torn_accepted += u64::from(least != most || most != generation);
    }
}

/// A fault of the ancestor, which looked at its copy of the mark.
#[test]
fn torn_state_accepted_because_the_copy_was_checked() -> Result<(), QueueError> {
    let copies = std::env::var("FLATSPAN_LITMUS_COPIES");
    let copies: u64 = copies.map_or(1_000_000, |text| text.parse().expect("a number"));
    let file = memfd::create("flatspan-litmus").expect("a memfd");
    let hammer = Hammer::start(&file);
    let started = std::time::Instant::now();
    let header = loop {
        let is_there = memfd::seals(&file).expect("seals").shrink;
        if let Some(header) = is_there.then(|| header_of(&file)).transpose()?.flatten() {
            break header;
        }
        assert!(started.elapsed().as_secs() < 60, "the writer has not begun");
        std::thread::yield_now();
    };
    let shape = header.shape().expect("checked");
    let own = memfd::reopen(&file, false).expect("a description");
    let memory = Mapped::new(own, &shape, false)?;
    let mut counts = Counts::default();
    while counts.copies < copies {
        count(&mut counts, &memory, &shape);
    }
    println!("with the second look: {counts:?}");
    assert!(counts.torn > 0, "the test tests nothing");
    assert!(counts.accepted > 1000, "{counts:?}");
    assert_eq!(counts.torn_accepted, 0, "{counts:?}");

    // The same without it finds torn ones.
    let mut counts = Counts::default();
    while counts.copies < copies && counts.torn_accepted == 0 {
        let marks = super::layout::marks(&memory, &shape);
        let newest = newest_first(&marks).first().copied();
        let seen = newest.map_or(0, |(_, entry)| marks[entry]);
        count(&mut counts, &Credulous(&memory, seen.into()), &shape);
    }
    println!("without: {counts:?}");
    assert!(counts.torn_accepted > 0, "{counts:?}");
    drop(hammer);
    Ok(())
}
