//! The moment at which data reaches the disk, observed by a FUSE filesystem, and syncs that fail.

use std::path::Path;

use flatspan::{
    mapping_cache::{Access, CopyMethod, FlushMode, MappingError},
    span::{Group, GroupError},
};

use crate::{
    content::{COPY_PATHS, noise, small_cache},
    support::fuse::{FuseFs, Mode},
};

fn group(root: &Path, copy_path: CopyMethod) -> Group {
    let builder = Group::builder(root).cache(&small_cache(16, copy_path));
    let builder = builder.access(Access::ReadWrite).create(true);
    let builder = builder.file("new/deep/a", 10_000).file("new/b", 10_000);
    builder.file("c", 10_000).open().expect("a group")
}

fn count(log: &[String], what: &str) -> usize {
    log.iter().filter(|line| *line == what).count()
}

/// The position of a line in the log.
#[track_caller]
fn last(log: &[String], start: &str) -> usize {
    let found = log.iter().rposition(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no `{start}` in {log:#?}"))
}

#[test]
fn sync_all_syncs_files_before_new_directory_entries() {
    for copy_path in COPY_PATHS {
        let Some(fs) = FuseFs::new(Mode::Plain) else {
            return;
        };
        let group = group(fs.path(), copy_path);
        group.write_all_at(0, &noise(1, 30_000)).expect("a write");
        group.sync_all().expect("sync_all");
        let log = fs.log();
        for name in ["a", "b", "c"] {
            assert_eq!(
                count(&log, &format!("fsync {name}")),
                1,
                "{name} in {log:#?}"
            );
            assert!(last(&log, &format!("write {name} ")) < last(&log, &format!("fsync {name}")));
        }
        let directories: Vec<_> = log
            .iter()
            .filter(|line| line.starts_with("fsyncdir"))
            .collect();
        assert_eq!(directories.len(), 3, "the root, new and new/deep: {log:#?}");
        assert!(last(&log, "fsync c") < last(&log, "fsyncdir"));
        group.sync_all().expect("sync_all");
        assert_eq!(fs.log().len(), log.len(), "no file is dirty any more");
    }
}

#[test]
fn sync_all_syncs_directories_that_another_group_of_the_cache_changed() {
    let Some(fs) = FuseFs::new(Mode::Plain) else {
        return;
    };
    let cache = small_cache(16, CopyMethod::Auto);
    let open = || {
        let builder = Group::builder(fs.path()).cache(&cache);
        let builder = builder.access(Access::ReadWrite).create(true);
        builder.file("new/b", 100).open().expect("a group")
    };
    let (first, second) = (open(), open());
    first.write_all_at(0, &noise(1, 100)).expect("a write");
    let mut found = [0; 1];
    second.read_exact_at(0, &mut found).expect("a read");
    second.sync_all().expect("sync_all");
    let log = fs.log();
    let directories = log.iter().filter(|line| line.starts_with("fsyncdir"));
    assert_eq!(directories.count(), 2, "the root and new: {log:#?}");
}

#[test]
fn flush_syncs_only_the_files_of_its_range() {
    let Some(fs) = FuseFs::new(Mode::Plain) else {
        return;
    };
    let group = group(fs.path(), CopyMethod::Auto);
    group.write_all_at(0, &noise(1, 30_000)).expect("a write");
    group.flush(9999..10_001, FlushMode::Sync).expect("flush");
    let log = fs.log();
    let synced = ["a", "b", "c"].map(|name| count(&log, &format!("fsync {name}")));
    assert_eq!(synced, [1, 1, 0]);
    assert_eq!(
        log.iter()
            .filter(|line| line.starts_with("fsyncdir"))
            .count(),
        0
    );
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "callers pass temporaries")]
fn assert_sync_failed(result: Result<(), GroupError>, file: &Path) {
    assert!(
        matches!(&result, Err(GroupError::File(MappingError::SyncFailed { path, .. })) if path == file),
        "{result:?}"
    );
}

#[test]
fn a_failed_sync_is_permanent() {
    for copy_path in COPY_PATHS {
        let Some(fs) = FuseFs::new(Mode::SyncFailsOnce) else {
            return;
        };
        let mut group = group(fs.path(), copy_path);
        let first = fs.path().join("new/deep/a");
        group.write_all_at(0, &noise(1, 30_000)).expect("a write");
        assert_sync_failed(group.sync_all(), &first);
        let log = fs.log();
        let synced = ["a", "b", "c"].map(|name| count(&log, &format!("fsync {name}")));
        assert_eq!(synced, [1, 1, 1], "the other files are synced nevertheless");

        // From now on a sync would succeed.
        assert_sync_failed(group.sync_all(), &first);
        assert_sync_failed(group.flush(..1, FlushMode::Sync), &first);
        group
            .write_all_at(0, &noise(2, 10_000))
            .expect("the second write succeeds");
        assert_sync_failed(group.sync_all(), &first);
        assert_sync_failed(group.close_file(0), &first);
        group
            .flush(10_000.., FlushMode::Sync)
            .expect("the other files are readable");

        group.close_file_without_sync(0).expect("abandon_file");
        group.write_all_at(0, &noise(3, 10_000)).expect("a write");
        group.sync_all().expect("the caller allowed it");
        assert!(std::fs::read(&first).expect("read") == noise(3, 10_000));
    }
}

#[test]
fn a_failed_sync_prevents_a_move() {
    let Some(fs) = FuseFs::new(Mode::SyncFailsOnce) else {
        return;
    };
    let (old, new) = (fs.path().join("old"), fs.path().join("other"));
    std::fs::create_dir(&old).expect("mkdir");
    std::fs::create_dir(&new).expect("mkdir");
    let mut group = group(&old, CopyMethod::Auto);
    group.write_all_at(0, &noise(1, 30_000)).expect("a write");
    assert_sync_failed(group.move_files_to(&new), &old.join("new/deep/a"));
    assert_eq!(group.root(), old);
    assert!(crate::content::tree(&new).is_empty());
    assert!(old.join("new/deep/a").exists() && old.join("c").exists());
}

#[test]
fn a_filesystem_without_mmap_supports_copies() {
    for mode in [Mode::DirectIo, Mode::NoFallocate, Mode::NoMmap] {
        for copy_path in COPY_PATHS {
            let Some(fs) = FuseFs::new(mode) else {
                return;
            };
            let group = group(fs.path(), copy_path);
            let mut buf = vec![0; 30_000];
            for seed in 1..4 {
                group
                    .write_all_at(0, &noise(seed, 30_000))
                    .expect("a write");
                if mode == Mode::NoMmap {
                    // Reads through the page cache fail by design on this filesystem.
                    continue;
                }
                group.read_exact_at(0, &mut buf).expect("a read");
                assert!(buf == noise(seed, 30_000), "{mode:?} {copy_path:?}");
            }
            group.sync_all().expect("sync_all");
        }
    }
}
