//! Trackers compared with a model: which pages were written by any means, and their content.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use flatspan::snapshot::{
    DirtyTracker, ExplicitTracker, HashCompareTracker, PageSet, PrivatePagesTracker, Region,
    RegionKind, TrackerKind,
};

use crate::{
    fixture::{KINDS, PAGE, bytes, content, load, region, reserving, store, wp_async},
    support::temp_dir,
};

const PAGES: usize = 48;
const PAGES_MAX: usize = 96;

pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }
}

/// A region, its tracker, and the expected results.
struct World {
    region: Region,
    tracker: Box<dyn DirtyTracker>,
    content: Vec<u8>,
    /// Content at the last scan.
    scanned: Vec<u8>,
    /// Pages written since then, also with equal bytes.
    written: PageSet,
    /// Pages that were ever written.
    ever: PageSet,
    rng: Rng,
    missed: u64,
}

impl World {
    fn new(region: Region, mut tracker: Box<dyn DirtyTracker>, seed: u64) -> Self {
        tracker.arm(&region).expect("armed");
        let content = content(region.kind(), PAGES);
        assert!(bytes(&region) == content);
        Self {
            region,
            tracker,
            scanned: content.clone(),
            content,
            written: PageSet::new(),
            ever: PageSet::new(),
            rng: Rng::new(seed),
            missed: 0,
        }
    }

    fn wrote(&mut self, range: Range<usize>, is_noted: bool) {
        let pages = (range.start / PAGE) as u64..range.end.div_ceil(PAGE) as u64;
        self.written.insert_range(pages.clone());
        self.ever.insert_range(pages.clone());
        if self.tracker.kind() == TrackerKind::Explicit && !is_noted {
            self.tracker.mark_dirty(pages);
        }
    }

    fn step(&mut self) {
        let len = self.region.len();
        let pages = len / PAGE;
        match self.rng.below(20) {
            0..8 if len > 0 => {
                let (at, value) = (self.rng.below(len), self.rng.below(256) as u8);
                store(&self.region, at, value);
                self.content[at] = value;
                self.wrote(at..at + 1, false);
            }
            8..10 if len > 0 => {
                let at = self.rng.below(len);
                assert_eq!(load(&self.region, at), self.content[at]);
            }
            10..13 if len > 0 => {
                let at = self.rng.below(len);
                let bytes = self.rng.below(4 * PAGE).min(len - at);
                let value = self.rng.below(256) as u8;
                self.region.write_at(at, &vec![value; bytes]).expect("in");
                self.content[at..at + bytes].fill(value);
                self.wrote(at..at + bytes, false);
            }
            13..15 => {
                let first = self.rng.below(pages);
                let last = first + self.rng.below(pages - first + 1);
                let range = first * PAGE..last * PAGE;
                self.region.discard(range.clone()).expect("discarded");
                let noted = self.tracker.note_discarded(&self.region, range.clone());
                noted.expect("watched");
                self.content[range.clone()].fill(0);
                self.wrote(range, true);
            }
            15 => {
                let more = self.rng.below(PAGES_MAX - pages + 1);
                self.region.grow(len + more * PAGE).expect("grown");
                self.tracker.note_grown(&self.region, len).expect("watched");
                self.content.resize(self.region.len(), 0);
                self.wrote(len..self.region.len(), true);
            }
            16 => {
                let kept = self.rng.below(pages + 1);
                self.region.shrink(kept * PAGE).expect("shrunk");
                self.content.truncate(kept * PAGE);
                self.scanned.truncate(kept * PAGE);
                for set in [&mut self.written, &mut self.ever] {
                    set.remove_range(kept as u64..u64::MAX);
                }
            }
            _ => self.scan(),
        }
    }

