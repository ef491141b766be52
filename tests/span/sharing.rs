//! One file reached in several ways: by repeated paths, by hard links, by two groups.

use std::{fs, thread};

use flatspan::{
    mapping_cache::{Access, CacheOptions, CopyMethod, FlushMode, MappingCache, Preallocation},
    span::{Cursor, Group, GroupBuilder, GroupError, Layout, Pieces},
};

use crate::{
    content::{COPY_PATHS, noise, put, small_cache},
    support,
};

const FILE_BYTES: usize = 20_000;

fn assert_send_and_sync<T: Send + Sync>() {}

#[test]
fn groups_may_be_shared_by_threads() {
    assert_send_and_sync::<Group>();
    assert_send_and_sync::<GroupBuilder>();
    assert_send_and_sync::<MappingCache>();
    assert_send_and_sync::<Layout>();
    assert_send_and_sync::<Pieces<'static>>();
    assert_send_and_sync::<Cursor<&'static Group>>();
    assert_send_and_sync::<GroupError>();
    #[cfg(feature = "rayon")]
    {
        use flatspan::span::{HashOptions, PieceHash, VerifyReport};
        assert_send_and_sync::<HashOptions<'static>>();
        assert_send_and_sync::<PieceHash>();
        assert_send_and_sync::<VerifyReport>();
    }
}

/// Writes through one half of the group and reads through the other one, in both directions.
#[track_caller]
fn assert_same_file(group: &Group, what: &str) {
    let half = FILE_BYTES as u64;
    let content = noise(1, FILE_BYTES);
    let mut buf = vec![0; FILE_BYTES];
    group.write_all_at(0, &content).expect("the first half");
    group
        .read_exact_at(half, &mut buf)
        .expect("the second half");
    assert!(buf == content, "{what}");
    group
        .write_all_at(half + 4000, &noise(2, 5000))
        .expect("the second half");
    group.read_exact_at(0, &mut buf).expect("the first half");
    assert!(buf[4000..9000] == noise(2, 5000), "{what}");
    assert!(buf[9000..] == content[9000..], "{what}");
    group.sync_all().expect("sync_all");
}

#[test]
fn a_repeated_path_is_one_file() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let cache = small_cache(64, copy_path);
        let builder = Group::builder(directory.path()).cache(&cache);
        let builder = builder.access(Access::ReadWrite).create(true);
        let group = builder
            .file("a/b", FILE_BYTES as u64)
            .file("a/./b", FILE_BYTES as u64)
            .open()
            .expect("a group");
        assert_same_file(&group, &format!("{copy_path:?}"));
    }
}

#[test]
fn hard_links_are_one_file() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        put(&directory.path().join("a"), b"");
        fs::hard_link(directory.path().join("a"), directory.path().join("b")).expect("link");
        let cache = small_cache(64, copy_path);
        let builder = Group::builder(directory.path()).cache(&cache);
        let builder = builder
            .access(Access::ReadWrite)
            .file("a", FILE_BYTES as u64);
        let group = builder
            .file("b", FILE_BYTES as u64)
            .open()
            .expect("a group");
        assert_same_file(&group, &format!("{copy_path:?}"));
    }
}

