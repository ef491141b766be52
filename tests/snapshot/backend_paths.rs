//! Creation of a store under a temporary name, and its publication under the final name [I19].

use std::{fs, io::ErrorKind, path::Path};

use flatspan::{
    mapping_cache::Access,
    snapshot::{DirectoryBackend, StorageBackend as _},
};

use crate::{
    backend::{HEAP, PART, assert_kind, noise, open, read},
    support::temp_dir,
};

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("a directory").next().is_none()
}

fn made(dir: &Path) -> DirectoryBackend {
    let disk = DirectoryBackend::create(dir, PART).expect("a new store");
    disk.create(HEAP).expect("created");
    disk.write(HEAP, PART - 10, &noise(1, 100))
        .expect("a write");
    disk.sync(HEAP).expect("a sync");
    disk
}

#[test]
fn i19_store_name_does_not_exist_before_publish() {
    let directory = temp_dir();
    let dir = directory.path().join("new/parents/store");
    let disk = made(&dir);
    assert!(!dir.exists());
    let name = disk
        .dir()
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let prefix = format!(".store.new-{}-", std::process::id());
    assert!(name.starts_with(&prefix), "{name}");
    disk.publish().expect("published");
    assert_eq!(disk.dir(), dir);
    // The groups have moved with their files, including their dirty state.
    disk.write(HEAP, 2 * PART, b"later").expect("a write");
    disk.sync(HEAP).expect("a sync");
    assert!(read(&disk, HEAP, PART - 10, 100) == noise(1, 100));
    assert_kind(disk.publish(), ErrorKind::InvalidInput);
    drop(disk);
    assert!(read(&open(&dir), HEAP, 2 * PART, 5) == b"later");
    assert_eq!(
        fs::read_dir(dir.parent().expect("directory has a parent"))
            .expect("a directory")
            .count(),
        1
    );
}

#[test]
fn unpublished_store_is_removed_on_drop() {
    let directory = temp_dir();
    let disk = made(&directory.path().join("new/parents/store"));
    fs::write(disk.dir().join("lock"), b"").expect("a file");
    drop(disk);
    assert!(is_empty(directory.path()));
}

#[test]
fn publish_replaces_only_an_empty_directory() {
    let directory = temp_dir();
    let dir = directory.path().join("store");
    let disk = made(&dir);
    fs::create_dir(&dir).expect("mkdir");
    fs::write(dir.join("theirs"), b"x").expect("a file");
    assert_kind(disk.publish(), ErrorKind::AlreadyExists);
    assert_kind(
        DirectoryBackend::create(&dir, PART),
        ErrorKind::AlreadyExists,
    );
    assert!(read(&disk, HEAP, PART, 5) == noise(1, 15)[10..]);
    fs::remove_file(dir.join("theirs")).expect("rm");
    disk.publish().expect("onto an empty directory");
    assert!(read(&open(&dir), HEAP, PART - 10, 100) == noise(1, 100));

    let file = directory.path().join("file");
    let disk = made(&file);
    fs::write(&file, b"theirs").expect("a file");
    assert_kind(disk.publish(), ErrorKind::AlreadyExists);
    assert_kind(
        DirectoryBackend::create(&file, PART),
        ErrorKind::AlreadyExists,
    );
    drop(disk);
    assert_eq!(fs::read(&file).expect("read"), b"theirs");
}

#[test]
fn invalid_paths_and_part_lengths_are_rejected() {
    let directory = temp_dir();
    for part_bytes in [0, 1, PART + 4096, u64::MAX - PART + 1] {
        assert_kind(
            DirectoryBackend::open(directory.path(), part_bytes, Access::ReadOnly),
            ErrorKind::InvalidInput,
        );
        assert_kind(
            DirectoryBackend::create(&directory.path().join("a"), part_bytes),
            ErrorKind::InvalidInput,
        );
    }
    let none = DirectoryBackend::open(&directory.path().join("none"), PART, Access::ReadOnly);
    assert_kind(none, ErrorKind::NotFound);
    fs::write(directory.path().join("file"), b"x").expect("a file");
    let file = DirectoryBackend::open(&directory.path().join("file"), PART, Access::ReadOnly);
    assert_kind(file, ErrorKind::NotADirectory);
    assert_kind(
        DirectoryBackend::create(Path::new("/"), PART),
        ErrorKind::InvalidInput,
    );
    assert_kind(open(directory.path()).publish(), ErrorKind::InvalidInput);
}
