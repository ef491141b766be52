//! The queue under loom: a client and a host on a heap of words, with restarts of both.
//!
//! A state has two pages of one word, both of which each commit sets to its generation; so an image whose words differ, or are
//! not those of the generation it is said to be, is torn.
//!
//! # Safety
//!
//! Clients come one after the other in one thread and are the only ones who store, so their own loads race with nothing.

#![expect(
    unsafe_code,
    reason = "a cell that one thread uses, and loads that loom does not count"
)]

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::Range;

use loom::sync::Arc;
use loom::thread;

use super::client_protocol::Committer;
use super::layout::{Shape, mark};
use super::host_protocol::{Taken, take};
use super::shared_words::{AtomicU64, Ordering, Words, fence};

const PAGES: usize = 2;

/// What a model leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    ReleaseFence,
    AcquireFence,
    SecondLook,
}

struct Heap {
    words: Box<[AtomicU64]>,
    without: Without,
    /// Marks as they were seen first, where the second look is left out.
    seen: Cell<Option<u64>>,
}

// SAFETY: `seen` is touched by `look_again` alone, which one thread calls; the rest is atomics.
unsafe impl Sync for Heap {}

impl Words for Heap {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        &self.words[range]
    }

    fn load_own(&self, at: usize, to: &mut [u64]) {
        for (to, word) in to.iter_mut().zip(&self.words[at..]) {
            // SAFETY: nobody else stores (module documentation).
            *to = unsafe { word.unsync_load() };
        }
    }

    fn copy_own(&self, from: Range<usize>, to: Range<usize>) {
        for (from, to) in from.zip(to) {
            let mut word = [0];
            self.load_own(from, &mut word);
            self.words[to].store(word[0], Ordering::Relaxed);
        }
    }

    fn fence_after_invalid_mark(&self) {
        if self.without != Without::ReleaseFence {
            fence(Ordering::Release);
        }
    }

    fn look_again(&self, at: usize) -> u64 {
        if self.without != Without::AcquireFence {
            fence(Ordering::Acquire);
        }
        match self.without {
            Without::SecondLook => self.seen.get().unwrap_or(0),
            _ => self.word(at).load(Ordering::Relaxed),
        }
    }
}

fn shape(depth: usize) -> Shape {
    Shape::new(1, PAGES, depth, 0).expect("a few words")
}

/// Only the words that the protocol uses are atomics of loom: it counts them.
fn heap(shape: &Shape, without: Without) -> Arc<Heap> {
    let words = (0..shape.len()).map(|_| AtomicU64::new(0)).collect();
    Arc::new(Heap {
        words,
        without,
        seen: Cell::new(None),
    })
}

/// Commits, and dies in the middle of the last one if it is to.
fn client(heap: &Heap, shape: Shape, commits: usize, dies: bool) {
    let mut committer = Committer::begin(heap, shape).expect("a queue");
    for commit in 1..=commits {
        let mut change = committer.start(heap).expect("numbers");
        let value = change.generation();
        let buffer = change.buffer();
        for page in 0..PAGES {
            change.touch(page);
            heap.word(buffer.start + page)
                .store(value, Ordering::Relaxed);
            if dies && commit == commits {
                // Without giving it up: memory stays as it is.
                std::mem::forget(change);
                return;
            }
        }
        change.complete(&[]);
    }
}

/// Takes what there is into an image, and judges it.
fn host(heap: &Heap, shape: Shape, image: &mut [u64; PAGES], known: &mut u64) {
    if heap.without == Without::SecondLook {
        let marks = super::layout::marks(heap, &shape);
        let newest = super::layout::newest_first(&marks).first().copied();
        heap.seen
            .set(newest.map(|(generation, _)| mark(generation, true)));
    }
    let taken: Result<_, Infallible> = take(
        heap,
        &shape,
        *known,
        || Ok(()),
        |page, words| {
            image[page] = words[0];
            Ok(())
        },
    );
    let Ok(taken) = taken;
    if let Taken::Accepted { generation, .. } = taken {
        assert_eq!(*image, [generation; PAGES], "torn");
        assert!(generation > *known, "older");
        *known = generation;
    }
}

/// A client that commits, and one that comes after it; a host that takes so often meanwhile, and one that comes after it with what
/// the first has stored.
///
/// Loom remembers of each atomic the last access only: of two loads by two threads and a store by the second it does not see that
/// the first load might come after. So the client's loads of its own words are not counted.
fn model(depth: usize, without: Without, clients: [(usize, bool); 2], takes: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let shape = shape(depth);
        let heap = heap(&shape, without);
        let theirs = heap.clone();
        let taking = thread::spawn(move || {
            let (mut image, mut known) = ([0; PAGES], 0);
            for _ in 0..takes {
                host(&theirs, shape, &mut image, &mut known);
            }
            (image, known)
        });
        for (commits, dies) in clients {
            if commits > 0 {
                client(&heap, shape, commits, dies);
            }
        }
        let (mut image, mut known) = taking.join().expect("a host");
        host(&heap, shape, &mut image, &mut known);
        let whole: usize = clients
            .iter()
            .map(|(commits, dies)| commits - usize::from(*dies))
            .sum();
        assert_eq!(known > 0, whole > 0, "what was committed is taken at last");
    });
    println!(
        "{} executions",
        runs.load(std::sync::atomic::Ordering::Relaxed)
    );
}

#[test]
fn loom_a_host_beside_a_client_that_goes_round_the_ring() {
    model(2, Without::Nothing, [(3, false), (0, false)], 2);
}

#[test]
fn loom_a_client_that_dies_and_one_that_goes_on() {
    model(2, Without::Nothing, [(2, true), (2, false)], 1);
}

#[test]
fn loom_a_longer_ring() {
    model(3, Without::Nothing, [(4, false), (0, false)], 1);
}

#[test]
#[should_panic(expected = "torn")]
fn loom_without_the_release_fence_a_torn_state_is_accepted() {
    model(2, Without::ReleaseFence, [(3, false), (0, false)], 2);
}

#[test]
#[should_panic(expected = "torn")]
fn loom_without_the_acquire_fence_a_torn_state_is_accepted() {
    model(2, Without::AcquireFence, [(3, false), (0, false)], 2);
}

#[test]
#[should_panic(expected = "torn")]
fn loom_without_the_second_look_a_torn_state_is_accepted() {
    model(2, Without::SecondLook, [(3, false), (0, false)], 2);
}
