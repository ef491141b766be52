//! `GroupBuilder` with existing files, missing files, ranges and padding.

use std::fs;

use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingError},
    span::{Group, GroupBuilder, GroupError},
};

use crate::{
    content::{COPY_PATHS, missing, noise, put, small_cache, tree},
    support,
};

pub(crate) fn creating(root: &std::path::Path) -> GroupBuilder {
    let builder = Group::builder(root);
    builder.access(Access::ReadWrite).create(true)
}

#[track_caller]
fn assert_entry_refused(builder: GroupBuilder, number: usize, name: &str) {
    let refused = builder.open();
    assert!(
        matches!(&refused, Err(GroupError::InvalidEntry { entry, path, .. })
            if *entry == number && path.as_os_str() == name),
        "{refused:?}"
    );
}

#[test]
fn nothing_is_created_before_the_first_write() {
    let directory = support::temp_dir();
    let group = creating(directory.path())
        .file("one", 10)
        .file("deep/down/two", 10)
        .open()
        .expect("a group");
    assert!(group.read_exact_at(0, &mut [0]).is_err());
    group.sync_all().expect("nothing to sync");
    group.evict(..).expect("nothing to evict");
    group.prefetch(..).expect("an empty read");
    assert!(!group.is_resident(..).expect("no"));
    assert!(tree(directory.path()).is_empty());

    group.write_all_at(15, b"x").expect("a write");
    assert_eq!(
        tree(directory.path()),
        ["deep", "deep/down", "deep/down/two"]
    );
    let two = fs::read(directory.path().join("deep/down/two")).expect("read");
    assert_eq!(two, b"\0\0\0\0\0x");
    assert_eq!(
        missing(group.read_exact_at(9, &mut [0]).unwrap_err()),
        directory.path().join("one")
    );
}

#[test]
fn empty_files_are_created_when_the_group_opens() {
    let directory = support::temp_dir();
    let mut group = creating(directory.path())
        .file("a/empty", 0)
        .file_range("b/range", 7..7)
        .file("full", 3)
        .open()
        .expect("a group");
    let mut expected = vec!["a", "a/empty", "b", "b/range"];
    assert_eq!(tree(directory.path()), expected);
    group.append_file("c/late", 0).expect("append_file");
    expected.extend(["c", "c/late"]);
    assert_eq!(tree(directory.path()), expected);
    for file in ["a/empty", "b/range", "c/late"] {
        assert_eq!(fs::read(directory.path().join(file)).expect("read"), b"");
    }
}

#[test]
fn an_existing_file_keeps_its_content_under_an_empty_entry() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), b"kept");
    creating(directory.path())
        .file("a", 0)
        .open()
        .expect("a group");
    assert_eq!(fs::read(directory.path().join("a")).expect("read"), b"kept");
}

#[test]
fn without_create_no_file_is_created() {
    let directory = support::temp_dir();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let builder = Group::builder(directory.path()).access(access);
        let group = builder
            .file("empty", 0)
            .file("a/b", 5)
            .open()
            .expect("a group");
        let refused = group.write_all_at(0, b"x").expect_err("no file");
        if access == Access::ReadWrite {
            assert_eq!(missing(refused), directory.path().join("a/b"));
        } else {
            assert!(
                matches!(&refused, GroupError::File(MappingError::ReadOnly { path })
                    if *path == directory.path().join("a/b")),
                "{refused:?}"
            );
        }
        assert!(tree(directory.path()).is_empty());
    }
}

#[test]
fn create_requires_write_access() {
    let directory = support::temp_dir();
    let refused = Group::builder(directory.path())
        .create(true)
        .file("a", 1)
        .open();
    assert!(matches!(
        refused,
        Err(GroupError::InvalidArgument {
            argument: "create",
            ..
        })
    ));
}

#[test]
fn a_read_only_group_does_not_write() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), b"abc");
    for copy_path in COPY_PATHS {
        let cache = small_cache(4, copy_path);
        let builder = Group::builder(directory.path()).cache(&cache).file("a", 3);
        let group = builder.open().expect("a group");
        let refused = group.write_all_at(0, b"x");
        assert!(
            matches!(
                refused,
                Err(GroupError::File(MappingError::ReadOnly { .. }))
            ),
            "{refused:?}"
        );
        assert_eq!(fs::read(directory.path().join("a")).expect("read"), b"abc");
    }
}

#[test]
fn existing_files_use_their_actual_length() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, 5000));
    put(&directory.path().join("empty"), b"");
    let builder = Group::builder(directory.path())
        .existing_file("a")
        .existing_file("empty");
    let group = builder.existing_file("a").open().expect("a group");
    assert_eq!(group.len(), 10_000);
    let mut buf = vec![0; 10_000];
    group.read_exact_at(0, &mut buf).expect("all bytes");
    assert_eq!(buf, [noise(1, 5000), noise(1, 5000)].concat());

    let refused = Group::builder(directory.path())
        .existing_file("no")
        .open()
        .unwrap_err();
    assert_eq!(missing(refused), directory.path().join("no"));
}

#[test]
fn impossible_lengths_are_refused() {
    const MAX: u64 = i64::MAX as u64;
    let directory = support::temp_dir();
    let builder = || creating(directory.path()).file("fine", 1);
    assert_entry_refused(builder().file("long", MAX + 1), 1, "long");
    assert_entry_refused(builder().file("long", u64::MAX), 1, "long");
    assert_entry_refused(builder().file_range("long", 5..MAX + 1), 1, "long");
    assert_entry_refused(builder().file_range("long", u64::MAX..u64::MAX), 1, "long");
    let (start, end) = (3, 2);
    assert_entry_refused(builder().file_range("inverted", start..end), 1, "inverted");
    let refused = builder().padding(u64::MAX).open();
    assert!(matches!(
        refused,
        Err(GroupError::LengthOverflow { entry: 1 })
    ));
    let refused = builder().file("a", MAX).file("b", MAX).file("c", 2).open();
    assert!(matches!(
        refused,
        Err(GroupError::LengthOverflow { entry: 3 })
    ));

    let longest = builder().file("long", MAX).open().expect("a group");
    assert_eq!(longest.len(), MAX + 1);
    longest.write_all_at(1, b"x").expect("the first byte");
    assert!(longest.read_exact_at(MAX, &mut [0]).is_err());
    assert!(
        longest.write_all_at(MAX, b"x").is_err(),
        "no filesystem has such files"
    );
    assert_eq!(fs::read(directory.path().join("long")).expect("read"), b"x");
}

#[test]
fn groups_share_a_given_cache() {
    let directory = support::temp_dir();
    let cache = small_cache(4, CopyMethod::Mapped);
    let builder = creating(directory.path()).cache(&cache).file("a", 3 * 4096);
    let group = builder.open().expect("a group");
    // The first write extends the file; the second one goes through its windows.
    for seed in [1, 2] {
        let written = group.write_all_at(0, &noise(seed, 3 * 4096));
        written.expect("a write");
    }
    assert_eq!(cache.stats().mapped_bytes, 3 * 4096);
    assert_eq!(group.stats(), cache.stats());
    drop(group);
    assert_eq!(cache.stats().mapped_bytes, 0);
}
