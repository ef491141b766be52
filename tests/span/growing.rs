//! Groups that grow: the last file, and files appended after it.

use std::fs;

use flatspan::{
    mapping_cache::{CacheOptions, CopyMethod, MappingCache, Preallocation},
    span::GroupError,
};

use crate::{
    building::creating,
    content::{COPY_PATHS, PREALLOCATIONS, noise, put, small_cache},
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

/// A cache whose windows are longer than the files of these tests.
fn large_windows() -> MappingCache {
    let options = CacheOptions::default().window_bytes(1 << 20);
    MappingCache::new(options).expect("a cache")
}

#[test]
fn span_mut_covers_adjoining_ranges_of_one_new_file() {
    for preallocation in PREALLOCATIONS {
        let directory = support::temp_dir();
        let cache = large_windows();
        let builder = creating(directory.path()).cache(&cache);
        let group = builder
            .preallocation(preallocation)
            .file_range("a", 0..3000)
            .file_range("a", 3000..10_000)
            .file_range("a", 10_000..90_000)
            .open()
            .expect("a group");
        let content = noise(1, 90_000);
        let mut span = group.span_mut(..).expect("the ranges do not overlap");
        span.write_at(0, &content).expect("all parts are writable");
        drop(span);
        assert!(fs::read(directory.path().join("a")).expect("read") == content);
        assert_eq!(cache.stats().pinned_mappings, 0);
        assert_eq!(cache.stats().mappings, 1, "shorter mappings are unmapped");
    }
}

#[test]
fn a_kept_span_blocks_no_other_span_of_its_window_once_the_file_has_grown() {
    let directory = support::temp_dir();
    let cache = large_windows();
    let open = |bytes| {
        let builder = creating(directory.path()).cache(&cache);
        let builder = builder.preallocation(Preallocation::Sparse);
        builder.file("a", bytes).open().expect("a group")
    };
    let content = noise(1, 100_000);
    let (first, second) = (open(5000), open(100_000));
    first.write_all_at(0, &content[..5000]).expect("a write");
    let mut kept_mut = first.span_mut(0..100).expect("a span");
    let kept = first.span(100..5000).expect("a span");

    let mut grown = second.span_mut(5000..100_000).expect("a second mapping");
    grown.write_at(0, &content[5000..]).expect("a write");
    kept_mut.write_at(0, &content[..100]).expect("a write");
    drop(grown);
    let mut buf = vec![0; 95_000];
    let read = second.span(5000..100_000).expect("a span");
    read.read_at(0, &mut buf).expect("a read");
    assert!(buf == content[5000..]);
    kept.read_at(0, &mut buf[..4900]).expect("a read");
    assert!(buf[..4900] == content[100..5000]);

    assert_eq!(cache.stats().pinned_mappings, 2);
    drop((kept, kept_mut, read));
    assert_eq!(cache.stats().pinned_mappings, 0);
    assert!(fs::read(directory.path().join("a")).expect("read") == content);
}

#[test]
fn a_kept_span_blocks_no_reader_of_a_file_that_another_program_extends() {
    let directory = support::temp_dir();
    let path = directory.path().join("a");
    let content = noise(1, 100_000);
    for copy_path in [CopyMethod::Auto, CopyMethod::Mapped] {
        put(&path, &content[..5000]);
        let options = CacheOptions::default().window_bytes(1 << 20);
        let cache = MappingCache::new(options.copy_method(copy_path)).expect("a cache");
        let builder = flatspan::span::Group::builder(directory.path()).cache(&cache);
        let group = builder.file("a", 100_000).open().expect("a group");
        let kept = group.span(0..5000).expect("a span");
        let file = fs::OpenOptions::new().append(true).open(&path);
        std::io::Write::write_all(&mut file.expect("a file"), &content[5000..]).expect("a write");
        let span = group.span(4000..100_000).expect("a second mapping");
        let mut buf = vec![0; 96_000];
        span.read_at(0, &mut buf).expect("a read");
        assert!(buf == content[4000..]);
        drop(span);
        assert_eq!(cache.stats().mappings, 2);
        drop(kept);
        assert_eq!(cache.stats().mappings, 1);
    }
}
