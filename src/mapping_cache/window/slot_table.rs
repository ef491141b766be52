//! The slots of one file by window number. Lookups take no lock, and growth moves no slot.
//!
//! Bucket `k` holds windows `2^k - 1 .. 2^(k+1) - 1`. So a file of one window has one pair of
//! slots, and a file that grows keeps its slots. Small buckets are one array. Large buckets are
//! trees of two levels over arrays of 64, allocated on first use. A window at a large offset of a
//! sparse file costs at most a few MiB.
//!
//! Slots are never freed while the file is open, so they are small. The pins of a window belong to
//! its mapping (`pin_block`).

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use super::pin_pool::PinPool;
use super::window_slot::Slot;
use crate::mapping_cache::options::Access;
use crate::mapping_cache::sync::{AtomicU32, Ordering};

/// 40 buckets hold 2^40 windows, which are 4 PiB with the smallest window size.
const BUCKETS: usize = 40;
/// Number of windows in all buckets.
const WINDOWS: u64 = (1 << BUCKETS) - 1;
/// Number of buckets that are one array. They hold 4,095 windows.
const SMALL_BUCKETS: usize = 12;
/// Logarithm of the number of windows in a leaf of a tree.
const LEAF_BITS: u32 = 6;

/// The slots of the two mappings that a window may have, and the number of copies without one.
///
/// Windows share a cache line. It is written when a window is mapped, unmapped or copied without a
/// mapping, but not by pins.
#[derive(Debug)]
pub(in crate::mapping_cache) struct WindowSlots {
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
    pub(in crate::mapping_cache) fn slot(&self, access: Access) -> &Slot {
        match access {
            Access::ReadOnly => &self.read_only,
            Access::ReadWrite => &self.writable,
        }
    }

    /// Counts a copy that found no mapping. Returns the number of such copies before it.
    pub(in crate::mapping_cache) fn count_cold_copy(&self) -> u32 {
        self.cold_copies.fetch_add(1, Ordering::Relaxed)
    }
}

type Leaf = Box<[WindowSlots]>;
type Lazy<T> = OnceLock<Box<[T]>>;

#[derive(Debug)]
pub(in crate::mapping_cache) struct SlotTable {
    /// The blocks that the slots name.
    pool: Arc<PinPool>,
    /// Buckets below `SMALL_BUCKETS`, which suffice for nearly all files.
    small: [OnceLock<Leaf>; SMALL_BUCKETS],
    /// The other buckets.
    large: [Lazy<Lazy<OnceLock<Leaf>>>; BUCKETS - SMALL_BUCKETS],
}

/// The bucket of a window, and its index in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    bucket: usize,
    /// Index of the window in its bucket.
    index: u64,
}

impl Position {
    #[inline(always)]
    fn of(window: u64) -> Option<Self> {
        let number = window.checked_add(1)?;
        let bucket = number.ilog2() as usize;
        let index = number - (1 << bucket);
        (bucket < BUCKETS).then_some(Self { bucket, index })
    }
}

/// The position of a window in the tree of a large bucket.
#[derive(Clone, Copy, Debug)]
struct Branch {
    /// Index of the tree.
    tree: usize,
    high_bits: u32,
    low_bits: u32,
    /// Index at the first level.
    high: usize,
    /// Index at the second level.
    low: usize,
    /// Index in the leaf.
    slot: usize,
}

impl Branch {
    /// Returns `None` for a position in a small bucket.
    fn of(position: Position) -> Option<Self> {
        let tree = position.bucket.checked_sub(SMALL_BUCKETS)?;
        let bits = position.bucket as u32 - LEAF_BITS;
        let low_bits = bits / 2;
        let leaf = position.index >> LEAF_BITS;
        // Lossless: each index is less than the length of its array.
        Some(Self {
            tree,
            high_bits: bits - low_bits,
            low_bits,
            high: (leaf >> low_bits) as usize,
            low: (leaf & ((1 << low_bits) - 1)) as usize,
            slot: (position.index & ((1 << LEAF_BITS) - 1)) as usize,
        })
    }
}