#[test]
fn all_paths_to_a_file_share_its_windows() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, FILE_BYTES));
    fs::hard_link(directory.path().join("a"), directory.path().join("b")).expect("link");
    let cache = small_cache(64, CopyMethod::Mapped);
    let open = || {
        let builder = Group::builder(directory.path())
            .cache(&cache)
            .existing_file("a");
        builder
            .existing_file("a")
            .existing_file("b")
            .open()
            .expect("a group")
    };
    let (first, second) = (open(), open());
    let mut buf = vec![0; 3 * FILE_BYTES];
    first.read_exact_at(0, &mut buf).expect("all bytes");
    second.read_exact_at(0, &mut buf).expect("all bytes");
    let stats = cache.stats();
    assert_eq!(
        (stats.mappings, stats.mapped_bytes, stats.misses),
        (5, 5 * 4096, 5)
    );
    drop(first);
    assert_eq!(cache.stats().mappings, 5, "the other group still uses them");
    drop(second);
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn two_groups_see_each_others_writes() {
    for copy_path in COPY_PATHS {
        for same_cache in [true, false] {
            let directory = support::temp_dir();
            let cache = small_cache(4, copy_path);
            let other = if same_cache {
                cache.clone()
            } else {
                small_cache(4, copy_path)
            };
            let build = |cache| {
                let builder = Group::builder(directory.path()).cache(cache).create(true);
                let builder = builder.access(Access::ReadWrite).file("a", 10_000);
                builder.file("b", 10_000).open().expect("a group")
            };
            let (one, two) = (build(&cache), build(&other));
            for round in 0..4 {
                let content = noise(round, 20_000);
                let mut buf = vec![0; 20_000];
                let (from, to) = if round % 2 == 0 {
                    (&one, &two)
                } else {
                    (&two, &one)
                };
                from.write_all_at(0, &content).expect("a write");
                to.read_exact_at(0, &mut buf).expect("a read");
                assert!(buf == content, "{copy_path:?}, same cache {same_cache}");
            }
            drop(one);
            let mut buf = vec![0; 20_000];
            two.read_exact_at(0, &mut buf).expect("a read");
            assert!(buf == noise(3, 20_000));
            two.sync_all().expect("sync_all");
        }
    }
}

#[test]
fn a_reader_and_a_writer_share_one_cache() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, FILE_BYTES));
    let cache = small_cache(16, CopyMethod::Mapped);
    let builder = || {
        Group::builder(directory.path())
            .cache(&cache)
            .existing_file("a")
    };
    let reader = builder().open().expect("a group");
    let writer = builder().access(Access::ReadWrite).open().expect("a group");
    let mut buf = vec![0; FILE_BYTES];
    reader.read_exact_at(0, &mut buf).expect("a read");
    writer
        .write_all_at(0, &noise(2, FILE_BYTES))
        .expect("a write, the window mapped for reading");
    reader.read_exact_at(0, &mut buf).expect("a read");
    assert!(buf == noise(2, FILE_BYTES));
    assert!(
        reader.write_all_at(0, b"x").is_err(),
        "the window is writable, the group is not"
    );
}

#[test]
fn many_threads_use_one_group_at_once() {
    const SLICE: usize = 30_000;
    for copy_path in COPY_PATHS {
        for preallocation in [Preallocation::Full, Preallocation::Window] {
            let directory = support::temp_dir();
            let options = CacheOptions::default()
                .window_bytes(4096)
                .budget_bytes(3 * 4096);
            let cache = MappingCache::new(options.copy_method(copy_path)).expect("a cache");
            let mut builder = Group::builder(directory.path()).cache(&cache).create(true);
            builder = builder
                .access(Access::ReadWrite)
                .preallocation(preallocation);
            for file in 0..8 {
                builder = builder.file(format!("{file}"), SLICE as u64);
            }
            let group = builder.open().expect("a group");
            thread::scope(|scope| {
                for thread in 0..8 {
                    let group = &group;
                    // Shifted by half a file, so that every file has two writers.
                    let at = (thread * SLICE + SLICE / 2) as u64;
                    let len = if thread == 7 { SLICE / 2 } else { SLICE };
                    scope.spawn(move || {
                        let mut buf = vec![0; len];
                        for round in 0..5 {
                            let content = noise((thread * 10 + round) as u64, len);
                            group.write_all_at(at, &content).expect("a write");
                            group.read_exact_at(at, &mut buf).expect("a read");
                            assert!(buf == content, "thread {thread}, round {round}");
                            group
                                .flush(at..at + len as u64, FlushMode::Async)
                                .expect("flush");
                        }
                    });
                }
            });
            drop(group);
            for file in 1..8 {
                let found = fs::read(directory.path().join(format!("{file}"))).expect("read");
                let before = noise(((file - 1) * 10 + 4) as u64, SLICE);
                assert!(found[..SLICE / 2] == before[SLICE / 2..], "file {file}");
            }
        }
    }
}
