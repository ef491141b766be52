//! Changes that write tracking does not see [I14], and that trackers are not used where such
//! changes are possible.
#![expect(unsafe_code, reason = "another mapping, read(2) into a region, fork")]

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::FileExt as _,
    },
};

use flatspan::snapshot::{
    DirtyTracker as _, PageSet, Region, RegionKind, RegionOptions, TrackerChoice, TrackerError,
    TrackerKind, WriterScope, select_tracker,
};
use memmap2::MmapOptions;

use crate::{
    fixture::{PAGE, load, region, reserving, store, wp_async},
    support::temp_dir,
    trackers::{pages, scan},
};

fn store_through_another_mapping(file: BorrowedFd<'_>, offset: usize, value: u8) {
    let file = File::from(file.try_clone_to_owned().expect("a descriptor"));
    let other = MmapOptions::new().map_raw(&file).expect("a mapping");
    assert!(offset < other.len());
    // SAFETY: the offset is inside the mapping.
    let address = unsafe { other.as_mut_ptr().add(offset) };
    // SAFETY: the address is inside the mapping, to which there are no references.
    unsafe { address.write_volatile(value) };
}

#[test]
fn i14_other_mappings_are_not_tracked_and_rejected() {
    let region = Region::new_memfd(8 * PAGE, RegionOptions::default()).expect("a region");
    let Some(mut tracker) = wp_async() else {
        return;
    };
    tracker.arm(&region).expect("armed");
    let fd = region.as_fd().expect("a memfd");
    store_through_another_mapping(fd, 3 * PAGE, 1);
    assert_eq!(load(&region, 3 * PAGE), 1);
    assert_eq!(
        scan(&mut tracker, &region),
        pages([]),
        "the blind spot is gone"
    );
    drop(tracker);

    let refused = select_tracker(&region, TrackerChoice::WpAsync, WriterScope::AnyMapping);
    assert!(
        matches!(
            &refused,
            Err(TrackerError::Unsuitable {
                tracker: TrackerKind::WpAsync,
                ..
            })
        ),
        "{refused:?}"
    );
    let chosen =
        select_tracker(&region, TrackerChoice::Auto, WriterScope::AnyMapping).expect("another");
    assert_eq!(chosen.tracker.kind(), TrackerKind::HashCompare);
    assert!(
        chosen.why.contains("wp-async: unsuitable"),
        "{}",
        chosen.why
    );
    let mut tracker = chosen.tracker;
    tracker.arm(&region).expect("armed");
    store_through_another_mapping(fd, 5 * PAGE, 1);
    assert_eq!(scan(tracker.as_mut(), &region), pages([5]));
}

#[test]
fn i14_file_writes_are_not_tracked_and_rejected() {
    let directory = temp_dir();
    let region = region(RegionKind::Files, directory.path(), 8, reserving(8));
    let Some(mut tracker) = wp_async() else {
        return;
    };
    tracker.arm(&region).expect("armed");
    let file = File::options().write(true).open(directory.path().join("a"));
    let file = file.expect("the first file");
    file.write_all_at(&[1], PAGE as u64).expect("write");
    assert_eq!(load(&region, PAGE), 1);
    assert_eq!(
        scan(&mut tracker, &region),
        pages([]),
        "the blind spot is gone"
    );
    drop(tracker);

    let refused = select_tracker(&region, TrackerChoice::WpAsync, WriterScope::AnyMapping);
    assert!(
        matches!(refused, Err(TrackerError::Unsuitable { .. })),
        "{refused:?}"
    );
    let chosen =
        select_tracker(&region, TrackerChoice::Auto, WriterScope::AnyMapping).expect("another");
    let mut tracker = chosen.tracker;
    tracker.arm(&region).expect("armed");
    file.write_all_at(&[2], PAGE as u64).expect("write");
    assert_eq!(scan(tracker.as_mut(), &region), pages([1]));
}

#[test]
fn i14_discards_that_free_page_tables_are_not_tracked_and_must_be_noted() {
    // Some kernels report single discarded pages, but none reports all of them.
    const PAGES: usize = 2048;
    let address = reserving(PAGES).fixed_address(0x3000_0000_0000);
    let mut missed = 0;
    for kind in [RegionKind::Anonymous, RegionKind::Memfd, RegionKind::Files] {
        let directory = temp_dir();
        let region = region(kind, directory.path(), PAGES, address);
        let Some(mut tracker) = wp_async() else {
            return;
        };
        (0..PAGES).for_each(|page| store(&region, page * PAGE, 1));
        tracker.arm(&region).expect("armed");
        region.discard(0..PAGES * PAGE).expect("discarded");
        let seen = scan(&mut tracker, &region).len();
        missed += PAGES as u64 - seen;
        let noted = tracker.note_discarded(&region, 0..PAGES * PAGE);
        noted.expect("watched");
        let all: PageSet = (0..PAGES as u64).collect();
        assert_eq!(scan(&mut tracker, &region), all, "{kind}");
        assert_eq!(load(&region, 4 * PAGE), 0);
        assert_eq!(scan(&mut tracker, &region), pages([]), "{kind}");
        store(&region, 5 * PAGE, 1);
        assert_eq!(scan(&mut tracker, &region), pages([5]), "{kind}");
    }
    assert!(missed > 0, "the blind spot is gone");
}

#[test]
fn kernel_writes_into_the_region_are_tracked() {
    let region = Region::new_anonymous(8 * PAGE, RegionOptions::default()).expect("a region");
    let Some(mut tracker) = wp_async() else {
        return;
    };
    tracker.arm(&region).expect("armed");
    let zeros = File::open("/dev/zero").expect("zeros");
    let at = region.as_ptr().as_ptr().wrapping_add(2 * PAGE);
    // SAFETY: the range is inside the region, to which there are no other references.
    let buf = unsafe { std::slice::from_raw_parts_mut(at, PAGE) };
    rustix::io::read(zeros.as_fd(), buf).expect("zeros");
    assert_eq!(scan(&mut tracker, &region), pages([2]));
}

#[test]
fn i14_forked_child_is_rejected_and_does_not_affect_its_parent() {
    let region = Region::new_anonymous(8 * PAGE, RegionOptions::default()).expect("a region");
    let Some(mut tracker) = wp_async() else {
        return;
    };
    tracker.arm(&region).expect("armed");
    store(&region, 3 * PAGE, 1);
    let mut set = PageSet::new();
    // SAFETY: the child makes a system call, allocates nothing, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = matches!(
            tracker.scan(&region, &mut set),
            Err(TrackerError::Forked { .. })
        );
        // SAFETY: ends the child without running any code of its parent.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = 0;
    // SAFETY: waits for a child of this process, with a local status variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    store(&region, 5 * PAGE, 1);
    assert_eq!(scan(&mut tracker, &region), pages([3, 5]));
}
