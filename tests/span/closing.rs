//! Files that the group closes, so that another program may rename, delete or replace them.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingError},
    span::{Group, GroupError},
};

use crate::{
    content::{COPY_PATHS, missing, noise, put, small_cache},
    support,
};

const FILE_BYTES: usize = 10_000;

fn group(root: &std::path::Path, copy_path: CopyMethod) -> Group {
    let cache = small_cache(16, copy_path);
    let builder = Group::builder(root).cache(&cache).access(Access::ReadWrite);
    let builder = builder.create(true).file("a", FILE_BYTES as u64);
    let group = builder
        .file("b", FILE_BYTES as u64)
        .open()
        .expect("a group");
    group
        .write_all_at(0, &noise(1, 2 * FILE_BYTES))
        .expect("a write");
    group
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "callers pass temporaries")]
fn assert_replaced(result: Result<(), GroupError>, file: &std::path::Path) {
    assert!(
        matches!(&result, Err(GroupError::File(MappingError::FileReplaced { path })) if path == file),
        "{result:?}"
    );
}

#[test]
fn closing_a_file_syncs_and_unmaps_it() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let mut group = group(directory.path(), copy_path);
        group.sync_all().expect("sync_all");
        group.close_file(1).expect("release_file");
        let before = group.stats();
        group
            .write_all_at(FILE_BYTES as u64, b"b")
            .expect("a write");
        assert_eq!(group.stats().dirty_files, 1);
        group.close_file(1).expect("release_file");
        let after = group.stats();
        assert_eq!(after.dirty_files, 0);
        assert_eq!(after.mapped_bytes, before.mapped_bytes, "{copy_path:?}");
        assert_eq!(after.open_files, before.open_files, "{copy_path:?}");
        group.close_file(1).expect("nothing to release");
        group.close_file(0).expect("release_file");
        let none = group.stats();
        assert_eq!((none.mappings, none.open_files), (0, 0));
    }
}

#[test]
fn a_closed_file_may_be_renamed_deleted_and_replaced() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let path = directory.path().join("a");
        let mut group = group(directory.path(), copy_path);
        let mut buf = vec![0; FILE_BYTES];

        group.close_file(0).expect("release_file");
        fs::rename(&path, directory.path().join("elsewhere")).expect("rename");
        assert_eq!(missing(group.read_exact_at(0, &mut buf).unwrap_err()), path);
        fs::rename(directory.path().join("elsewhere"), &path).expect("rename");
        group.read_exact_at(0, &mut buf).expect("it is back");
        assert!(buf == noise(1, FILE_BYTES));

        group.close_file(0).expect("release_file");
        put(&directory.path().join("new"), &noise(7, FILE_BYTES));
        fs::rename(directory.path().join("new"), &path).expect("rename");
        group.read_exact_at(0, &mut buf).expect("the new one");
        assert!(buf == noise(7, FILE_BYTES), "{copy_path:?}");

        group.close_file(0).expect("release_file");
        fs::remove_file(&path).expect("rm");
        group
            .write_all_at(0, &noise(8, FILE_BYTES))
            .expect("made anew");
        assert!(
            fs::read(&path).expect("read") == noise(8, FILE_BYTES),
            "{copy_path:?}"
        );
    }
}

#[test]
fn i39_a_replaced_file_is_refused() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let path = directory.path().join("a");
        let mut group = group(directory.path(), copy_path);
        group.sync_all().expect("sync_all");
        put(&directory.path().join("new"), &noise(7, FILE_BYTES));
        fs::rename(directory.path().join("new"), &path).expect("rename");

        // Open descriptors and mappings still refer to the old file: a read returns all of it or
        // fails.
        let mut buf = vec![0; FILE_BYTES];
        match group.read_exact_at(0, &mut buf) {
            Ok(()) => assert!(buf == noise(1, FILE_BYTES), "not a mixture"),
            error => assert_replaced(error, &path),
        }
        // Another file takes over its descriptors, and its windows are unmapped.
        group.evict(..).expect("evict");
        let others: Vec<_> = (0..300).map(|file| format!("other/{file}")).collect();
        let mut builder = Group::builder(directory.path()).cache(group.cache());
        for other in &others {
            put(&directory.path().join(other), b"x");
            builder = builder.file(other, 1);
        }
        let crowd = builder.open().expect("a group");
        crowd
            .read_exact_at(0, &mut vec![0; 300])
            .expect("all of the others");
        assert_replaced(group.read_exact_at(0, &mut buf), &path);
        assert_replaced(group.write_all_at(0, b"x"), &path);
        assert!(
            fs::read(&path).expect("read") == noise(7, FILE_BYTES),
            "not touched"
        );

        group.close_file(0).expect("release_file");
        group
            .read_exact_at(0, &mut buf)
            .expect("now it is accepted");
        assert!(buf == noise(7, FILE_BYTES));
    }
}

