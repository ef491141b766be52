//! Trackers: exact results, growth, selection, and errors that must not be ignored.

use flatspan::snapshot::{
    DirtyTracker, ExplicitTracker, HashCompareTracker, PageSet, PrivatePagesTracker, Region,
    RegionKind, RegionOptions, TrackerChoice, TrackerError, TrackerKind, WriterScope,
    select_tracker,
};

use crate::{
    fixture::{KINDS, PAGE, bytes, load, region, reserving, store, wp_async},
    support::temp_dir,
};

pub(crate) fn scan(tracker: &mut dyn DirtyTracker, region: &Region) -> PageSet {
    let mut set = PageSet::new();
    tracker.scan(region, &mut set).expect("a scan");
    set
}

pub(crate) fn pages<const N: usize>(pages: [u64; N]) -> PageSet {
    PageSet::from_iter(pages)
}

#[test]
fn wp_async_finds_exactly_the_written_pages() {
    for kind in KINDS {
        let Some(mut tracker) = wp_async() else {
            return;
        };
        let directory = temp_dir();
        let region = region(kind, directory.path(), 64, reserving(64));
        store(&region, 3 * PAGE, 1);
        tracker.arm(&region).expect("armed");
        assert_eq!(scan(&mut tracker, &region), pages([]), "{kind}");
        bytes(&region);
        (0..64).for_each(|page| _ = load(&region, page * PAGE));
        assert_eq!(scan(&mut tracker, &region), pages([]), "{kind}: only read");
        store(&region, 3 * PAGE, 1);
        store(&region, 16 * PAGE - 1, 1);
        region.write_at(40 * PAGE - 1, &[1, 2]).expect("two pages");
        let found = scan(&mut tracker, &region);
        assert_eq!(found, pages([3, 15, 39, 40]), "{kind}");
        assert_eq!(scan(&mut tracker, &region), pages([]), "{kind}");
        (0..64).for_each(|page| store(&region, page * PAGE, 5));
        assert_eq!(scan(&mut tracker, &region), (0..64).collect(), "{kind}");
    }
}

#[test]
fn scan_adds_to_the_set() {
    let region = Region::new_anonymous(8 * PAGE, RegionOptions::default()).expect("a region");
    let mut tracker = HashCompareTracker::new();
    tracker.arm(&region).expect("armed");
    store(&region, 5 * PAGE, 1);
    let mut set = pages([1]);
    tracker.scan(&region, &mut set).expect("a scan");
    assert_eq!(set, pages([1, 5]));
}

#[test]
fn i01_pages_found_by_a_failed_scan_are_in_the_set() {
    let directory = temp_dir();
    let region = region(RegionKind::Files, directory.path(), 256, reserving(256));
    let mut tracker = HashCompareTracker::new();
    tracker.arm(&region).expect("armed");
    for page in [0, 63, 255] {
        store(&region, page * PAGE, 1);
    }
    let second = std::fs::File::options()
        .write(true)
        .open(directory.path().join("b"))
        .expect("the second file");
    let len = second.metadata().expect("metadata is readable").len();
    second.set_len(0).expect("file is truncated");
    let mut set = PageSet::new();
    let failed = tracker.scan(&region, &mut set);
    assert!(matches!(failed, Err(TrackerError::Region(_))), "{failed:?}");
    assert_eq!(set, pages([0, 63]));
    second.set_len(len).expect("as before");
    // The pages are zero again, so they are unchanged, and reported only once.
    assert_eq!(scan(&mut tracker, &region), pages([]));
}

#[test]
fn i09_growth_is_reported_and_tracked() {
    for kind in KINDS {
        let directory = temp_dir();
        let region = region(kind, directory.path(), 8, reserving(64));
        let mut trackers: Vec<Box<dyn DirtyTracker>> = vec![
            Box::new(HashCompareTracker::new()),
            Box::new(ExplicitTracker::new()),
        ];
        if let Some(tracker) = wp_async() {
            trackers.push(Box::new(tracker));
        }
        for tracker in &mut trackers {
            tracker.arm(&region).expect("armed");
        }
        region.shrink(6 * PAGE).expect("shrunk");
        region.grow(20 * PAGE).expect("grown");
        for tracker in &mut trackers {
            tracker.note_grown(&region, 6 * PAGE).expect("watched");
            let name = tracker.kind();
            assert_eq!(
                scan(tracker.as_mut(), &region),
                (6..20).collect(),
                "{kind}, {name}"
            );
        }
        store(&region, 15 * PAGE, 1);
        for tracker in &mut trackers {
            tracker.mark_dirty(15..16);
            let name = tracker.kind();
            assert_eq!(
                scan(tracker.as_mut(), &region),
                pages([15]),
                "{kind}, {name}"
            );
        }
    }
}

