//! Files that are shorter or longer than declared, or missing: the offsets after them do not shift.

use std::fs::{self, File};

use flatspan::{
    mapping_cache::Access,
    span::{Group, Pieces},
};
use tempfile::TempDir;

use crate::{
    content::{COPY_PATHS, length_of, missing, noise, put, short_file, small_cache},
    support,
};

/// Files a, b, c, declared with 10,000 bytes each. `b` has only the given number of bytes.
fn three_files(b_bytes: Option<usize>) -> TempDir {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, 10_000));
    if let Some(bytes) = b_bytes {
        put(&directory.path().join("b"), &noise(2, bytes));
    }
    put(&directory.path().join("c"), &noise(3, 10_000));
    directory
}

fn groups(directory: &TempDir) -> impl Iterator<Item = Group> {
    COPY_PATHS.into_iter().map(|copy_path| {
        let cache = small_cache(8, copy_path);
        let builder = Group::builder(directory.path()).cache(&cache);
        let builder = builder
            .file("a", 10_000)
            .file("b", 10_000)
            .file("c", 10_000);
        builder.open().expect("a group")
    })
}

#[test]
fn a_short_file_is_read_up_to_its_end() {
    // Inside a page, at the end of a page, one byte after it, and an empty file.
    for present in [5000, 4096, 8192, 4097, 1, 0] {
        let directory = three_files(Some(present));
        for group in groups(&directory) {
            let mut buf = vec![0xEE; 30_000];
            let read = group.read_at(0, &mut buf).expect("the existing part");
            assert_eq!(read, 10_000 + present);
            assert!(buf[..10_000] == noise(1, 10_000));
            assert!(buf[10_000..read] == noise(2, present));
            if present > 0 {
                let last = 10_000 + present as u64 - 1;
                let mut byte = [0];
                group.read_exact_at(last, &mut byte).expect("the last byte");
                assert_eq!(byte[0], noise(2, present)[present - 1]);
                assert_eq!(group.read_at(last, &mut [0; 9]).expect("one byte"), 1);
            }
        }
    }
}

#[test]
fn reading_past_the_end_of_a_short_file_reports_both_lengths() {
    for present in [5000_u64, 4096, 8192, 4097, 1, 0] {
        let directory = three_files(Some(present as usize));
        for group in groups(&directory) {
            for (offset, len, needed) in [
                (10_000 + present, 1, present + 1),
                (10_000, 10_000, 10_000),
                (0, 30_000, 10_000),
                (19_999, 1, 10_000),
                (19_000, 5000, 10_000),
                (10_000 + present, 8, (present + 8).min(10_000)),
            ] {
                let error = group.read_exact_at(offset, &mut vec![0; len]).unwrap_err();
                let expected = (directory.path().join("b"), needed, present);
                assert_eq!(short_file(error), expected, "{offset} + {len}");
            }
            let error = group.read_at(10_000 + present, &mut [0; 4]).unwrap_err();
            assert_eq!(short_file(error).2, present);
        }
    }
}

#[test]
fn offsets_do_not_shift_after_a_short_or_missing_file() {
    for present in [Some(5000), Some(0), None] {
        let directory = three_files(present);
        for group in groups(&directory) {
            let mut buf = vec![0; 10_000];
            group.read_exact_at(20_000, &mut buf).expect("all of c");
            assert!(buf == noise(3, 10_000));
            assert_eq!(group.len(), 30_000);
        }
    }
}

#[test]
fn a_missing_file_is_named_in_the_error() {
    let directory = three_files(None);
    for group in groups(&directory) {
        for (offset, len) in [(10_000, 1), (0, 30_000), (15_000, 10_000)] {
            let error = group.read_exact_at(offset, &mut vec![0; len]).unwrap_err();
            assert_eq!(missing(error), directory.path().join("b"));
        }
        assert_eq!(
            missing(group.read_at(10_000, &mut [0]).unwrap_err()),
            directory.path().join("b")
        );
        let mut buf = vec![0; 30_000];
        assert_eq!(group.read_at(0, &mut buf).expect("all of a"), 10_000);
        let pieces = Pieces::new(&group, 10_000).expect("pieces");
        pieces.hash(0).expect("a");
        assert_eq!(
            missing(pieces.hash(1).unwrap_err()),
            directory.path().join("b")
        );
        pieces.hash(2).expect("c");
    }
}

#[test]
fn a_file_that_appears_or_grows_is_seen() {
    let directory = three_files(None);
    for group in groups(&directory) {
        assert!(group.read_exact_at(10_000, &mut [0]).is_err());
        put(&directory.path().join("b"), &noise(2, 10_000)[..100]);
        let mut buf = vec![0; 10_000];
        assert_eq!(group.read_at(10_000, &mut buf).expect("a part"), 100);
        let file = File::options()
            .write(true)
            .open(directory.path().join("b"))
            .expect("open");
        std::os::unix::fs::FileExt::write_all_at(&file, &noise(2, 10_000), 0).expect("write");
        group
            .read_exact_at(10_000, &mut buf)
            .expect("the whole range");
        assert!(buf == noise(2, 10_000));
        fs::remove_file(directory.path().join("b")).expect("rm");
    }
}

#[test]
fn only_the_declared_part_of_a_longer_file_is_visible() {
    let directory = three_files(Some(15_000));
    for group in groups(&directory) {
        let mut buf = vec![0; 30_000];
        group.read_exact_at(0, &mut buf).expect("all bytes");
        let expected = [
            noise(1, 10_000),
            noise(2, 15_000)[..10_000].to_vec(),
            noise(3, 10_000),
        ];
        assert!(buf == expected.concat());
    }
}

#[test]
fn writing_a_longer_file_keeps_its_undeclared_end() {
    for copy_path in COPY_PATHS {
        let directory = three_files(Some(15_000));
        let cache = small_cache(8, copy_path);
        let builder = Group::builder(directory.path())
            .cache(&cache)
            .access(Access::ReadWrite);
        let group = builder.file("b", 10_000).open().expect("a group");
        group
            .write_all_at(0, &noise(9, 10_000))
            .expect("all of the group");
        group.sync_all().expect("sync_all");
        let found = fs::read(directory.path().join("b")).expect("read");
        assert_eq!(found.len(), 15_000);
        assert!(found[..10_000] == noise(9, 10_000));
        assert!(found[10_000..] == noise(2, 15_000)[10_000..]);
    }
}

#[test]
fn writing_extends_a_short_file_up_to_the_declared_length() {
    for copy_path in COPY_PATHS {
        let directory = three_files(Some(100));
        let cache = small_cache(8, copy_path);
        let builder = Group::builder(directory.path())
            .cache(&cache)
            .access(Access::ReadWrite);
        let group = builder.file("b", 10_000).open().expect("a group");
        group
            .write_all_at(5000, b"far")
            .expect("a write past the end");
        let mut expected = noise(2, 100);
        expected.resize(5000, 0);
        expected.extend(b"far");
        let mut buf = vec![0; 5003];
        group
            .read_exact_at(0, &mut buf)
            .expect("the hole is read too");
        assert!(buf == expected);
        let len = length_of(&directory.path().join("b"));
        assert!((5003..=10_000).contains(&len), "{copy_path:?}: {len}");
    }
}