impl SlotTable {
    pub(in crate::mapping_cache) fn new(pool: Arc<PinPool>) -> Self {
        Self {
            pool,
            small: std::array::from_fn(|_| OnceLock::new()),
            large: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    #[inline(always)]
    pub(in crate::mapping_cache) fn pool(&self) -> &PinPool {
        &self.pool
    }

    /// Returns the slots of a window if they were created.
    #[inline(always)]
    pub(in crate::mapping_cache) fn get(&self, window: u64) -> Option<&WindowSlots> {
        let position = Position::of(window)?;
        if let Some(bucket) = self.small.get(position.bucket) {
            // Lossless: less than 2^SMALL_BUCKETS.
            return bucket.get()?.get(position.index as usize);
        }
        self.get_large(position)
    }

    #[inline(never)]
    fn get_large(&self, position: Position) -> Option<&WindowSlots> {
        let at = Branch::of(position)?;
        let leaves = self.large[at.tree].get()?.get(at.high)?.get()?;
        leaves.get(at.low)?.get()?.get(at.slot)
    }

    /// Returns the slots of a window and creates them if necessary. `None` for a window past 2^40.
    pub(in crate::mapping_cache) fn get_or_create(&self, window: u64) -> Option<&WindowSlots> {
        let position = Position::of(window)?;
        if let Some(at) = Branch::of(position) {
            let tree = self.large[at.tree].get_or_init(|| array_of(at.high_bits, OnceLock::new));
            let leaves = tree[at.high].get_or_init(|| array_of(at.low_bits, OnceLock::new));
            leaves[at.low].get_or_init(|| array_of(LEAF_BITS, WindowSlots::new));
        } else {
            let bits = position.bucket as u32;
            self.small[position.bucket].get_or_init(|| array_of(bits, WindowSlots::new));
        }
        self.get(window)
    }

    /// Returns an iterator over the created windows of a range, which visits no other window.
    pub(in crate::mapping_cache) fn iter(
        &self,
        windows: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, &WindowSlots)> {
        let last = (*windows.end()).min(WINDOWS - 1);
        let mut next = Some(*windows.start()).filter(|first| *first <= last);
        std::iter::from_fn(move || {
            // One turn for each window, and for each part of the table without windows.
            while let Some(window) = next {
                let slots = self.get(window);
                let step = if slots.is_some() {
                    1
                } else {
                    self.gap_at(window)
                };
                next = window.checked_add(step).filter(|next| *next <= last);
                if let Some(slots) = slots {
                    return Some((window, slots));
                }
            }
            None
        })
    }

    /// Returns how many windows are missing from this one on, for a window without slots.
    fn gap_at(&self, window: u64) -> u64 {
        let Some(position) = Position::of(window) else {
            return 1;
        };
        let bucket_windows = 1u64 << position.bucket;
        let part_windows = match Branch::of(position) {
            None => bucket_windows,
            Some(at) => match self.large[at.tree].get() {
                None => bucket_windows,
                Some(tree) if tree[at.high].get().is_none() => 1 << (at.low_bits + LEAF_BITS),
                Some(_) => 1 << LEAF_BITS,
            },
        };
        part_windows - (position.index & (part_windows - 1))
    }
}

fn array_of<T>(bits: u32, make: impl FnMut() -> T) -> Box<[T]> {
    std::iter::repeat_with(make).take(1 << bits).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn table() -> SlotTable {
        SlotTable::new(Arc::new(PinPool::new()))
    }

    #[test]
    fn each_window_has_a_unique_position() {
        let positions = (0..7).map(|window| Position::of(window).map(|at| (at.bucket, at.index)));
        let expected = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)];
        assert!(positions.eq(expected.map(Some)));
        assert_eq!(Position::of(u64::MAX), None);
        assert_eq!(Position::of((1 << 40) - 1), None);
        assert!(Position::of((1 << 40) - 2).is_some());
    }

    #[test]
    fn iteration_returns_each_window_with_its_number() {
        let table = table();
        let asked = [
            0, 4, 62, 63, 64, 126, 127, 190, 191, 1000, 65_534, 65_535, 70_000, 4094, 4095, 5000,
            8190, 8191, 100_000,
        ];
        for window in asked {
            table.get_or_create(window).unwrap();
        }
        let visited: Vec<_> = table.iter(0..=u64::MAX).collect();
        for window in asked {
            let here = table.get(window).unwrap();
            let found: Vec<_> = visited.iter().filter(|(at, _)| *at == window).collect();
            assert_eq!(found.len(), 1, "window {window}");
            assert!(std::ptr::eq(found[0].1, here), "window {window}");
        }
        assert!(visited.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn last_window_allocates_one_leaf() {
        let table = table();
        let last = (1 << 40) - 2;
        table.get_or_create(last).unwrap();
        assert!(table.get(last).is_some());
        assert!(table.get(last - 64).is_none());
        assert_eq!(table.iter(0..=u64::MAX).last().unwrap().0, last);
    }

    #[test]
    fn iteration_visits_only_the_windows_of_its_range() {
        let table = table();
        for window in (0..20_000).chain([1 << 20, 1 << 30]) {
            table.get_or_create(window).unwrap();
        }
        let visited = |first, last| {
            let windows = table.iter(first..=last).map(|(window, _)| window);
            windows.collect::<Vec<_>>()
        };
        assert_eq!(visited(17, 17), [17]);
        assert_eq!(visited(4094, 4096), [4094, 4095, 4096]);
        // The leaf of window 2^20 starts at the window before it.
        assert_eq!(visited((1 << 20) - 1, 1 << 20), [(1 << 20) - 1, 1 << 20]);
        assert!(visited(1 << 29, (1 << 30) - 2).is_empty());
        assert!(visited(u64::MAX, u64::MAX).is_empty());
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range")]
        let empty = table.iter(5..=4).count();
        assert_eq!(empty, 0);
    }

    #[test]
    fn a_touched_window_costs_at_most_64_bytes() {
        assert!(size_of::<WindowSlots>() <= 64);
    }
}