#[test]
fn unnoted_region_change_is_an_error_and_marks_all_pages() {
    let directory = temp_dir();
    let restored = region(
        RegionKind::PrivateFiles,
        directory.path(),
        2048,
        reserving(4096),
    );
    let Some(mut tracker) = wp_async() else {
        return;
    };
    tracker.arm(&restored).expect("armed");
    restored.grow(2049 * PAGE).expect("grown");
    let mut set = PageSet::new();
    let lost = tracker.scan(&restored, &mut set);
    assert!(matches!(lost, Err(TrackerError::Lost { .. })), "{lost:?}");
    assert_eq!(set, (0..2049).collect());

    tracker.arm(&restored).expect("armed again");
    assert_eq!(scan(&mut tracker, &restored), pages([]));
    // Large enough that the range is mapped again.
    restored.discard(0..512 * PAGE).expect("discarded");
    let lost = tracker.scan(&restored, &mut set);
    assert!(matches!(lost, Err(TrackerError::Lost { .. })), "{lost:?}");
}

#[test]
fn region_has_one_tracker_and_wp_async_excludes_private_pages() {
    let directory = temp_dir();
    let restored = region(RegionKind::PrivateFiles, directory.path(), 8, reserving(8));
    let other = Region::new_anonymous(8 * PAGE, RegionOptions::default()).expect("a region");
    let Some(mut tracker) = wp_async() else {
        return;
    };
    let unarmed = tracker.scan(&restored, &mut PageSet::new());
    assert!(matches!(unarmed, Err(TrackerError::NotArmed { .. })));
    tracker.arm(&restored).expect("armed");
    let wrong = tracker.scan(&other, &mut PageSet::new());
    assert!(matches!(wrong, Err(TrackerError::NotArmed { .. })));
    let mut private = PrivatePagesTracker::new().expect("a tracker");
    let taken = private.arm(&restored);
    assert!(
        matches!(taken, Err(TrackerError::RegionInUse { .. })),
        "{taken:?}"
    );
    tracker.disarm(&restored).expect("disarmed");
    private.arm(&restored).expect("free");
    store(&restored, PAGE, 9);
    assert_eq!(scan(&mut private, &restored), pages([1]));
    let taken = tracker.arm(&restored);
    assert!(
        matches!(taken, Err(TrackerError::RegionInUse { .. })),
        "{taken:?}"
    );
    // The same tracker with another region, and back.
    tracker.arm(&other).expect("armed");
    store(&other, PAGE, 9);
    assert_eq!(scan(&mut tracker, &other), pages([1]));
    drop(private);
    tracker.arm(&restored).expect("armed");
    store(&restored, 2 * PAGE, 9);
    assert_eq!(scan(&mut tracker, &restored), pages([2]));
}

#[test]
fn private_pages_tracker_is_cumulative_and_needs_a_restored_region() {
    let directory = temp_dir();
    let restored = region(
        RegionKind::PrivateFiles,
        directory.path(),
        16,
        reserving(16),
    );
    store(&restored, 4 * PAGE, 9);
    let mut tracker = PrivatePagesTracker::new().expect("a tracker");
    assert!(tracker.is_cumulative());
    tracker.arm(&restored).expect("armed");
    assert_eq!(scan(&mut tracker, &restored), pages([4]));
    (0..16).for_each(|page| _ = load(&restored, page * PAGE));
    // Pages 12 to 15 have no file: reading makes them present.
    assert_eq!(scan(&mut tracker, &restored), pages([4, 12, 13, 14, 15]));
    tracker.mark_dirty(7..9);
    for _ in 0..2 {
        let found = scan(&mut tracker, &restored);
        assert_eq!(found, pages([4, 7, 8, 12, 13, 14, 15]));
    }
    let anonymous = Region::new_anonymous(PAGE, RegionOptions::default()).expect("a region");
    let refused = PrivatePagesTracker::new()
        .expect("a tracker")
        .arm(&anonymous);
    assert!(
        matches!(refused, Err(TrackerError::Unsuitable { .. })),
        "{refused:?}"
    );
}

