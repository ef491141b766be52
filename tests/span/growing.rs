//! Groups that grow: the last file, and files appended after it.

use std::fs;

use flatspan::span::GroupError;

use crate::{
    building::creating,
    content::{COPY_PATHS, noise, put, small_cache},
    support,
};

#[test]
fn the_last_file_grows_and_never_shrinks() {
    let directory = support::temp_dir();
    for copy_path in COPY_PATHS {
        let cache = small_cache(4, copy_path);
        let builder = creating(directory.path()).cache(&cache).file("a", 3);
        let mut group = builder.file("b", 5000).open().expect("a group");
        group.write_all_at(3, &noise(1, 5000)).expect("all of b");
        // Up to the end of the page in which the file ended when it was mapped, and past it.
        for len in [5001, 5100, 8192, 8193, 20_000] {
            group.grow_last_file(len).expect("grow_last");
            assert_eq!(group.len(), 3 + len);
            group
                .write_all_at(3, &noise(len, len as usize))
                .expect("the longer b");
            let found = fs::read(directory.path().join("b")).expect("read");
            assert!(found == noise(len, len as usize), "{copy_path:?}, {len}");
        }
        let refused = group.grow_last_file(19_999);
        assert!(matches!(
            refused,
            Err(GroupError::InvalidArgument {
                argument: "declared_bytes",
                ..
            })
        ));
        assert!(matches!(
            group.grow_last_file(1 << 63),
            Err(GroupError::InvalidEntry { entry: 1, .. })
        ));
        assert_eq!(group.len(), 20_003);
        fs::remove_file(directory.path().join("b")).expect("rm");
    }
}

#[test]
fn only_files_grow() {
    let directory = support::temp_dir();
    let mut none = creating(directory.path()).open().expect("a group");
    assert!(matches!(
        none.grow_last_file(1),
        Err(GroupError::NoSuchEntry { .. })
    ));
    let builder = creating(directory.path()).file("a", 3).padding(5);
    let mut padded = builder.open().expect("a group");
    assert!(matches!(
        padded.grow_last_file(9),
        Err(GroupError::NoSuchEntry {
            entry: 1,
            entries: 2
        })
    ));
}

#[test]
fn a_failed_append_leaves_the_group_unchanged() {
    let directory = support::temp_dir();
    put(&directory.path().join("file"), b"x");
    let builder = creating(directory.path()).padding(u64::MAX - 10);
    let mut group = builder.file("a", 5).open().expect("a group");
    assert!(matches!(
        group.append_file("b", 6),
        Err(GroupError::LengthOverflow { entry: 2 })
    ));
    assert!(matches!(
        group.append_file("b", u64::MAX),
        Err(GroupError::InvalidEntry { entry: 2, .. })
    ));
    assert!(group.append_file("../b", 1).is_err());
    assert!(
        group.append_file("file/b", 0).is_err(),
        "a file in place of a directory"
    );
    assert_eq!((group.len(), group.entry_count()), (u64::MAX - 5, 2));
    assert_eq!(group.layout().entry_count(), 2);
    group.append_file("b", 5).expect("the data fits exactly");
    group.write_all_at(u64::MAX - 5, b"bbbbb").expect("b");
    assert_eq!(
        fs::read(directory.path().join("b")).expect("read"),
        b"bbbbb"
    );
}
