//! Backend on a full disk, and on a disk that fails to sync [I3] [I4].

use std::io::ErrorKind;

use flatspan::snapshot::StorageBackend as _;

use crate::{
    backend::{HEAP, OTHER, PART, assert_kind, noise, open, read},
    support::{
        child,
        filesystem::{Kind, SmallFs},
        temp_dir,
    },
};

#[test]
fn missing_space_for_a_preallocation_is_reported() {
    for kind in Kind::ALL {
        let Some(fs) = SmallFs::new(kind, 16 << 20) else {
            continue;
        };
        let disk = open(fs.path());
        disk.create(HEAP).expect("created");
        disk.set_len(HEAP, 8 * PART).expect("set_len");
        disk.reserve(HEAP, 0..8 * PART).expect("space is available");
        assert_eq!(disk.len(HEAP).expect("its length"), 8 * PART);
        disk.sync(HEAP).expect("a sync");
        let free = fs.fill_leaving(0);
        let asked = 64 << 20;
        assert!(free < asked);
        let refused = disk.reserve(HEAP, 8 * PART..8 * PART + asked);
        let error = refused.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{kind:?}: {error}");
        let text = error.to_string();
        let says = format!("cannot reserve {asked} bytes, ");
        assert!(text.contains(&says) && text.contains("heap-a"), "{text}");
        assert_eq!(disk.len(HEAP).expect("its length"), 8 * PART);
        if kind != Kind::Btrfs {
            // Copy on write: a preallocation is valid for the first write only, if at all.
            let bytes = noise(1, 8 * PART as usize);
            disk.write(HEAP, 0, &bytes)
                .expect("preallocated range is writable");
            disk.sync(HEAP).expect("a sync");
            disk.drop_page_cache(HEAP).expect("forgotten");
            assert!(read(&disk, HEAP, 0, bytes.len()) == bytes);
        }
    }
}

#[test]
fn write_to_a_full_disk_fails_and_keeps_other_data() {
    let Some(fs) = SmallFs::new(Kind::Tmpfs, 1 << 20) else {
        return;
    };
    let disk = open(fs.path());
    disk.create(HEAP).expect("created");
    disk.write(HEAP, 0, &noise(1, 1000)).expect("a write");
    assert_kind(
        disk.write(HEAP, 500, &noise(2, 2 << 20)),
        ErrorKind::StorageFull,
    );
    assert!(read(&disk, HEAP, 0, 500) == noise(1, 500));
    let len = disk.len(HEAP).expect("parts are still complete");
    assert!((1000..500 + (2 << 20)).contains(&len));
    disk.set_len(HEAP, 1000).expect("file is truncated");
    // A child that another test forks at this moment has the removed parts open until it calls
    // exec. Their storage is free only then.
    for _ in 0..500 {
        if fs.free() > 500_000 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    disk.write(HEAP, 1000, &noise(3, 100_000))
        .expect("space is available");
    disk.sync(HEAP).expect("a sync");
}

#[test]
fn i03_i04_file_whose_sync_failed_never_syncs_again() {
    let name = "backend_failures::i03_i04_file_whose_sync_failed_never_syncs_again";
    if !child::is_me(name) {
        if let Some(done) = child::with_injection(name, &["fdatasync:error=EIO:when=1"], &[]) {
            done.assert_passed();
        }
        return;
    }
    let directory = temp_dir();
    let disk = open(directory.path());
    for array in [HEAP, OTHER] {
        disk.create(array).expect("created");
        disk.write(array, 0, b"x").expect("a write");
    }
    let first = disk.sync(HEAP).expect_err("injected");
    assert!(first.to_string().contains("heap-a.00000"), "{first}");
    for _ in 0..2 {
        disk.write(HEAP, 0, b"y").expect("a write");
        let again = disk.sync(HEAP).expect_err("sync keeps failing");
        assert_eq!(again.kind(), first.kind());
        assert!(again.to_string().contains("heap-a.00000"), "{again}");
    }
    // Growing would need a sync, too.
    assert!(disk.write(HEAP, PART, b"z").is_err());
    disk.set_len(HEAP, 0).expect("file is truncated");
    assert!(disk.sync(HEAP).is_err());
    disk.sync(OTHER).expect("other file still syncs");
}

#[test]
fn i04_directory_whose_sync_failed_is_not_synced_again() {
    let name = "backend_failures::i04_directory_whose_sync_failed_is_not_synced_again";
    if !child::is_me(name) {
        if let Some(done) = child::with_injection(name, &["fsync:error=EIO:when=1"], &[]) {
            done.assert_passed();
        }
        return;
    }
    let directory = temp_dir();
    let disk = open(directory.path());
    disk.create(HEAP).expect("created");
    assert!(disk.sync(HEAP).is_err());
    assert!(disk.sync(HEAP).is_err());
}

#[test]
fn i03_drop_page_cache_continues_after_an_error() {
    let name = "backend_failures::i03_drop_page_cache_continues_after_an_error";
    if !child::is_me(name) {
        if let Some(done) = child::with_injection(name, &["fdatasync:error=EIO:when=1+"], &[]) {
            done.assert_passed();
        }
        return;
    }
    let directory = temp_dir();
    let path = directory.path().join("heap-a.00000");
    std::fs::write(&path, noise(1, 8192)).expect("a file");
    std::fs::File::open(&path)
        .expect("file opens")
        .sync_all()
        .expect("fsync, which works");
    let disk = open(directory.path());
    disk.drop_page_cache(HEAP)
        .expect("dropped from the page cache despite the error");
    assert!(read(&disk, HEAP, 0, 8192) == noise(1, 8192));
}
