//! Regions of every kind: creation, growth, shrinking, discarding, errors.

use std::{fs::File, os::unix::fs::FileExt as _, thread};

use flatspan::snapshot::{
    FilePart, PrivateFilePart, Region, RegionError, RegionKind, RegionOptions,
};

use crate::{
    fixture::{KINDS, PAGE, bytes, content, load, new_file, region, reserving, store},
    support::{
        child::{self, Child},
        temp_dir,
    },
};

#[test]
fn every_region_kind_grows_in_place_and_keeps_its_bytes() {
    for kind in KINDS {
        let directory = temp_dir();
        let region = region(kind, directory.path(), 8, reserving(1 << 20));
        assert_eq!((region.kind(), region.len()), (kind, 8 * PAGE));
        assert_eq!(region.reserved_bytes(), PAGE << 20);
        let start = region.as_ptr();
        let mut model = content(kind, 8);
        for pages in [9, 12, 600] {
            let last = region.len() - 1;
            store(&region, last, 7);
            model[last] = 7;
            // The length is rounded up.
            region.grow((pages - 1) * PAGE + 1).expect("grown");
            model.resize(pages * PAGE, 0);
            assert!(bytes(&region) == model, "{kind}: {pages} pages");
            store(&region, region.len() - 1, 0);
        }
        assert_eq!(region.as_ptr(), start, "{kind}");
        region
            .grow(PAGE)
            .expect("growing to a smaller length succeeds");
        assert_eq!(region.len(), 600 * PAGE);
    }
}

#[test]
fn i09_region_is_zero_after_shrinking_and_growing() {
    for kind in KINDS {
        let directory = temp_dir();
        let region = region(kind, directory.path(), 16, reserving(64));
        let mut model = content(kind, 16);
        (0..16).for_each(|page| store(&region, page * PAGE, 9));
        (0..16).for_each(|page| model[page * PAGE] = 9);
        // In the second file, at the border of the two, in the first, and to zero pages.
        for pages in [9, 4, 1, 0] {
            region.shrink(pages * PAGE).expect("shrunk");
            assert_eq!(region.len(), pages * PAGE);
            let outside = region.read_at(pages * PAGE, &mut [0]);
            assert!(matches!(outside, Err(RegionError::OutOfBounds { .. })));
            region.grow(16 * PAGE).expect("grown");
            model[pages * PAGE..].fill(0);
            assert!(bytes(&region) == model, "{kind}: {pages} pages");
            store(&region, 15 * PAGE, 9);
            model[15 * PAGE] = 9;
        }
    }
}

#[test]
fn discarded_pages_are_zero_and_writable() {
    const PAGES: usize = 1024;
    for kind in KINDS {
        let directory = temp_dir();
        let region = region(kind, directory.path(), PAGES, reserving(PAGES));
        let mut model = content(kind, PAGES);
        (0..PAGES).for_each(|page| store(&region, page * PAGE + 1, 9));
        (0..PAGES).for_each(|page| model[page * PAGE + 1] = 9);
        // Single pages, ranges across borders, large ones, a repeated one, an empty one, all pages.
        for pages in [
            0..1,
            255..257,
            300..700,
            690..1000,
            5..5,
            767..769,
            0..PAGES,
        ] {
            let range = pages.start * PAGE..pages.end * PAGE;
            region.discard(range.clone()).expect("discarded");
            model[range.clone()].fill(0);
            assert!(bytes(&region) == model, "{kind}: {pages:?}");
            for page in pages.step_by(3) {
                store(&region, page * PAGE, 5);
                model[page * PAGE] = 5;
                assert_eq!(load(&region, page * PAGE + 1), 0);
            }
        }
        assert!(bytes(&region) == model, "{kind}");
    }
}

#[test]
fn out_of_bounds_and_unaligned_ranges_are_rejected() {
    let region = Region::new_anonymous(4 * PAGE, RegionOptions::default()).expect("a region");
    for (offset, len) in [(4 * PAGE, 1), (0, 4 * PAGE + 1), (usize::MAX, 2)] {
        let refused = region.read_at(offset, &mut vec![0; len]);
        assert!(matches!(refused, Err(RegionError::OutOfBounds { .. })));
        let refused = region.write_at(offset, &vec![0; len]);
        assert!(matches!(refused, Err(RegionError::OutOfBounds { .. })));
    }
    let refused = region.discard(0..5 * PAGE);
    assert!(matches!(refused, Err(RegionError::OutOfBounds { .. })));
    for range in [1..PAGE, 0..PAGE - 1] {
        let refused = region.discard(range);
        assert!(matches!(refused, Err(RegionError::Unaligned { .. })));
    }
    region
        .write_at(4 * PAGE, &[])
        .expect("empty range is accepted");
    region
        .discard(4 * PAGE..4 * PAGE)
        .expect("empty range is accepted");
}

