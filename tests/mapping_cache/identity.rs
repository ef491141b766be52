//! [I39] A file is recognized by its identity, not by its path.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, thread, time::Duration};

use flatspan::mapping_cache::{Access, CachedFile, CopyMethod, MappingCache, MappingError};

use crate::{
    fixture::{WINDOW, assert_reads, cache, cache_of, options, pattern, put, reader, writer},
    support::{
        filesystem::{Kind, SmallFs},
        temp_dir,
    },
};

const BYTES: usize = 4 * WINDOW;

#[track_caller]
fn assert_replaced<T: std::fmt::Debug>(result: Result<T, MappingError>) {
    let error = result.expect_err("another file replaced it");
    assert!(
        matches!(&error, MappingError::FileReplaced { path } if path.ends_with("a")),
        "{error:?}"
    );
}

/// Replaces the file by another one of the same name.
fn replace(directory: &Path) {
    put(directory, "new", 2, BYTES);
    fs::rename(directory.join("new"), directory.join("a")).expect("rename");
}

#[test]
fn i39_a_file_replaced_between_two_mappings_is_refused() {
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let directory = temp_dir();
        put(directory.path(), "a", 1, BYTES);
        let cache = cache(8);
        let mut file = writer(&cache, directory.path(), "a", BYTES);
        let pin = file.pin(0, access).expect("a pin");
        replace(directory.path());
        assert_replaced(file.pin(1, access));
        let mut buf = [0; 32];
        pin.read_at(0, &mut buf).expect("a copy");
        assert_eq!(&buf[..], pattern(1, 0, 32), "the pin reads the old file");
        drop(pin);
        assert_eq!(
            fs::read(directory.path().join("a")).expect("the new file"),
            pattern(2, 0, BYTES),
            "untouched"
        );

        file.close().expect("no window is pinned");
        drop(file.pin(1, access).expect("a closed file is opened again"));
        assert_reads(&file, 2, 0, BYTES);
    }
}

#[test]
fn i39_copies_never_mix_two_files() {
    for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
        let directory = temp_dir();
        put(directory.path(), "a", 1, BYTES);
        let cache = cache_of(options(8).copy_method(path));
        let file = reader(&cache, directory.path(), "a", BYTES);
        assert_reads(&file, 1, 0, WINDOW);
        replace(directory.path());
        let mut buf = vec![0; BYTES];
        match file.read_at(0, &mut buf) {
            Ok(copied) => assert!(buf[..copied] == pattern(1, 0, copied), "{path:?}"),
            Err(MappingError::FileReplaced { .. }) => {}
            Err(error) => panic!("{path:?}: {error}"),
        }
    }
}

/// Closes and unmaps a file but keeps its handle: its inode is free as soon as its name is removed.
fn close_and_unmap(cache: &MappingCache, directory: &Path, file: &CachedFile) {
    file.sync().expect("a sync");
    file.evict(0..BYTES as u64).expect("evict");
    // A descriptor that was used stays open for one more round.
    for name in 0..9 {
        let name = format!("other{name}");
        put(directory, &name, 0, 1);
        let other = reader(cache, directory, &name, 1);
        other.actual_bytes().expect("the file exists");
        std::mem::forget(other);
    }
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn i39_a_new_file_with_the_same_inode_has_another_identity() {
    let mut reused = 0;
    for kind in [Kind::Ext4, Kind::Xfs] {
        let Some(fs) = SmallFs::new(kind, 64 << 20) else {
            return;
        };
        let cache = cache_of(options(8).descriptors_max(4));
        let file = reader(&cache, fs.path(), "a", BYTES);
        put(fs.path(), "a", 1, BYTES);
        assert_reads(&file, 1, 0, BYTES);
        drop(file.pin(0, Access::ReadOnly).expect("a pin"));
        close_and_unmap(&cache, fs.path(), &file);
        let inode = |name: &str| fs::metadata(fs.path().join(name)).expect("metadata").ino();
        let before = inode("a");
        fs::remove_file(fs.path().join("a")).expect("remove");
        // Birth times differ only after a tick of the clock.
        thread::sleep(Duration::from_millis(30));
        put(fs.path(), "a", 2, BYTES);
        reused += u32::from(inode("a") == before);
        assert_replaced(file.pin(0, Access::ReadOnly));
        assert_replaced(file.read_at(0, &mut [0; 8]));
    }
    assert!(reused > 0, "no filesystem used an inode again");
}

#[test]
fn i39_a_removed_file_is_not_found_until_it_returns() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, BYTES);
    let cache = cache(8);
    let file = reader(&cache, directory.path(), "a", BYTES);
    let pin = file.pin(0, Access::ReadOnly).expect("a pin");
    fs::rename(directory.path().join("a"), directory.path().join("b")).expect("rename");
    let missing = file.pin(1, Access::ReadOnly);
    assert!(matches!(missing, Err(MappingError::NotFound { .. })));
    fs::rename(directory.path().join("b"), directory.path().join("a")).expect("rename");
    drop(
        file.pin(1, Access::ReadOnly)
            .expect("the same file is back"),
    );
    drop(pin);
}

#[test]
fn i39_no_file_is_created_in_place_of_a_removed_one() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, BYTES);
    let cache = cache(8);
    let mut file = writer(&cache, directory.path(), "a", BYTES);
    drop(file.pin(0, Access::ReadOnly).expect("a pin"));
    fs::remove_file(directory.path().join("a")).expect("remove");
    // A new file would have another identity than the mapped one.
    let refused = file.pin(1, Access::ReadWrite).err();
    assert!(
        matches!(
            refused,
            Some(MappingError::FileReplaced { .. } | MappingError::NotFound { .. })
        ),
        "{refused:?}"
    );
    file.close().expect("released");
    file.write_at(0, b"new").expect("a new file");
    assert_eq!(
        fs::read(directory.path().join("a")).expect("the file"),
        b"new"
    );
}

#[test]
fn i39_repeated_paths_and_hard_links_share_their_windows() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, BYTES);
    fs::hard_link(directory.path().join("a"), directory.path().join("link")).expect("a link");
    let cache = cache(8);
    let files = ["a", "a", "link"].map(|name| writer(&cache, directory.path(), name, BYTES));
    let pins = files
        .each_ref()
        .map(|file| file.pin(2, Access::ReadWrite).expect("a pin"));
    assert!(pins.iter().all(|pin| pin.as_ptr() == pins[0].as_ptr()));
    let stats = cache.stats();
    assert_eq!((stats.mappings, stats.misses, stats.hits), (1, 1, 2));
    assert_eq!(
        (stats.mapped_bytes, stats.pinned_mappings),
        (WINDOW as u64, 1)
    );
    assert_eq!(stats.dirty_files, 1);
    drop(pins);
    files[2].write_at(3, b"through the link").expect("a write");
    let mut buf = [0; 16];
    files[0].read_at(3, &mut buf).expect("a read");
    assert_eq!(&buf, b"through the link");
    files[1].sync().expect("a sync");
    assert_eq!(cache.stats().dirty_files, 0, "one sync for one file");
}

#[test]
fn i39_two_caches_map_a_file_independently() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, BYTES);
    let caches = [cache(8), cache(8)];
    let files = caches
        .each_ref()
        .map(|cache| reader(cache, directory.path(), "a", BYTES));
    let pins = files
        .each_ref()
        .map(|file| file.pin(0, Access::ReadOnly).expect("a pin"));
    assert_ne!(pins[0].as_ptr(), pins[1].as_ptr());
    assert!(caches.iter().all(|cache| cache.stats().mappings == 1));
}
