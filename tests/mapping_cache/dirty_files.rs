//! [I4] Written data that is not synced. The open file description from before the first write is
//! kept, and a failed sync is permanent.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
};

use flatspan::mapping_cache::{
    Access, CachedFile, CopyMethod, FlushMode, MappingCache, MappingError,
};

use crate::{
    fixture::{PAGE, WINDOW, assert_reads, cache, cache_of, options, pattern, put, reader, writer},
    support::{
        filesystem::{Kind, SmallFs},
        fuse::{FuseFs, Mode},
        temp_dir,
    },
};

/// The descriptor numbers of a file in this process.
fn descriptors_of(path: &Path) -> Vec<PathBuf> {
    let path = path.canonicalize().expect("a path");
    let entries = fs::read_dir("/proc/self/fd").expect("/proc");
    let mut numbers: Vec<_> = entries
        .map_while(Result::ok)
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == path))
        .map(|entry| entry.path())
        .collect();
    numbers.sort();
    numbers
}

/// Reads as many other files as needed to close every idle descriptor.
fn press(cache: &MappingCache, directory: &Path) {
    for name in 0..20 {
        let name = format!("other{name}");
        put(directory, &name, 5, PAGE);
        let file = reader(cache, directory, &name, PAGE);
        assert_reads(&file, 5, 0, PAGE);
        std::mem::forget(file);
    }
}

#[test]
fn i04_the_first_write_descriptor_stays_open_until_the_sync() {
    for mapped in [false, true] {
        let directory = temp_dir();
        let path = directory.path().join("a");
        let few = options(64).descriptors_max(4);
        let cache = cache_of(few.copy_method(CopyMethod::Positioned));
        let file = writer(&cache, directory.path(), "a", WINDOW);
        if mapped {
            let pin = file.pin(0, Access::ReadWrite).expect("a pin");
            assert_eq!(pin.write_at(0, b"stored").expect("a store"), 6);
        } else {
            file.write_at(0, b"stored").expect("a write");
        }
        let first = descriptors_of(&path);
        assert_eq!(first.len(), 1, "mapped: {mapped}");
        assert_eq!(cache.stats().dirty_files, 1);
        press(&cache, directory.path());
        file.write_at(100, b"more").expect("a write");
        press(&cache, directory.path());
        assert_eq!(
            descriptors_of(&path),
            first,
            "the same window, mapped: {mapped}"
        );

        file.sync().expect("a sync");
        assert_eq!(cache.stats().dirty_files, 0);
        press(&cache, directory.path());
        assert!(
            descriptors_of(&path).is_empty(),
            "the descriptor is closed after the sync"
        );
    }
}

#[test]
fn i04_a_write_pin_keeps_the_descriptor_through_a_sync() {
    let directory = temp_dir();
    let cache = cache(4);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    let pin = file.pin(0, Access::ReadWrite).expect("a pin");
    let first = descriptors_of(&directory.path().join("a"));
    file.sync().expect("a sync");
    assert_eq!(
        cache.stats().dirty_files,
        1,
        "the mapping is still writable"
    );
    assert_eq!(descriptors_of(&directory.path().join("a")), first);
    pin.write_at(0, b"late").expect("a store");
    drop(pin);
    assert_eq!(cache.stats().dirty_files, 1);
    file.sync().expect("a sync");
    assert_eq!(cache.stats().dirty_files, 0);
}

/// Ten files that were written in a cache that keeps two dirty descriptors.
fn ten_written_files(cache: &MappingCache, directory: &Path) -> Vec<CachedFile> {
    let files: Vec<_> = (0..10)
        .map(|name| writer(cache, directory, &format!("n{name}"), PAGE))
        .collect();
    for file in &files {
        file.write_at(0, b"data").expect("a write");
        let stats = cache.stats();
        assert!(stats.open_files <= 4, "{stats:?}");
    }
    files
}

fn syncs(fs: &FuseFs) -> Vec<String> {
    let log = fs.log().into_iter();
    log.filter(|line| line.starts_with("fsync")).collect()
}

#[test]
fn i04_at_the_limit_mappings_replace_the_descriptors_and_nothing_is_synced() {
    let Some(fs) = FuseFs::new(Mode::Plain) else {
        return;
    };
    let cache = cache_of(options(64).descriptors_max(4));
    let files = ten_written_files(&cache, fs.path());
    assert_eq!(cache.stats().dirty_files, 10);
    assert_eq!(syncs(&fs), Vec::<String>::new());
    for file in &files {
        file.sync().expect("a sync");
    }
    let expected: Vec<_> = (0..10).map(|name| format!("fsync n{name}")).collect();
    assert_eq!(syncs(&fs), expected, "one sync for each file");
    assert_eq!(cache.stats().dirty_files, 0);
    drop(files);
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc");
    let path = fs.path().to_str().expect("UTF-8");
    assert!(!maps.contains(path), "no mapping is left: {maps}");
}

#[test]
fn i04_at_the_limit_files_that_cannot_be_mapped_are_synced_before_they_are_closed() {
    let Some(fs) = FuseFs::new(Mode::DirectIo) else {
        return;
    };
    let cache = cache_of(options(64).descriptors_max(4));
    let files = ten_written_files(&cache, fs.path());
    assert!(cache.stats().dirty_files <= 2, "half of the limit");
    let log = fs.log();
    for name in 0..8 {
        let at = |start: String| log.iter().position(|line| line.starts_with(&start));
        let written = at(format!("write n{name} "));
        let synced = at(format!("fsync n{name}"));
        assert!(written.is_some() && written < synced, "n{name}: {log:#?}");
    }
    for file in &files {
        file.sync().expect("a sync");
    }
    assert!(syncs(&fs).contains(&"fsync n9".to_owned()));
}

