//! The slots of one file, found by window number without a lock, growing without moving.
//!
//! Bucket `k` holds windows `2^k - 1 .. 2^(k+1) - 1` and is allocated when first needed, so a file of
//! one window costs one slot pair and a file that grows keeps the slots it has.

use std::sync::OnceLock;

use super::options::Access;
use super::slot::Slot;
use super::sync::{AtomicU32, Ordering};

/// 2^40 windows of the smallest size are 4 PiB.
const BUCKETS: usize = 40;

/// The two mappings a window may have, and how often it was copied from without one. A cache line of
/// its own: threads at different windows do not disturb each other.
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

#[derive(Debug)]
pub(super) struct SlotTable {
    buckets: [OnceLock<Box<[WindowSlots]>>; BUCKETS],
}

impl SlotTable {
    pub(super) fn new() -> Self {
        Self {
            buckets: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// The slots of a window, if anybody ever asked for them.
    pub(super) fn get(&self, window: u64) -> Option<&WindowSlots> {
        let (bucket, index) = place(window)?;
        self.buckets[bucket].get()?.get(index)
    }

    /// The slots of a window; `None` for a window past 2^40.
    pub(super) fn get_or_create(&self, window: u64) -> Option<&WindowSlots> {
        let (bucket, index) = place(window)?;
        let slots = self.buckets[bucket].get_or_init(|| {
            std::iter::repeat_with(WindowSlots::new)
                .take(1 << bucket)
                .collect()
        });
        slots.get(index)
    }

    /// Every window that may be mapped.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &WindowSlots)> {
        self.buckets
            .iter()
            .enumerate()
            .filter_map(|(bucket, slots)| Some((bucket, slots.get()?)))
            .flat_map(|(bucket, slots)| ((1u64 << bucket) - 1..).zip(slots.iter()))
    }
}

fn place(window: u64) -> Option<(usize, usize)> {
    let number = window.checked_add(1)?;
    let bucket = number.ilog2() as usize;
    let index = usize::try_from(number - (1 << bucket)).ok()?;
    (bucket < BUCKETS).then_some((bucket, index))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_window_has_one_place() {
        let places: Vec<_> = (0..7).map(|window| place(window).unwrap()).collect();
        assert_eq!(
            places,
            [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]
        );
        assert_eq!(place(u64::MAX), None);
        assert_eq!(place((1 << 40) - 1), None);
        assert!(place((1 << 40) - 2).is_some());
    }

    #[test]
    fn iteration_names_the_windows_it_visits() {
        let table = SlotTable::new();
        table.get_or_create(4).unwrap();
        let windows: Vec<_> = table.iter().map(|(window, _)| window).collect();
        assert_eq!(windows, [3, 4, 5, 6]);
        assert!(std::ptr::eq(
            table.get(4).unwrap(),
            table.iter().nth(1).unwrap().1
        ));
    }
}
