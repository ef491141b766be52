//! Loom models of the queue: a client and a host on heap words, with restarts of both.
//!
//! A state has two pages of one word each. Every commit sets both words to its generation. An image
//! is torn if its words differ from each other or from the generation it is accepted as.
//!
//! # Safety
//!
//! Clients run one after the other in one thread and are the only ones that store. Their own loads
//! therefore race with no store.

#![expect(
    unsafe_code,
    reason = "a cell that one thread uses, and loads that loom does not count"
)]

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::Range;

use loom::sync::Arc;
use loom::thread;

use super::client_protocol::ClientProtocol;
use super::host_protocol::{CopyOutcome, copy_newest};
use super::layout::{Layout, mark};
use super::shared_words::{AtomicU64, Ordering, Words, fence};

const PAGES: usize = 2;

/// The step that a model omits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    ReleaseFence,
    AcquireFence,
    SecondLoad,
}

struct Heap {
    words: Box<[AtomicU64]>,
    without: Without,
    /// Mark of the newest entry at the first load, for models without the second load.
    seen: Cell<Option<u64>>,
}

// SAFETY: only `load_mark_again` accesses `seen`, and one thread calls it. The rest is atomics.
unsafe impl Sync for Heap {}

impl Words for Heap {
    fn words(&self, range: Range<usize>) -> &[AtomicU64] {
        &self.words[range]
    }

    fn load_own(&self, at: usize, to: &mut [u64]) {
        for (to, word) in to.iter_mut().zip(&self.words[at..]) {
            // SAFETY: no other thread stores (module documentation).
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

    fn load_mark_again(&self, at: usize) -> u64 {
        if self.without != Without::AcquireFence {
            fence(Ordering::Acquire);
        }
        match self.without {
            Without::SecondLoad => self.seen.get().unwrap_or(0),
            _ => self.word(at).load(Ordering::Relaxed),
        }
    }
}

fn layout(depth: usize) -> Layout {
    Layout::new(1, PAGES, depth, 0).expect("a few words")
}

fn heap(layout: &Layout, without: Without) -> Arc<Heap> {
    let words = (0..layout.len()).map(|_| AtomicU64::new(0)).collect();
    Arc::new(Heap {
        words,
        without,
        seen: Cell::new(None),
    })
}

/// Commits `commits` times. If `dies`, the last commit is abandoned halfway.
fn client(heap: &Heap, layout: Layout, commits: usize, dies: bool) {
    let mut protocol = ClientProtocol::resume(heap, layout).expect("a queue");
    for commit in 1..=commits {
        let mut pending = protocol.begin(heap).expect("generations are left");
        let value = pending.generation().get();
        let buffer = pending.buffer();
        for page in 0..PAGES {
            pending.touch(page);
            heap.word(buffer.start + page)
                .store(value, Ordering::Relaxed);
            if dies && commit == commits {
                // A killed client runs no destructor.
                std::mem::forget(pending);
                return;
            }
        }
        pending.complete(&[]);
    }
}

/// Copies the newest generation into an image and checks that it is not torn.
fn host(heap: &Heap, layout: Layout, image: &mut [u64; PAGES], known: &mut u64) {
    if heap.without == Without::SecondLoad {
        let marks = super::layout::marks(heap, &layout);
        let newest = super::layout::newest_first(&marks).first().copied();
        heap.seen
            .set(newest.map(|(generation, _)| mark(generation, true)));
    }
    let taken: Result<_, Infallible> = copy_newest(
        heap,
        &layout,
        *known,
        || Ok(()),
        |page, words| {
            image[page] = words[0];
            Ok(())
        },
    );
    let Ok(taken) = taken;
    if let CopyOutcome::Accepted { generation, .. } = taken {
        assert_eq!(*image, [generation; PAGES], "torn");
        assert!(generation > *known, "older");
        *known = generation;
    }
}

/// Runs two clients one after the other. A host copies `takes` times concurrently, and a second
/// host copies at the end, starting from the image of the first.
///
/// Loom remembers only the last access to each atomic. After loads by two threads and a store by
/// the second one it misses that the first load might follow the store. The client's loads of its
/// own words are therefore not counted.
fn model(depth: usize, without: Without, clients: [(usize, bool); 2], takes: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let layout = layout(depth);
        let heap = heap(&layout, without);
        let host_heap = Arc::clone(&heap);
        let taking = thread::spawn(move || {
            let (mut image, mut known) = ([0; PAGES], 0);
            for _ in 0..takes {
                host(&host_heap, layout, &mut image, &mut known);
            }
            (image, known)
        });
        for (commits, dies) in clients {
            if commits > 0 {
                client(&heap, layout, commits, dies);
            }
        }
        let (mut image, mut known) = taking.join().expect("a host");
        host(&heap, layout, &mut image, &mut known);
        let whole: usize = clients
            .iter()
            .map(|(commits, dies)| commits - usize::from(*dies))
            .sum();
        assert_eq!(
            known > 0,
            whole > 0,
            "a committed generation is copied at the end"
        );
    });
    println!(
        "{} executions",
        runs.load(std::sync::atomic::Ordering::Relaxed)
    );
}

#[test]
fn i31_loom_host_copies_while_the_client_wraps_the_ring() {
    model(2, Without::Nothing, [(3, false), (0, false)], 2);
}

#[test]
fn i31_loom_a_second_client_continues_after_a_death() {
    model(2, Without::Nothing, [(2, true), (2, false)], 1);
}

#[test]
fn i31_loom_deeper_ring() {
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
fn loom_without_the_second_load_a_torn_state_is_accepted() {
    model(2, Without::SecondLoad, [(3, false), (0, false)], 2);
}
