//! `Layout` against two naive models: a list of all bytes for short layouts, and intersections in
//! 128 bits.
//!
//! The fuzz target and `tests/span` include this file. The input is a number of entries, for each
//! entry a unit and a factor, and then ranges (form, two bounds) until its end.

use std::ops::{Bound, RangeBounds as _};

use flatspan::span::Layout;

const ENTRIES_MAX: usize = 24;
const RANGES_MAX: usize = 64;
/// Layouts up to this length are checked byte by byte.
const BYTES_MAX: u64 = 4096;
/// Lengths near every limit: small ones, pages, and sums around 2^64.
const UNITS: [u64; 8] = [0, 1, 3, 4096, 1 << 32, 1 << 56, 1 << 62, u64::MAX / 2];

/// Panics if `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let mut input = Input(data);
    let count = usize::from(input.byte()) % (ENTRIES_MAX + 1);
    let lengths: Vec<u64> = (0..count).map(|_| input.length()).collect();
    let sum = lengths
        .iter()
        .try_fold(0u64, |sum, length| sum.checked_add(*length));
    let Some(total) = sum else {
        assert!(
            Layout::new(lengths).is_err(),
            "the sum of the lengths overflows"
        );
        return;
    };
    let layout = Layout::new(lengths.iter().copied()).expect("the sum of the lengths fits");
    assert_eq!(layout.len(), total);
    check_range(&layout, &lengths, (Bound::Unbounded, Bound::Unbounded));
    for _ in 0..RANGES_MAX {
        if input.0.is_empty() {
            break;
        }
        let range = input.range(&lengths, total);
        check_range(&layout, &lengths, range);
    }
}

type Range = (Bound<u64>, Bound<u64>);
/// Entry, offset in the entry, length.
type Part = (usize, u64, u64);

fn check_range(layout: &Layout, lengths: &[u64], range: Range) {
    let found = layout.extents(range).map(|extents| {
        extents
            .map(|e| (e.entry, e.offset, e.len))
            .collect::<Vec<Part>>()
    });
    match (naive(lengths, range), found) {
        (Some(expected), Ok(found)) => {
            assert_eq!(found, expected, "{range:?} of {lengths:?}");
            check_bytes(lengths, range, &found);
        }
        (None, Err(_)) => {}
        (expected, found) => panic!("{range:?} of {lengths:?}: {found:?} instead of {expected:?}"),
    }
}

/// Returns the parts of a range, or `None` if it exceeds the entries.
fn naive(lengths: &[u64], range: Range) -> Option<Vec<Part>> {
    let total: u128 = lengths.iter().map(|length| u128::from(*length)).sum();
    let start = match range.start_bound() {
        Bound::Included(start) => u128::from(*start),
        Bound::Excluded(before) => u128::from(*before) + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => u128::from(*last) + 1,
        Bound::Excluded(end) => u128::from(*end),
        Bound::Unbounded => total,
    };
    if start > end || end > total {
        return None;
    }
    let mut parts = Vec::new();
    let mut entry_start = 0u128;
    for (entry, length) in lengths.iter().enumerate() {
        let entry_end = entry_start + u128::from(*length);
        let (from, to) = (start.max(entry_start), end.min(entry_end));
        if from < to {
            parts.push((entry, narrow(from - entry_start), narrow(to - from)));
        }
        entry_start = entry_end;
    }
    Some(parts)
}

/// Checks the parts byte by byte, which shares no arithmetic with the other two.
fn check_bytes(lengths: &[u64], range: Range, parts: &[Part]) {
    if lengths.iter().sum::<u64>() > BYTES_MAX {
        return;
    }
    let all = lengths
        .iter()
        .enumerate()
        .flat_map(|(entry, length)| (0..*length).map(move |offset| (entry, offset)));
    let wanted = all
        .zip(0u64..)
        .filter(|(_, at)| range.contains(at))
        .map(|(byte, _)| byte);
    let found = parts
        .iter()
        .flat_map(|(entry, offset, len)| (*offset..offset + len).map(|offset| (*entry, offset)));
    assert!(wanted.eq(found), "{range:?} of {lengths:?}: {parts:?}");
}

fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).expect("within an entry")
}

/// Rest of the input; zeros follow its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn length(&mut self) -> u64 {
        let unit = UNITS[usize::from(self.byte()) % UNITS.len()];
        unit.saturating_mul(u64::from(self.byte() % 16))
            .saturating_add(u64::from(self.byte() % 4))
    }

    /// Returns a bound near the end of an entry, where errors are likely.
    fn bound(&mut self, lengths: &[u64], total: u64) -> u64 {
        let (choice, shift) = (self.byte(), u64::from(self.byte() % 8));
        let edge = match usize::from(choice) {
            255 => u64::MAX,
            254 => total,
            choice => lengths.iter().take(choice % (lengths.len() + 1)).sum(),
        };
        edge.wrapping_add(shift).wrapping_sub(3)
    }

    fn range(&mut self, lengths: &[u64], total: u64) -> Range {
        let form = self.byte();
        let (a, b) = (self.bound(lengths, total), self.bound(lengths, total));
        let start =
            [Bound::Included(a), Bound::Excluded(a), Bound::Unbounded][usize::from(form % 3)];
        let end =
            [Bound::Excluded(b), Bound::Included(b), Bound::Unbounded][usize::from(form / 3 % 3)];
        (start, end)
    }
}
