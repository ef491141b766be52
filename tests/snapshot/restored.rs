//! Regions restored by mapping never change their files.
#![expect(
    unsafe_code,
    reason = "the caller guarantees that dropped pages equal their files"
)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use flatspan::snapshot::{
    DirtyTracker as _, PageSet, PrivateFilePart, PrivatePagesTracker, Region, RegionError,
    RegionKind,
};

use crate::{
    fixture::{PAGE, all_files, bytes, content, file_byte, load, region, reserving, store},
    support::temp_dir,
};

#[test]
fn i10_mapped_files_never_change() {
    let directory = temp_dir();
    let region = region(
        RegionKind::PrivateFiles,
        directory.path(),
        1024,
        reserving(2048),
    );
    let before = all_files(directory.path());
    (0..1024).for_each(|page| store(&region, page * PAGE, 77));
    region.write_at(5 * PAGE, &[1; 9 * PAGE]).expect("in");
    region.discard(0..3 * PAGE).expect("a few");
    region.discard(100 * PAGE..900 * PAGE).expect("many");
    region.grow(1200 * PAGE).expect("grown");
    region.shrink(300 * PAGE).expect("shrunk");
    region.shrink(0).expect("shrunk");
    region.grow(1024 * PAGE).expect("grown");
    assert!(bytes(&region).iter().all(|byte| *byte == 0));
    drop(region);
    assert!(all_files(directory.path()) == before);
}

#[test]
fn range_after_the_end_of_its_file_is_rejected() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(3 * PAGE as u64 - 1).expect("longer");
    let parts = vec![PrivateFilePart {
        file,
        offset: PAGE as u64,
        bytes: 2 * PAGE,
    }];
    let refused = Region::map_private_files(parts, 2 * PAGE, reserving(2));
    assert!(
        matches!(refused, Err(RegionError::FileTooShort { part: 0, required_bytes: needed_bytes, actual_bytes: present_bytes })
            if needed_bytes == 3 * PAGE as u64 && present_bytes + 1 == needed_bytes),
        "{refused:?}"
    );
}

#[test]
fn i11_dropped_pages_are_read_from_the_file_and_others_stay() {
    let directory = temp_dir();
    let region = region(
        RegionKind::PrivateFiles,
        directory.path(),
        16,
        reserving(16),
    );
    let mut tracker = PrivatePagesTracker::new().expect("a tracker");
    tracker.arm(&region).expect("armed");
    // Page 13 has no file.
    for page in [1, 2, 6, 13] {
        store(&region, page * PAGE, 99);
    }
    let mut set = PageSet::new();
    tracker.scan(&region, &mut set).expect("a scan");
    assert_eq!(set, PageSet::from_iter([1, 2, 6, 13]));

    // As a checkpoint into this heap does: it holds pages 1 and 2; page 13 is after the end of the
    // file.
    let file = File::options().write(true).open(directory.path().join("a"));
    let file = file.expect("the first file");
    let mut page = [file_byte(PAGE); PAGE];
    page[0] = 99;
    file.write_all_at(&page, PAGE as u64).expect("write");
    page = [file_byte(2 * PAGE); PAGE];
    page[0] = 99;
    file.write_all_at(&page, 2 * PAGE as u64).expect("write");
    // SAFETY: pages 1 and 2 equal the file, 13 has none, and no thread stores.
    let given = unsafe { region.drop_private_pages(&PageSet::from_iter([1, 2, 13])) };
    assert_eq!(given.expect("given back"), 2);

    set.clear();
    tracker.scan(&region, &mut set).expect("a scan");
    assert_eq!(set, PageSet::from_iter([6, 13]));
    let mut model = content(RegionKind::PrivateFiles, 16);
    model.truncate(12 * PAGE);
    for page in [1, 2, 6] {
        model[page * PAGE] = 99;
    }
    let mut over_files = vec![0; 12 * PAGE];
    region.read_at(0, &mut over_files).expect("a copy");
    assert!(over_files == model);
    assert_eq!(load(&region, 13 * PAGE), 99);
    store(&region, PAGE, 98);
    tracker.scan(&region, &mut set).expect("a scan");
    assert_eq!(set, PageSet::from_iter([1, 6, 13]));
}

#[test]
fn discarded_pages_no_longer_map_a_file() {
    let directory = temp_dir();
    let region = region(
        RegionKind::PrivateFiles,
        directory.path(),
        2048,
        reserving(2048),
    );
    region.discard(256 * PAGE..1024 * PAGE).expect("many");
    store(&region, 300 * PAGE, 5);
    // SAFETY: the pages that map a file were not stored to, so they equal it, and no thread stores.
    let given = unsafe { region.drop_private_pages(&(0..2048).collect()) };
    assert_eq!(given.expect("given back"), 1536 - 768);
    assert_eq!(load(&region, 300 * PAGE), 5);
    assert_eq!(load(&region, 301 * PAGE), 0);
    assert_eq!(load(&region, 255 * PAGE), file_byte(255 * PAGE));
}