#[test]
fn entries_of_one_path_are_closed_together() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let path = directory.path().join("a");
        put(&path, &noise(1, FILE_BYTES));
        let cache = small_cache(16, copy_path);
        let builder = Group::builder(directory.path())
            .cache(&cache)
            .access(Access::ReadWrite);
        let builder = builder.existing_file("a").file_range("a", 100..200);
        let mut group = builder.open().expect("a group");
        let mut buf = vec![0; FILE_BYTES + 100];
        group.read_exact_at(0, &mut buf).expect("all bytes");
        group.close_file(1).expect("release_file");
        assert_eq!((cache.stats().mappings, cache.stats().open_files), (0, 0));
        put(&directory.path().join("new"), &noise(7, FILE_BYTES));
        fs::rename(directory.path().join("new"), &path).expect("rename");
        group.read_exact_at(0, &mut buf).expect("all bytes");
        assert!(buf[..FILE_BYTES] == noise(7, FILE_BYTES));
        assert!(buf[FILE_BYTES..] == noise(7, FILE_BYTES)[100..200]);
    }
}

#[test]
fn only_files_of_the_group_are_closed() {
    let directory = support::temp_dir();
    let builder = Group::builder(directory.path()).file("a", 1).padding(2);
    let mut group = builder.open().expect("a group");
    for entry in [1, 2, usize::MAX] {
        for refused in [
            group.close_file(entry),
            group.close_file_without_sync(entry),
        ] {
            assert!(
                matches!(refused, Err(GroupError::NoSuchEntry { entry: named, entries: 2 })
                    if named == entry),
            );
        }
        assert!(matches!(
            group.preallocation_status(entry),
            Err(GroupError::NoSuchEntry { .. })
        ));
    }
    group.close_file(0).expect("a file that is missing");
}

#[test]
fn a_locked_file_can_be_closed() {
    let directory = support::temp_dir();
    let mut group = group(directory.path(), CopyMethod::Mapped);
    group
        .advise(..100, flatspan::mapping_cache::Advice::Lock)
        .expect("one page may be locked");
    group.close_file(0).expect("release_file");
    assert_eq!(group.stats().pinned_mappings, 0);
}

#[test]
fn a_closed_file_is_unmapped_for_all_entries_and_groups() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, FILE_BYTES));
    fs::hard_link(directory.path().join("a"), directory.path().join("link")).expect("link");
    let cache = small_cache(16, CopyMethod::Mapped);
    let open = || {
        let builder = Group::builder(directory.path())
            .cache(&cache)
            .existing_file("a");
        builder.existing_file("link").open().expect("a group")
    };
    let (mut group, other) = (open(), open());
    let mut buf = vec![0; 2 * FILE_BYTES];
    other.read_exact_at(0, &mut buf).expect("all bytes");
    group.read_exact_at(0, &mut buf).expect("all bytes");
    assert_eq!(cache.stats().mappings, 3);
    group.close_file(0).expect("release_file");
    assert_eq!((cache.stats().mappings, cache.stats().open_files), (0, 0));
    other.read_exact_at(0, &mut buf).expect("all, mapped again");
}

#[test]
fn a_file_beside_a_reader_is_removed_or_an_error() {
    let directory = support::temp_dir();
    let (root, links) = (directory.path().join("x"), directory.path().join("y"));
    put(&links.join("a"), &noise(1, FILE_BYTES));
    fs::create_dir(&root).expect("mkdir");
    let cache = small_cache(16, CopyMethod::Auto);
    let open = |root: &std::path::Path| {
        let builder = Group::builder(root).cache(&cache).access(Access::ReadWrite);
        // Two entries of the file: both are closed when it is removed.
        let builder = builder.file("a", FILE_BYTES as u64);
        builder
            .file("a", FILE_BYTES as u64)
            .open()
            .expect("a group")
    };
    let (mut group, reader) = (open(&root), open(&links));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                drop(reader.span(0..100));
            }
        });
        for round in 0..5000 {
            if !root.join("a").exists() {
                fs::hard_link(links.join("a"), root.join("a")).expect("a link");
            }
            group
                .read_exact_at(0, &mut [0; 2 * FILE_BYTES])
                .expect("a read");
            let removed = group.remove_file(0);
            let is_left = root.join("a").exists();
            if is_left == removed.is_ok() {
                ended.store(true, Ordering::Relaxed);
                panic!("round {round}: {removed:?}, and the file is left: {is_left}");
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
}