#[test]
fn address_in_use_is_an_error_and_a_free_one_is_used() {
    let first = Region::new_anonymous(PAGE, reserving(64)).expect("a region");
    let taken = first.as_ptr().addr().get() + 8 * PAGE;
    let at = |address| reserving(16).fixed_address(address);
    let refused = Region::new_memfd(PAGE, at(taken));
    assert!(
        matches!(&refused, Err(RegionError::AddressInUse { address, bytes })
            if *address == taken && *bytes == 16 * PAGE),
        "{refused:?}"
    );
    let address = 0x2000_0000_0000;
    let region = Region::new_memfd(PAGE, at(address)).expect("a free place");
    assert_eq!(region.as_ptr().addr().get(), address);
    region.grow(16 * PAGE).expect("grown");
    drop(region);
    let again = Region::new_anonymous(PAGE, at(address)).expect("free again");
    assert_eq!(again.as_ptr().addr().get(), address);
}

#[test]
fn invalid_options_are_named_in_the_error() {
    let named = |result: Result<Region, RegionError>, name| {
        let error = result.map(|_| ()).expect_err(name);
        assert!(
            matches!(&error, RegionError::InvalidOption { field, .. } if *field == name),
            "{error:?}"
        );
    };
    let options = RegionOptions::default();
    named(
        Region::new_anonymous(2 * PAGE, reserving(1)),
        "reserve_bytes",
    );
    named(Region::new_anonymous(usize::MAX, options), "len");
    let address = |address| options.fixed_address(address);
    named(Region::new_anonymous(PAGE, address(0)), "fixed_address");
    named(Region::new_anonymous(PAGE, address(4097)), "fixed_address");
    let file = || tempfile::tempfile().expect("a file");
    for bytes in [0, 100] {
        let parts = vec![FilePart {
            file: file(),
            bytes,
        }];
        named(Region::map_files(parts, options), "parts");
    }
    let part = |offset| {
        let file = file();
        file.set_len(1 << 20).expect("longer");
        vec![PrivateFilePart {
            file,
            offset,
            bytes: 2 * PAGE,
        }]
    };
    named(
        Region::map_private_files(part(7), 2 * PAGE, options),
        "parts",
    );
    named(Region::map_private_files(part(0), PAGE, options), "len");

    let none = Region::new_anonymous(0, options).expect("an empty region");
    assert!(none.is_empty());
    let refused = none.grow(2 * PAGE);
    assert!(matches!(
        refused,
        Err(RegionError::ReserveExceeded { required_bytes: needed_bytes, reserve_bytes })
            if needed_bytes == 2 * PAGE && reserve_bytes == PAGE
    ));
    let too_much = Region::new_anonymous(PAGE, reserving(1 << 36));
    assert!(
        matches!(too_much, Err(RegionError::OutOfMemory { .. })),
        "{too_much:?}"
    );
}

#[test]
fn files_must_have_the_part_length_and_files_can_be_appended() {
    let directory = temp_dir();
    let part = |name, pages: usize| FilePart {
        file: new_file(directory.path(), name),
        bytes: pages * PAGE,
    };
    let len_of = |name: &str| {
        File::open(directory.path().join(name))
            .expect("file opens")
            .metadata()
            .expect("metadata is readable")
            .len() as usize
    };
    let region = Region::map_files(vec![part("a", 2)], reserving(16)).expect("a region");
    assert_eq!(len_of("a"), 2 * PAGE);
    region.append_file(part("b", 3)).expect("appended");
    assert_eq!((region.len(), len_of("b")), (5 * PAGE, 3 * PAGE));
    store(&region, 4 * PAGE, 4);
    region.grow(6 * PAGE).expect("grown");
    assert_eq!((len_of("a"), len_of("b")), (2 * PAGE, 4 * PAGE));
    region.shrink(2 * PAGE).expect("shrunk");
    assert_eq!((len_of("a"), len_of("b")), (2 * PAGE, 0));
    region.grow(3 * PAGE).expect("grown");
    assert_eq!((len_of("a"), len_of("b")), (3 * PAGE, 0));
    assert!(bytes(&region) == [0; 3 * PAGE]);

    let long = part("c", 1);
    long.file.set_len(2 * PAGE as u64).expect("longer");
    let refused = region.append_file(long);
    assert!(
        matches!(refused, Err(RegionError::FileTooLong { part: 1, .. })),
        "{refused:?}"
    );
    let other = Region::new_anonymous(PAGE, reserving(8)).expect("a region");
    assert!(matches!(
        other.append_file(part("d", 1)),
        Err(RegionError::InvalidOption { field: "parts", .. })
    ));
    let no_writer = File::open(directory.path().join("a")).expect("to read");
    let parts = vec![FilePart {
        file: no_writer,
        bytes: 3 * PAGE,
    }];
    assert!(Region::map_files(parts, reserving(8)).is_err());
}

