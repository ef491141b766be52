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
    buckets: [OnceLock<Bucket>; BUCKETS],
}

#[derive(Debug)]
enum Bucket {
    Small(Leaf),
    Large(Box<[Lazy<OnceLock<Leaf>>]>),
}

/// Where a window is in its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    bucket: usize,
    /// Number of the window in its bucket.
    index: u64,
}

impl Place {
    fn of(window: u64) -> Option<Self> {
        let number = window.checked_add(1)?;
        let bucket = number.ilog2() as usize;
        let index = number - (1 << bucket);
        (bucket < BUCKETS).then_some(Self { bucket, index })
    }

    /// Bits of the two levels of the tree of a large bucket; `None` for a small one.
    fn levels(bucket: usize) -> Option<(u32, u32)> {
        let bits = (bucket as u32).checked_sub(LEAF_BITS)?;
        Some((bits - bits / 2, bits / 2))
    }

    /// Index at each level of the tree, and in the leaf.
    fn path(self, low_bits: u32) -> (usize, usize, usize) {
        let leaf = self.index >> LEAF_BITS;
        // Lossless: each is less than the length of its array.
        (
            (leaf >> low_bits) as usize,
            (leaf & ((1 << low_bits) - 1)) as usize,
            (self.index & ((1 << LEAF_BITS) - 1)) as usize,
        )
    }
}

impl SlotTable {
    pub(super) fn new() -> Self {
        Self {
            buckets: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// The slots of a window, if anybody ever asked for them.
    pub(super) fn get(&self, window: u64) -> Option<&WindowSlots> {
        let place = Place::of(window)?;
        match (
            self.buckets[place.bucket].get()?,
            Place::levels(place.bucket),
        ) {
            (Bucket::Large(tree), Some((_, low_bits))) => {
                let (high, low, slot) = place.path(low_bits);
                tree.get(high)?.get()?.get(low)?.get()?.get(slot)
            }
            (Bucket::Small(slots), _) => slots.get(usize::try_from(place.index).ok()?),
            (Bucket::Large(_), None) => None,
        }
    }

    /// The slots of a window; `None` for a window past 2^40.
    pub(super) fn get_or_create(&self, window: u64) -> Option<&WindowSlots> {
        let place = Place::of(window)?;
        let levels = Place::levels(place.bucket);
        let bucket = self.buckets[place.bucket].get_or_init(|| match levels {
            None => Bucket::Small(array_of(place.bucket as u32, WindowSlots::new)),
            Some((high_bits, _)) => Bucket::Large(array_of(high_bits, OnceLock::new)),
        });
        if let (Bucket::Large(tree), Some((_, low_bits))) = (bucket, levels) {
            let (high, low, _) = place.path(low_bits);
            let branch = tree[high].get_or_init(|| array_of(low_bits, OnceLock::new));
            branch[low].get_or_init(|| array_of(LEAF_BITS, WindowSlots::new));
        }
        self.get(window)
    }

    /// Every window that may be mapped.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &WindowSlots)> {
        let buckets = self.buckets.iter().enumerate();
        buckets
            .filter_map(|(bucket, slots)| Some(((1u64 << bucket) - 1, slots.get()?)))
            .flat_map(|(first, bucket)| bucket.leaves().map(move |(at, leaf)| (first + at, leaf)))
            .flat_map(|(first, leaf)| (first..).zip(leaf))
    }
}

impl Bucket {
    /// The arrays that were made, with the number of their first window in the bucket.
    fn leaves(&self) -> Box<dyn Iterator<Item = (u64, &[WindowSlots])> + '_> {
        match self {
            Self::Small(slots) => Box::new(std::iter::once((0, &**slots))),
            Self::Large(tree) => Box::new(tree.iter().enumerate().flat_map(|(high, branch)| {
                let branch = branch.get().into_iter();
                branch.flat_map(move |leaves| {
                    let made = leaves.iter().enumerate();
                    made.filter_map(move |(low, leaf)| {
                        let number = (high * leaves.len() + low) as u64;
                        Some((number << LEAF_BITS, &**leaf.get()?))
                    })
                })
            })),
        }
    }
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
            0, 4, 62, 63, 64, 126, 127, 190, 191, 1000, 65_534, 65_535, 70_000,
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
