//! Moving a file: by name, across filesystems, and never over another file.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use flatspan::mapping_cache::{Access, CachedFile, MappingError};

use crate::{
    fixture::{WINDOW, assert_reads, cache, len_of, pattern, place, put, writable, writer},
    support::{
        filesystem::{Kind, SmallFs},
        temp_dir,
    },
};

const BYTES: usize = 4 * WINDOW + 9;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory)
        .expect("a directory")
        .map_while(Result::ok);
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lost+found")
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_renamed_and_remains_usable() {
    let directory = temp_dir();
    let cache = cache(8);
    let mut file = writer(&cache, directory.path(), "a", BYTES);
    file.write_at(0, &pattern(1, 0, BYTES)).expect("a write");
    drop(file.pin(0, Access::ReadWrite).expect("a pin"));
    let inode = fs::metadata(directory.path().join("a"))
        .expect("the file")
        .ino();
    assert!(
        file.rename_to(place(directory.path(), "deep/er/b"))
            .expect("moved")
    );
    assert_eq!(cache.stats().mappings, 0, "released");
    assert_eq!(names(directory.path()), ["deep"]);
    let moved = fs::metadata(directory.path().join("deep/er/b")).expect("the file");
    assert_eq!(moved.ino(), inode);
    assert_eq!(file.location().path(), Path::new("deep/er/b"));
    assert_reads(&file, 1, 0, BYTES);
    file.write_at(3, b"on").expect("a write");
    file.sync().expect("a sync");
}

#[test]
fn a_move_to_another_filesystem_keeps_holes_and_mode() {
    for kind in [Kind::Tmpfs, Kind::Ext4] {
        let Some(fs) = SmallFs::new(kind, 32 << 20) else {
            continue;
        };
        let directory = temp_dir();
        let cache = cache(8);
        let large = 256 << 20;
        let mut file = writer(&cache, directory.path(), "a", large);
        file.write_at(100, &pattern(1, 100, 5000)).expect("a write");
        let at = large as u64 - 700;
        file.write_at(at, &pattern(1, at, 700)).expect("a write");
        let path = directory.path().join("a");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");

        // The length of 256 MiB exceeds that filesystem; the data in the file does not.
        assert!(file.rename_to(place(fs.path(), "sub/b")).expect("moved"));
        assert!(names(directory.path()).is_empty(), "{kind:?}");
        assert_eq!(names(&fs.path().join("sub")), ["b"]);
        assert_eq!(len_of(fs.path(), "sub/b"), large as u64);
        let mode = fs::metadata(fs.path().join("sub/b"))
            .expect("the file")
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_reads(&file, 1, 100, 5000);
        assert_reads(&file, 1, at, 700);
        let mut hole = [1; 100];
        file.read_at(1 << 20, &mut hole).expect("a read");
        assert_eq!(hole, [0; 100]);
        assert!(
            file.rename_to(place(directory.path(), "back"))
                .expect("moved")
        );
        assert_reads(&file, 1, at, 700);
    }
}

#[track_caller]
fn assert_target_exists(file: &mut CachedFile, directory: &Path) {
    let refused = file
        .rename_to(place(directory, "b"))
        .expect_err("the address is in use");
    assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    assert!(matches!(refused, MappingError::Io { .. }), "{refused:?}");
    assert_eq!(fs::read(directory.join("b")).expect("b"), pattern(2, 0, 99));
    assert_reads(file, 1, 0, BYTES);
}

#[test]
fn a_move_never_replaces_a_file() {
    let directory = temp_dir();
    let cache = cache(8);
    put(directory.path(), "a", 1, BYTES);
    put(directory.path(), "b", 2, 99);
    let mut file = writer(&cache, directory.path(), "a", BYTES);
    assert_target_exists(&mut file, directory.path());
    assert_eq!(names(directory.path()), ["a", "b"]);
    let Some(fs) = SmallFs::new(Kind::Tmpfs, 32 << 20) else {
        return;
    };
    put(fs.path(), "b", 2, 99);
    assert_target_exists(&mut file, fs.path());
    assert_eq!(
        names(directory.path()),
        ["a", "b"],
        "the file has not moved"
    );
    assert_eq!(names(fs.path()), ["b"], "no part of a copy is left");
}

#[test]
fn a_move_without_space_leaves_the_file_in_place() {
    let Some(fs) = SmallFs::new(Kind::Tmpfs, 64 << 10) else {
        return;
    };
    let directory = temp_dir();
    let cache = cache(8);
    let large = 64 * WINDOW;
    put(directory.path(), "a", 1, large);
    let mut file = writer(&cache, directory.path(), "a", large);
    let free = fs.free();
    let refused = file
        .rename_to(place(fs.path(), "b"))
        .expect_err("no space is left");
    assert!(
        matches!(refused, MappingError::StorageFull { .. }),
        "{refused:?}"
    );
    assert!(names(fs.path()).is_empty());
    assert_eq!(fs.free(), free);
    assert_reads(&file, 1, 0, large);
}

#[test]
fn without_a_file_only_the_location_changes() {
    let directory = temp_dir();
    let cache = cache(8);
    let mut file = writer(&cache, directory.path(), "a", BYTES);
    assert!(
        !file
            .rename_to(place(directory.path(), "deep/b"))
            .expect("no file to move")
    );
    assert!(
        names(directory.path()).is_empty(),
        "no directory is created for it"
    );
    file.write_at(0, b"x").expect("a write");
    assert_eq!(len_of(directory.path(), "deep/b"), 1);
}

#[test]
fn a_move_to_a_missing_root_fails_and_the_file_stays() {
    let directory = temp_dir();
    let cache = cache(8);
    put(directory.path(), "a", 1, BYTES);
    let mut file = writer(&cache, directory.path(), "a", BYTES);
    let nowhere = directory.path().join("nowhere");
    file.rename_to(place(&nowhere, "b"))
        .expect_err("the root does not exist");
    assert_eq!(names(directory.path()), ["a"]);
    assert_reads(&file, 1, 0, BYTES);
}

#[test]
fn a_pinned_file_is_not_moved() {
    let directory = temp_dir();
    let cache = cache(8);
    put(directory.path(), "a", 1, BYTES);
    let mut file = writer(&cache, directory.path(), "a", BYTES);
    let other = writer(&cache, directory.path(), "a", BYTES);
    file.actual_bytes().expect("opened");
    let pin = other.pin(0, Access::ReadOnly).expect("a pin");
    let refused = file.rename_to(place(directory.path(), "b"));
    assert!(
        matches!(refused, Err(MappingError::WindowPinned { .. })),
        "{refused:?}"
    );
    assert_eq!(names(directory.path()), ["a"]);
    drop(pin);
    assert!(file.rename_to(place(directory.path(), "b")).expect("moved"));
}

#[test]
fn new_entries_are_synced_also_after_their_directory_was_removed() {
    let directory = temp_dir();
    let cache = cache(8);
    let files = ["x/a", "x/b", "y/z/c"].map(|name| {
        let file = cache.file(place(directory.path(), name), 10, writable());
        file.write_at(0, b"data").expect("a write");
        file.sync().expect("a sync");
        file
    });
    fs::remove_dir_all(directory.path().join("x")).expect("removed");
    for file in files {
        file.sync_directories()
            .expect("a removed directory needs no sync");
        file.sync_directories().expect("nothing is left");
    }
}