#[test]
fn only_a_memfd_region_returns_a_descriptor_and_it_cannot_shrink() {
    for kind in KINDS {
        let directory = temp_dir();
        let region = region(kind, directory.path(), 8, reserving(8));
        let Some(fd) = region.as_fd() else {
            assert_ne!(kind, RegionKind::Memfd);
            continue;
        };
        let file = File::from(fd.try_clone_to_owned().expect("a descriptor"));
        store(&region, 0, 3);
        assert!(file.set_len(0).is_err());
        assert_eq!(load(&region, 0), 3);
    }
}

#[test]
fn i09_foreign_bytes_after_a_shrunk_memfd_do_not_appear() {
    let region = Region::new_memfd(8 * PAGE, reserving(16)).expect("a region");
    let fd = region.as_fd().expect("a memfd");
    let file = File::from(fd.try_clone_to_owned().expect("a descriptor"));
    region.shrink(2 * PAGE).expect("shrunk");
    file.write_all_at(&[9; 7 * PAGE], 3 * PAGE as u64)
        .expect("another writer extends the file");
    region.grow(12 * PAGE).expect("grown");
    assert!(bytes(&region) == [0; 12 * PAGE]);
}

#[test]
fn huge_pages_are_optional() {
    for kind in KINDS {
        let directory = temp_dir();
        let options = reserving(2048).huge_pages(true);
        let region = region(kind, directory.path(), 8, options);
        region.grow(1024 * PAGE).expect("grown");
        store(&region, 1023 * PAGE, 1);
        assert_eq!(load(&region, 1023 * PAGE), 1);
    }
}

#[test]
fn truncated_file_is_an_error_of_the_copy() {
    let directory = temp_dir();
    for kind in [RegionKind::Files, RegionKind::PrivateFiles] {
        let directory = directory.path().join(kind.to_string());
        std::fs::create_dir(&directory).expect("mkdir");
        let region = region(kind, &directory, 8, reserving(8));
        let other = File::options().write(true).open(directory.join("a"));
        other
            .expect("file opens")
            .set_len(PAGE as u64)
            .expect("file is truncated");
        let failed = region.read_at(0, &mut [0; 4 * PAGE]);
        assert!(
            matches!(failed, Err(RegionError::BadPage { offset }) if offset == PAGE),
            "{failed:?}"
        );
        let failed = region.write_at(PAGE + 5, b"x");
        assert!(
            matches!(failed, Err(RegionError::BadPage { .. })),
            "{failed:?}"
        );
    }
}

#[test]
fn i12_page_replaced_by_the_sigbus_handler_poisons_the_region() {
    let name = "region::i12_page_replaced_by_the_sigbus_handler_poisons_the_region";
    if !child::is_me(name) {
        // The handler is process-wide.
        if let Some(done) = Child::new(name).run() {
            done.assert_passed();
        }
        return;
    }
    flatspan::mapping_cache::install_sigbus_handler().expect("a handler");
    for kind in [RegionKind::Files, RegionKind::PrivateFiles] {
        let directory = temp_dir();
        let region = region(kind, directory.path(), 8, reserving(8));
        assert_eq!(load(&region, PAGE), content(kind, 8)[PAGE]);
        let other = File::options().write(true).open(directory.path().join("a"));
        other
            .expect("file opens")
            .set_len(0)
            .expect("file is truncated");
        assert!(!region.is_poisoned());
        assert_eq!(load(&region, PAGE), 0);
        assert!(region.is_poisoned());
    }
}

#[test]
fn concurrent_copies_growth_and_discards_do_not_interfere() {
    for kind in KINDS {
        let directory = temp_dir();
        let region = region(kind, directory.path(), 64, reserving(512));
        thread::scope(|scope| {
            for writer in 0..4_usize {
                let region = &region;
                scope.spawn(move || {
                    for round in 1..100 {
                        let at = (writer * 4 + round % 4) * PAGE;
                        region.write_at(at, &[round as u8; PAGE]).expect("in");
                        let mut page = [0; PAGE];
                        region.read_at(at, &mut page).expect("out");
                        assert_eq!(page, [round as u8; PAGE]);
                        if round % 7 == 0 {
                            region.discard(at..at + PAGE).expect("discarded");
                        }
                    }
                });
            }
            for pages in [128, 64, 256, 32, 512] {
                region.grow(pages * PAGE).expect("grown");
                region.shrink(pages * PAGE).expect("shrunk");
            }
        });
        assert_eq!(region.len(), 512 * PAGE);
    }
}
