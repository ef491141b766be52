//! The arithmetic of layouts, compared with naive models.

use std::{
    fs,
    ops::{Bound, RangeBounds},
    panic,
    path::Path,
};

use flatspan::span::{Extent, GroupError, Layout};
use proptest::prelude::*;

use crate::layout_property;

fn layout(lengths: &[u64]) -> Layout {
    Layout::new(lengths.iter().copied()).expect("the sum fits")
}

fn parts(layout: &Layout, range: impl RangeBounds<u64>) -> Vec<(usize, u64, u64)> {
    let extents = layout.extents(range).expect("a range of the layout");
    extents.map(|e| (e.entry, e.offset, e.len)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_layouts_agree_with_the_models(data in prop::collection::vec(any::<u8>(), 0..400)) {
        layout_property::check(&data);
    }

    #[test]
    fn extents_tile_their_range(
        lengths in prop::collection::vec(prop_oneof![Just(0), 1..10u64, 0..10_000u64], 0..30),
        from in 0.0..1.0f64,
        to in 0.0..1.0f64,
    ) {
        let layout = layout(&lengths);
        let at = |share: f64| (layout.len() as f64 * share) as u64;
        let (start, end) = (at(from).min(at(to)), at(from).max(at(to)));
        let mut next = start;
        for Extent { entry, offset, len, .. } in layout.extents(start..end).unwrap() {
            prop_assert!(len > 0);
            prop_assert_eq!(layout.entry_range(entry).expect("an entry").start + offset, next);
            prop_assert!(offset + len <= lengths[entry]);
            next += len;
        }
        prop_assert_eq!(next, end);
    }
}

#[test]
fn the_corpus_of_the_fuzz_target_passes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/layout");
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("the corpus") {
        let path = entry.expect("an entry").path();
        let data = fs::read(&path).expect("an input");
        let passed = panic::catch_unwind(|| layout_property::check(&data));
        assert!(passed.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 10, "{count} inputs");
}

#[test]
fn a_range_is_split_at_entry_boundaries() {
    let layout = layout(&[3, 0, 4, 0, 0, 5]);
    assert_eq!(layout.len(), 12);
    assert_eq!(layout.entry_count(), 6);
    assert_eq!(parts(&layout, ..), [(0, 0, 3), (2, 0, 4), (5, 0, 5)]);
    assert_eq!(parts(&layout, 2..8), [(0, 2, 1), (2, 0, 4), (5, 0, 1)]);
    assert_eq!(parts(&layout, 3..7), [(2, 0, 4)]);
    assert_eq!(parts(&layout, 6..=6), [(2, 3, 1)]);
    assert_eq!(parts(&layout, 11..), [(5, 4, 1)]);
    let after_five = (Bound::Excluded(5), Bound::Unbounded);
    assert_eq!(parts(&layout, after_five), [(2, 3, 1), (5, 0, 5)]);
    assert_eq!(layout.entry_range(1), Some(3..3));
    assert_eq!(layout.entry_range(5), Some(7..12));
    assert_eq!(layout.entry_range(6), None);
}

#[test]
fn an_empty_range_has_no_extents() {
    let layout = layout(&[0, 3, 0, 2, 0]);
    for at in 0..=5 {
        assert_eq!(parts(&layout, at..at), []);
    }
    assert_eq!(parts(&Layout::default(), ..), []);
    assert_eq!(parts(&self::layout(&[0, 0]), 0..0), []);
    assert!(Layout::default().is_empty() && self::layout(&[0, 0]).is_empty());
}

#[test]
fn a_range_that_leaves_the_layout_is_refused() {
    let layout = layout(&[3, 7]);
    for range in [(0, 11), (10, 11), (11, 11), (5, 4), (11, 10), (u64::MAX, 0)] {
        let refused = layout.resolve_range(range.0..range.1);
        assert!(
            matches!(
                refused,
                Err(GroupError::OutOfBounds {
                    group_bytes: 10,
                    ..
                })
            ),
            "{range:?}: {refused:?}"
        );
    }
    assert_eq!(layout.resolve_range(10..).unwrap(), 10..10);
    assert_eq!(layout.resolve_range(..=9).unwrap(), 0..10);
}

#[test]
fn overflowing_bounds_are_refused() {
    for layout in [layout(&[10]), layout(&[u64::MAX]), Layout::default()] {
        let last = u64::MAX;
        let ranges: [(Bound<u64>, Bound<u64>); 4] = [
            (Bound::Unbounded, Bound::Included(last)),
            (Bound::Included(last), Bound::Included(last)),
            (Bound::Excluded(last), Bound::Unbounded),
            (Bound::Excluded(last), Bound::Excluded(0)),
        ];
        for range in ranges {
            let refused = layout.resolve_range(range);
            assert!(
                matches!(refused, Err(GroupError::OutOfBounds { .. })),
                "{range:?}: {refused:?}"
            );
        }
    }
}

#[test]
fn the_total_length_is_limited_to_u64() {
    let full = layout(&[u64::MAX - 5, 0, 5]);
    assert_eq!(full.len(), u64::MAX);
    assert_eq!(
        parts(&full, u64::MAX - 6..),
        [(0, u64::MAX - 6, 1), (2, 0, 5)]
    );
    assert_eq!(parts(&full, u64::MAX..), []);
    for (lengths, at) in [
        (vec![u64::MAX, 0, 1], 2),
        (vec![u64::MAX, u64::MAX], 1),
        (vec![1 << 63, 1, (1 << 63) - 1], 2),
    ] {
        let refused = Layout::new(lengths);
        assert!(matches!(refused, Err(GroupError::LengthOverflow { entry }) if entry == at));
    }
}