    fn scan(&mut self) {
        let mut found = PageSet::new();
        self.tracker.scan(&self.region, &mut found).expect("a scan");
        let pages = self.region.len() / PAGE;
        assert!(found.runs().all(|run| run.end <= pages as u64), "{found:?}");
        assert!(bytes(&self.region) == self.content);
        self.scanned.resize(self.content.len(), 0);
        let mut expected = match self.tracker.kind() {
            // Comparing hashes does not find pages that have their former bytes again.
            TrackerKind::HashCompare => self.differing(),
            TrackerKind::PrivatePages => self.ever.clone(),
            TrackerKind::WpAsync | TrackerKind::Explicit => self.written.clone(),
            kind => panic!("no model of tracker {kind}"),
        };
        expected.remove_all(&found);
        self.missed += expected.len();
        self.scanned.clone_from(&self.content);
        self.written.clear();
    }

    fn differing(&self) -> PageSet {
        let pages = self.content.chunks(PAGE).zip(self.scanned.chunks(PAGE));
        pages
            .enumerate()
            .filter(|(_, (now, then))| now != then)
            .map(|(page, _)| page as u64)
            .collect()
    }
}

/// Runs random operations, and returns the number of missed pages, which should be 0.
pub(crate) fn missed(
    kind: RegionKind,
    runs: u64,
    mut make: impl FnMut() -> Box<dyn DirtyTracker>,
) -> u64 {
    (0..runs)
        .map(|seed| {
            let directory = temp_dir();
            let region = region(kind, directory.path(), PAGES, reserving(PAGES_MAX));
            let mut world = World::new(region, make(), seed);
            (0..300).for_each(|_| world.step());
            world.scan();
            world.missed
        })
        .sum()
}

#[test]
fn wp_async_misses_nothing() {
    for kind in KINDS {
        let Some(_) = wp_async() else { return };
        let missed = missed(kind, 20, || Box::new(wp_async().expect("tried before")));
        assert_eq!(missed, 0, "{kind}");
    }
}

#[test]
fn private_pages_miss_nothing() {
    let make = || Box::new(PrivatePagesTracker::new().expect("a tracker")) as Box<dyn DirtyTracker>;
    assert_eq!(missed(RegionKind::PrivateFiles, 20, make), 0);
}

#[test]
fn compare_misses_nothing() {
    for kind in KINDS {
        assert_eq!(
            missed(kind, 10, || Box::new(HashCompareTracker::new())),
            0,
            "{kind}"
        );
    }
}

#[test]
fn explicit_misses_nothing_that_was_marked() {
    for kind in KINDS {
        assert_eq!(
            missed(kind, 10, || Box::new(ExplicitTracker::new())),
            0,
            "{kind}"
        );
    }
}

/// Alternates scans with copies of the found pages, as pre-copy does, while threads store. The last
/// round makes the copy equal.
fn copy_while_written(region: &Region, tracker: &mut dyn DirtyTracker) {
    tracker.arm(region).expect("armed");
    let mut image = bytes(region);
    let is_over = AtomicBool::new(false);
    let round = |tracker: &mut dyn DirtyTracker, image: &mut [u8]| {
        let mut set = PageSet::new();
        tracker.scan(region, &mut set).expect("a scan");
        for run in set.runs() {
            let bytes = run.start as usize * PAGE..run.end as usize * PAGE;
            region
                .read_at(bytes.start, &mut image[bytes])
                .expect("a copy");
        }
    };
    thread::scope(|scope| {
        for writer in 0..3 {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut rng = Rng::new(writer + 7);
                while !is_over.load(Ordering::Relaxed) {
                    let at = rng.below(region.len());
                    store(region, at, rng.below(256) as u8);
                }
            });
        }
        (0..200).for_each(|_| round(tracker, &mut image));
        is_over.store(true, Ordering::Relaxed);
    });
    round(tracker, &mut image);
    assert!(image == bytes(region), "{}", region.kind());
}

#[test]
fn writes_during_a_scan_are_found_by_this_or_the_next_scan() {
    for kind in KINDS {
        let directory = temp_dir();
        let made = || region(kind, directory.path(), 256, reserving(256));
        let region = made();
        if let Some(mut tracker) = wp_async() {
            copy_while_written(&region, &mut tracker);
        }
        copy_while_written(&region, &mut HashCompareTracker::new());
        if kind == RegionKind::PrivateFiles {
            let mut tracker = PrivatePagesTracker::new().expect("a tracker");
            copy_while_written(&region, &mut tracker);
        }
    }
}
