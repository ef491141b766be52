//! The slots of one file, found by window number without a lock, growing without moving.
//!
//! Bucket `k` holds windows `2^k - 1 .. 2^(k+1) - 1`, so a file of one window costs one slot pair and a
//! file that grows keeps the slots it has. Small buckets are one array. Large ones are trees of two
//! levels over arrays of 64, each part made when first needed: a window far out in a sparse file, or
//! in one that was declared longer than any disk, costs a few MiB at the worst.

use std::sync::OnceLock;

use super::options::Access;
use super::slot::Slot;
use super::sync::{AtomicU32, Ordering};

/// 2^40 windows of the smallest size are 4 PiB.
const BUCKETS: usize = 40;
/// Buckets that are one array: 4,095 windows.
const SMALL_BUCKETS: usize = 12;
/// Windows in the arrays at the ends of the trees, as a power of two.
const LEAF_BITS: u32 = 6;

/// The two mappings a window may have, and how often it was copied from without one. Threads at
/// different windows do not disturb each other: no cache line belongs to two of them.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct WindowSlots {
    read_only: Slot,
    writable: Slot,
    cold_copies: AtomicU32,
}

impl WindowSlots {
    fn new() -> Self {
        Self {
            read_only: Slot::new(),
            writable: Slot::new(),
            cold_copies: AtomicU32::new(0),
        }
    }

    #[inline(always)]
    pub(super) fn slot(&self, access: Access) -> &Slot {
        match access {
            Access::ReadOnly => &self.read_only,
            Access::ReadWrite => &self.writable,
        }
    }

    /// Counts a copy that found no mapping; returns how many there were before.
    pub(super) fn count_cold_copy(&self) -> u32 {
        self.cold_copies.fetch_add(1, Ordering::Relaxed)
    }
}

type Leaf = Box<[WindowSlots]>;
type Lazy<T> = OnceLock<Box<[T]>>;

#[derive(Debug)]
pub(super) struct SlotTable {
    /// Buckets 0 to `SMALL_BUCKETS`: what nearly all files need, and no more than one array away.
    small: [OnceLock<Leaf>; SMALL_BUCKETS],
    /// The others.
    large: [Lazy<Lazy<OnceLock<Leaf>>>; BUCKETS - SMALL_BUCKETS],
}

/// Where a window is in its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    bucket: usize,
    /// Number of the window in its bucket.
    index: u64,
}

impl Place {
    #[inline(always)]
    fn of(window: u64) -> Option<Self> {
        let number = window.checked_add(1)?;
        let bucket = number.ilog2() as usize;
        let index = number - (1 << bucket);
        (bucket < BUCKETS).then_some(Self { bucket, index })
    }
}

/// Where a window is in the tree of a large bucket.
#[derive(Clone, Copy, Debug)]
struct Branch {
    /// Which tree.
    tree: usize,
    high_bits: u32,
    low_bits: u32,
    /// Index at each level, and in the leaf.
    high: usize,
    low: usize,
    slot: usize,
}

impl Branch {
    /// `None` for a place in a small bucket.
    fn of(place: Place) -> Option<Self> {
        let tree = place.bucket.checked_sub(SMALL_BUCKETS)?;
        let bits = place.bucket as u32 - LEAF_BITS;
        let low_bits = bits / 2;
        let leaf = place.index >> LEAF_BITS;
        // Lossless: each index is less than the length of its array.
        Some(Self {
            tree,
            high_bits: bits - low_bits,
            low_bits,
            high: (leaf >> low_bits) as usize,
            low: (leaf & ((1 << low_bits) - 1)) as usize,
            slot: (place.index & ((1 << LEAF_BITS) - 1)) as usize,
        })
    }
}