#[test]
fn dirty_marks_are_shared_by_all_writers() {
    let region = Region::new_anonymous(16 * PAGE, RegionOptions::default()).expect("a region");
    let mut tracker = ExplicitTracker::new();
    let writers: Vec<_> = (0..4).map(|_| tracker.dirty_marks().clone()).collect();
    tracker.arm(&region).expect("armed");
    std::thread::scope(|scope| {
        for (number, writer) in writers.iter().enumerate() {
            scope.spawn(move || writer.mark_dirty_bytes(number * 2 * PAGE..number * 2 * PAGE + 1));
        }
    });
    writers[0].mark_dirty(100..200);
    writers[0].mark_dirty_bytes(5..5);
    assert_eq!(scan(&mut tracker, &region), pages([0, 2, 4, 6]));
    assert_eq!(scan(&mut tracker, &region), pages([]));
}

#[test]
fn selected_tracker_is_tested_and_explained() {
    let has_uffd = wp_async().is_some();
    for kind in KINDS {
        let directory = temp_dir();
        let region = region(kind, directory.path(), 8, reserving(8));
        let before = bytes(&region);
        for wish in [
            TrackerChoice::Auto,
            TrackerChoice::HashCompare,
            TrackerChoice::Explicit,
        ] {
            let chosen = select_tracker(&region, wish, WriterScope::ThisMapping).expect("one");
            let kind_of = chosen.tracker.kind();
            match wish {
                TrackerChoice::Auto if has_uffd => assert_eq!(kind_of, TrackerKind::WpAsync),
                TrackerChoice::Auto if kind == RegionKind::PrivateFiles => {
                    assert_eq!(kind_of, TrackerKind::PrivatePages);
                }
                TrackerChoice::Explicit => assert_eq!(kind_of, TrackerKind::Explicit),
                _ => assert_eq!(kind_of, TrackerKind::HashCompare),
            }
            assert!(chosen.why.contains(&kind_of.to_string()), "{}", chosen.why);
            let mut tracker = chosen.tracker;
            tracker.arm(&region).expect("armed");
            store(&region, 2 * PAGE, load(&region, 2 * PAGE) + 1);
            tracker.mark_dirty(2..3);
            assert_eq!(scan(tracker.as_mut(), &region), pages([2]));
            store(&region, 2 * PAGE, before[2 * PAGE]);
        }
        assert!(bytes(&region) == before, "selection changed memory: {kind}");
        let private = select_tracker(
            &region,
            TrackerChoice::PrivatePages,
            WriterScope::AnyMapping,
        );
        match kind {
            RegionKind::PrivateFiles => assert!(
                private
                    .expect("tracker is available")
                    .tracker
                    .is_cumulative()
            ),
            _ => assert!(matches!(private, Err(TrackerError::Unsuitable { .. }))),
        }
    }
}

/// Memory larger than one thread scans at once, with large holes: exactly the differing pages are
/// reported.
#[test]
fn compare_reports_differing_pages_of_a_large_memory_with_holes() {
    const PAGES: usize = 10_000;
    let directory = temp_dir();
    for kind in [RegionKind::Memfd, RegionKind::Anonymous] {
        let region = region(kind, directory.path(), PAGES, reserving(PAGES));
        let mut model: Vec<u8> = vec![0; PAGES];
        region.discard(0..PAGES * PAGE).expect("zeros");
        let mut tracker = HashCompareTracker::new();
        tracker.arm(&region).expect("armed");
        assert_eq!(scan(&mut tracker, &region), pages([]));
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        for _ in 0..20 {
            let before = model.clone();
            for _ in 0..1 + random(20) {
                let first = random(PAGES);
                let last = PAGES.min(first + 1 + random(500));
                match random(3) {
                    0 => {
                        region.discard(first * PAGE..last * PAGE).expect("zeros");
                        model[first..last].fill(0);
                    }
                    byte => {
                        let bytes = vec![byte as u8; (last - first) * PAGE];
                        region.write_at(first * PAGE, &bytes).expect("written");
                        model[first..last].fill(byte as u8);
                    }
                }
            }
            let found = scan(&mut tracker, &region);
            let differ = (0..PAGES).filter(|page| before[*page] != model[*page]);
            let differ: PageSet = differ.map(|page| page as u64).collect();
            assert!(found == differ, "{kind:?}: {found:?} {differ:?}");
        }
    }
}