#[test]
fn i04_writes_after_the_descriptor_was_replaced_are_synced_too() {
    let directory = temp_dir();
    let cache = cache_of(options(64).descriptors_max(4));
    let files = ten_written_files(&cache, directory.path());
    let longer = pattern(1, 0, 3 * WINDOW);
    for round in 0..3 {
        for file in &files {
            let len = (round + 1) * WINDOW;
            file.write_at(0, &longer[..len]).expect("a write");
        }
        assert_eq!(cache.stats().dirty_files, 10);
    }
    for file in &files {
        file.sync().expect("a sync");
        assert_reads(file, 1, 0, 3 * WINDOW);
    }
    assert_eq!(cache.stats().dirty_files, 0);
}

/// The error of a lost write must not disappear although the descriptor was closed, and although
/// another descriptor has returned it.
#[test]
fn i04_a_writeback_error_is_reported_after_the_descriptor_was_closed() {
    let Some(tmpfs) = SmallFs::new(Kind::Tmpfs, 8 << 20) else {
        return;
    };
    let Some(fs) = SmallFs::on_full_device(&tmpfs) else {
        return;
    };
    let cache = cache_of(options(64).descriptors_max(4));
    let file = writer(&cache, fs.path(), "lost", 8 * WINDOW);
    file.write_at(0, &pattern(1, 0, 8 * WINDOW))
        .expect("a write");
    let other = File::open(fs.path().join("lost")).expect("the file");
    let _more = ten_written_files(&cache, fs.path());
    assert_eq!(
        descriptors_of(&fs.path().join("lost")).len(),
        1,
        "only that of the test"
    );
    other.sync_data().expect_err("the device is full");
    drop(other);
    let reopened = File::open(fs.path().join("lost")).expect("the file");
    reopened.sync_data().expect("the error was returned before");
    let failed = file.sync().expect_err("the file lost data");
    assert!(
        matches!(&failed, MappingError::SyncFailed { path, .. } if path.ends_with("lost")),
        "{failed:?}"
    );
}

#[track_caller]
fn assert_sync_failed(file: &CachedFile) {
    let failed = file.sync().expect_err("a failed sync is permanent");
    assert!(
        matches!(&failed, MappingError::SyncFailed { path, source }
            if path == &file.location().full_path()
                && source.raw_os_error() == Some(libc::EIO)),
        "{failed:?}"
    );
}

#[test]
fn i04_a_failed_sync_is_permanent_until_the_file_is_closed() {
    for mapped in [false, true] {
        let Some(fs) = FuseFs::new(Mode::SyncFailsOnce) else {
            return;
        };
        let cache = cache(4);
        let mut file = writer(&cache, fs.path(), "a", WINDOW);
        if mapped {
            let pin = file.pin(0, Access::ReadWrite).expect("a pin");
            pin.write_at(0, b"lost").expect("a store");
        } else {
            file.write_at(0, b"lost").expect("a write");
        }
        assert_sync_failed(&file);
        // From now on the filesystem would report success.
        assert_sync_failed(&file);
        file.write_at(0, b"again").expect("a write");
        assert_sync_failed(&file);
        let flushed = file.flush(0..1, FlushMode::Sync);
        assert!(matches!(flushed, Err(MappingError::SyncFailed { .. })));
        let released = file.close();
        assert!(matches!(released, Err(MappingError::SyncFailed { .. })));
        // Another handle of the same file gets the error too.
        assert_sync_failed_of_other_handle(&cache, fs.path());

        file.close_without_sync().expect("no window is pinned");
        file.write_at(0, b"anew").expect("a write");
        file.sync().expect("a new group");
        file.close().expect("released");
    }
}

fn assert_sync_failed_of_other_handle(cache: &MappingCache, directory: &Path) {
    let twin = writer(cache, directory, "a", WINDOW);
    twin.write_at(1, b"x").expect("a write");
    assert_sync_failed(&twin);
}

#[test]
fn i04_all_concurrent_syncs_report_the_failure() {
    let Some(fs) = FuseFs::new(Mode::SyncFailsOnce) else {
        return;
    };
    let cache = cache(4);
    let file = writer(&cache, fs.path(), "a", WINDOW);
    file.write_at(0, b"lost").expect("a write");
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                assert_sync_failed(&file);
            });
        }
    });
}

#[test]
fn i04_a_failed_sync_during_eviction_is_reported_to_the_owner() {
    let Some(fs) = FuseFs::new(Mode::DirectIoSyncFailsOnce) else {
        return;
    };
    let cache = cache_of(options(64).descriptors_max(4));
    let files: Vec<_> = (0..4)
        .map(|name| writer(&cache, fs.path(), &format!("n{name}"), PAGE))
        .collect();
    for file in &files {
        file.write_at(0, b"data").expect("a write");
    }
    // The first file was synced to make room for the third one, and the sync failed.
    assert!(fs.log().iter().any(|line| line == "fsync n0"));
    assert_sync_failed(&files[0]);
    for file in &files[1..] {
        file.sync().expect("a sync");
    }
}

#[test]
fn an_asynchronous_flush_leaves_the_file_dirty() {
    let directory = temp_dir();
    let cache = cache(4);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    file.flush(0..10, FlushMode::Async)
        .expect("an empty operation");
    file.write_at(0, &pattern(1, 0, WINDOW)).expect("a write");
    file.flush(0..WINDOW as u64, FlushMode::Async)
        .expect("a flush");
    assert_eq!(cache.stats().dirty_files, 1);
    file.flush(0..1, FlushMode::Sync).expect("a flush");
    assert_eq!(cache.stats().dirty_files, 0);
}
