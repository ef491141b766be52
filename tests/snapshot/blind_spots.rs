//! What write tracking does not see (hazard 14), shown; and that it is not used there.
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
    TrackerKind, Writers, choose,
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
    // SAFETY: inside the mapping, to which there are no references.
    unsafe { other.as_mut_ptr().add(offset).write_volatile(value) };
}

#[test]
fn h14_a_store_through_another_mapping_is_not_seen_and_so_it_is_refused() {
    let region = Region::memfd(8 * PAGE, RegionOptions::default()).expect("a region");
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

    let refused = choose(&region, TrackerChoice::WpAsync, Writers::Anyone);
    assert!(
        matches!(
            &refused,
            Err(TrackerError::Refused {
                tracker: TrackerKind::WpAsync,
                ..
            })
        ),
        "{refused:?}"
    );
    let chosen = choose(&region, TrackerChoice::Auto, Writers::Anyone).expect("another");
    assert_eq!(chosen.tracker.kind(), TrackerKind::Compare);
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
fn h14_a_write_to_the_file_is_not_seen_and_so_it_is_refused() {
    let folder = temp_dir();
    let region = region(RegionKind::Files, folder.path(), 8, reserving(8));
    let Some(mut tracker) = wp_async() else {
        return;
    };
    tracker.arm(&region).expect("armed");
    let file = File::options().write(true).open(folder.path().join("a"));
    let file = file.expect("the first file");
    file.write_all_at(&[1], PAGE as u64).expect("write");
    assert_eq!(load(&region, PAGE), 1);
    assert_eq!(
        scan(&mut tracker, &region),
        pages([]),
        "the blind spot is gone"
    );
    drop(tracker);

    let refused = choose(&region, TrackerChoice::WpAsync, Writers::Anyone);
    assert!(
        matches!(refused, Err(TrackerError::Refused { .. })),
        "{refused:?}"
    );
    let chosen = choose(&region, TrackerChoice::Auto, Writers::Anyone).expect("another");
    let mut tracker = chosen.tracker;
    tracker.arm(&region).expect("armed");
    file.write_all_at(&[2], PAGE as u64).expect("write");
    assert_eq!(scan(tracker.as_mut(), &region), pages([1]));
}

#[test]
fn h14_a_discard_is_not_seen_where_page_tables_go_with_it_and_so_it_is_told() {
    // Some kernels report single pages that are gone, but none reports all of them.
    const PAGES: usize = 2048;
    let address = reserving(PAGES).fixed_address(0x3000_0000_0000);
    let mut unseen = 0;
    for kind in [RegionKind::Anonymous, RegionKind::Memfd, RegionKind::Files] {
        let folder = temp_dir();
        let region = region(kind, folder.path(), PAGES, address);
        let Some(mut tracker) = wp_async() else {
            return;
        };
        (0..PAGES).for_each(|page| store(&region, page * PAGE, 1));
        tracker.arm(&region).expect("armed");
        region.discard(0..PAGES * PAGE).expect("discarded");
        let seen = scan(&mut tracker, &region).len();
        unseen += PAGES as u64 - seen;
        let told = tracker.discarded(&region, 0..PAGES * PAGE);
        told.expect("watched");
        let all: PageSet = (0..PAGES as u64).collect();
        assert_eq!(scan(&mut tracker, &region), all, "{kind}");
        assert_eq!(load(&region, 4 * PAGE), 0);
        assert_eq!(scan(&mut tracker, &region), pages([]), "{kind}");
        store(&region, 5 * PAGE, 1);
        assert_eq!(scan(&mut tracker, &region), pages([5]), "{kind}");
    }
    assert!(unseen > 0, "the blind spot is gone");
}

#[test]
fn what_the_kernel_stores_for_us_is_seen() {
    let region = Region::anonymous(8 * PAGE, RegionOptions::default()).expect("a region");
    let Some(mut tracker) = wp_async() else {
        return;
    };
    tracker.arm(&region).expect("armed");
    let zeros = File::open("/dev/zero").expect("zeros");
    let at = region.as_ptr().as_ptr().wrapping_add(2 * PAGE);
    // SAFETY: inside the region, to which there are no other references.
    let buf = unsafe { std::slice::from_raw_parts_mut(at, PAGE) };
    rustix::io::read(zeros.as_fd(), buf).expect("zeros");
    assert_eq!(scan(&mut tracker, &region), pages([2]));
}

#[test]
fn h14_a_child_after_a_fork_is_refused_and_takes_nothing_from_its_parent() {
    let region = Region::anonymous(8 * PAGE, RegionOptions::default()).expect("a region");
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
            Err(TrackerError::OtherProcess { .. })
        );
        // SAFETY: ends the child, and nothing of its parent.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = 0;
    // SAFETY: a child of ours, and a status of our own.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    store(&region, 5 * PAGE, 1);
    assert_eq!(scan(&mut tracker, &region), pages([3, 5]));
}