impl SlotTable {
    pub(super) fn new() -> Self {
        Self {
            small: std::array::from_fn(|_| OnceLock::new()),
            large: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// The slots of a window, if anybody ever asked for them.
    #[inline(always)]
    pub(super) fn get(&self, window: u64) -> Option<&WindowSlots> {
        let place = Place::of(window)?;
        if let Some(bucket) = self.small.get(place.bucket) {
            // Lossless: less than 2^SMALL_BUCKETS.
            return bucket.get()?.get(place.index as usize);
        }
        self.get_large(place)
    }

    #[inline(never)]
    fn get_large(&self, place: Place) -> Option<&WindowSlots> {
        let at = Branch::of(place)?;
        let leaves = self.large[at.tree].get()?.get(at.high)?.get()?;
        leaves.get(at.low)?.get()?.get(at.slot)
    }

    /// The slots of a window; `None` for a window past 2^40.
    pub(super) fn get_or_create(&self, window: u64) -> Option<&WindowSlots> {
        let place = Place::of(window)?;
        if let Some(at) = Branch::of(place) {
            let tree = self.large[at.tree].get_or_init(|| array_of(at.high_bits, OnceLock::new));
            let leaves = tree[at.high].get_or_init(|| array_of(at.low_bits, OnceLock::new));
            leaves[at.low].get_or_init(|| array_of(LEAF_BITS, WindowSlots::new));
        } else {
            let bits = place.bucket as u32;
            self.small[place.bucket].get_or_init(|| array_of(bits, WindowSlots::new));
        }
        self.get(window)
    }

    /// How often windows of the file were found mapped.
    pub(super) fn hits(&self) -> u64 {
        let slots = self.iter().map(|(_, window)| window);
        slots
            .map(|window| window.read_only.hits() + window.writable.hits())
            .sum()
    }

    /// Every window that may be mapped.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &WindowSlots)> {
        let first_of = |bucket: usize| (1u64 << bucket) - 1;
        let small = self.small.iter().enumerate();
        let small = small.filter_map(move |(bucket, leaf)| Some((first_of(bucket), leaf.get()?)));
        let large = self.large.iter().enumerate();
        let large = large.filter_map(|(tree, branches)| Some((tree, branches.get()?)));
        let large = large.flat_map(move |(tree, branches)| {
            leaves_of(branches).map(move |(at, leaf)| (first_of(tree + SMALL_BUCKETS) + at, leaf))
        });
        small
            .chain(large)
            .flat_map(|(first, leaf)| (first..).zip(leaf.iter()))
    }
}

/// The arrays of a tree that were made, with the number of their first window in the bucket.
fn leaves_of(tree: &[Lazy<OnceLock<Leaf>>]) -> impl Iterator<Item = (u64, &Leaf)> {
    let branches = tree.iter().enumerate();
    let branches = branches.filter_map(|(high, leaves)| Some((high, leaves.get()?)));
    branches.flat_map(|(high, leaves)| {
        let made = leaves.iter().enumerate();
        made.filter_map(move |(low, leaf)| {
            let number = (high * leaves.len() + low) as u64;
            Some((number << LEAF_BITS, leaf.get()?))
        })
    })
}

fn array_of<T>(bits: u32, make: impl FnMut() -> T) -> Box<[T]> {
    std::iter::repeat_with(make).take(1 << bits).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_window_has_one_place() {
        let places = (0..7).map(|window| Place::of(window).map(|at| (at.bucket, at.index)));
        let expected = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)];
        assert!(places.eq(expected.map(Some)));
        assert_eq!(Place::of(u64::MAX), None);
        assert_eq!(Place::of((1 << 40) - 1), None);
        assert!(Place::of((1 << 40) - 2).is_some());
    }

    #[test]
    fn iteration_names_the_windows_it_visits() {
        let table = SlotTable::new();
        let asked = [
            0, 4, 62, 63, 64, 126, 127, 190, 191, 1000, 65_534, 65_535, 70_000, 4094, 4095, 5000,
            8190, 8191, 100_000,
        ];
        for window in asked {
            table.get_or_create(window).unwrap();
        }
        let visited: Vec<_> = table.iter().collect();
        for window in asked {
            let here = table.get(window).unwrap();
            let found: Vec<_> = visited.iter().filter(|(at, _)| *at == window).collect();
            assert_eq!(found.len(), 1, "window {window}");
            assert!(std::ptr::eq(found[0].1, here), "window {window}");
        }
        assert!(visited.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn the_last_window_of_all_costs_little() {
        let table = SlotTable::new();
        let last = (1 << 40) - 2;
        table.get_or_create(last).unwrap();
        assert!(table.get(last).is_some());
        assert!(table.get(last - 64).is_none());
        assert_eq!(table.iter().last().unwrap().0, last);
    }
}
