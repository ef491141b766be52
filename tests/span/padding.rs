//! Entries that are not whole files: padding, and ranges of files.

use std::fs;

use flatspan::span::{EntryKind, Group, GroupError};

use crate::{
    building::creating,
    content::{COPY_PATHS, noise, put, small_cache, tree},
    support,
};

#[test]
fn entries_report_their_kind() {
    let directory = support::temp_dir();
    let builder = creating(directory.path()).file("a", 3).padding(5);
    let group = builder.file_range("b", 2..4).open().expect("a group");
    let entries: Vec<_> = group
        .entries()
        .map(|entry| (entry.path.to_owned(), entry.range, entry.kind))
        .collect();
    let expected = [
        ("a".into(), 0..3, EntryKind::File),
        ("".into(), 3..8, EntryKind::Padding),
        ("b".into(), 8..10, EntryKind::FileRange),
    ];
    assert_eq!(entries, expected);
    assert_eq!((group.entry_count(), group.root()), (3, directory.path()));
    assert!(!group.is_empty());
    assert!(
        Group::builder(directory.path())
            .open()
            .expect("a group")
            .is_empty()
    );
}

#[test]
fn padding_reads_as_zeros_and_is_never_on_disk() {
    let directory = support::temp_dir();
    for copy_path in COPY_PATHS {
        let cache = small_cache(4, copy_path);
        let builder = creating(directory.path())
            .cache(&cache)
            .padding(2)
            .file("a", 3);
        let group = builder
            .padding(4)
            .file("b", 3)
            .padding(1)
            .open()
            .expect("a group");
        group
            .write_all_at(0, b"\0\0aaa\0\0\0\0bbb\0")
            .expect("zeros on padding");
        let mut all = [0xEE; 13];
        group.read_exact_at(0, &mut all).expect("all bytes");
        assert_eq!(&all, b"\0\0aaa\0\0\0\0bbb\0");
        assert_eq!(tree(directory.path()), ["a", "b"]);
        assert_eq!(fs::read(directory.path().join("a")).expect("read"), b"aaa");

        let refused = group.write_all_at(2, b"AAA\0\0\x01\0BBB");
        assert!(
            matches!(refused, Err(GroupError::WriteToPadding { entry: 2 })),
            "{refused:?}"
        );
        assert_eq!(
            fs::read(directory.path().join("a")).expect("read"),
            b"AAA",
            "before it"
        );
        assert_eq!(
            fs::read(directory.path().join("b")).expect("read"),
            b"bbb",
            "after it"
        );
        let refused = group.write_at(12, b"\x01");
        assert!(
            matches!(refused, Err(GroupError::WriteToPadding { entry: 4 })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_range_entry_leaves_the_rest_of_its_file_unchanged() {
    let directory = support::temp_dir();
    let path = directory.path().join("a");
    for copy_path in COPY_PATHS {
        let content = noise(1, 20_000);
        put(&path, &content);
        let cache = small_cache(4, copy_path);
        let builder = creating(directory.path())
            .cache(&cache)
            .file_range("a", 9000..12_000);
        let group = builder.file_range("a", 100..200).open().expect("a group");
        let mut buf = vec![0; 3100];
        group.read_exact_at(0, &mut buf).expect("all bytes");
        assert_eq!(buf, [&content[9000..12_000], &content[100..200]].concat());
        group.write_all_at(0, &noise(2, 3100)).expect("all bytes");
        let mut expected = content;
        expected[9000..12_000].copy_from_slice(&noise(2, 3100)[..3000]);
        expected[100..200].copy_from_slice(&noise(2, 3100)[3000..]);
        assert!(fs::read(&path).expect("read") == expected, "{copy_path:?}");
    }
}

#[test]
fn a_range_of_a_missing_file_is_created_after_a_hole() {
    let directory = support::temp_dir();
    let builder = creating(directory.path()).file_range("a", 5..9);
    let group = builder.open().expect("a group");
    group.write_all_at(1, b"xy").expect("two bytes");
    let content = fs::read(directory.path().join("a")).expect("read");
    assert_eq!(content, b"\0\0\0\0\0\0xy");
}
