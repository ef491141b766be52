//! Real filesystems that are full: an error that names the file, unchanged files and free space,
//! and no signal.

use std::{
    fs,
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use flatspan::mapping_cache::{
    Access, CachedFile, CopyMethod, FileOptions, MappingCache, MappingError, Preallocation,
};

use crate::{
    fixture::{PAGE, WINDOW, assert_reads, cache_of, file_with, len_of, options, put, writable},
    support::filesystem::{Kind, SmallFs},
};

const ROOM: u64 = 2 << 20;
/// Far more bytes than the filesystem has.
const LARGE: usize = 16 << 20;
const LARGE_WINDOW: usize = 8 << 20;

/// Runs a test on each filesystem, of 64 MiB or its minimum size.
fn on_each(test: impl Fn(Kind, &SmallFs)) {
    for kind in Kind::ALL {
        if let Some(fs) = SmallFs::new(kind, 64 << 20) {
            test(kind, &fs);
        }
    }
}

fn cache_for(path: CopyMethod, window: usize) -> MappingCache {
    let options = options(1).window_bytes(window);
    cache_of(options.budget_bytes(4 * LARGE as u64).copy_method(path))
}

fn allocating(preallocation: Preallocation) -> FileOptions {
    writable().preallocation(preallocation)
}

#[track_caller]
fn assert_full<T: std::fmt::Debug>(result: Result<T, MappingError>, file: &CachedFile, kind: Kind) {
    let error = result.expect_err("the disk is full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{kind:?}");
    assert!(
        matches!(&error, MappingError::StorageFull { path, required_bytes: needed_bytes, .. }
            if path == &file.location().full_path() && *needed_bytes > 0),
        "{kind:?}: {error:?}"
    );
}

/// Free space after delayed work is done, with a tolerance for the filesystem itself. The free
/// space that btrfs reports is unreliable when its metadata is nearly full. There the file's own
/// storage is measured.
#[track_caller]
fn assert_free_as_before(fs: &SmallFs, before: u64, kind: Kind) {
    let root = File::open(fs.path()).expect("the root");
    // A full btrfs may fail to commit. Only the space matters here.
    rustix::fs::syncfs(&root).ok();
    let now = fs.free();
    let held = fs::metadata(fs.path().join("a")).map_or(0, |known| known.blocks() * 512);
    assert!(held <= 64 << 10, "{kind:?}: the file holds {held} bytes");
    let slack = 256 << 10;
    assert!(
        kind == Kind::Btrfs || now.abs_diff(before) <= slack,
        "{kind:?}: {before} bytes were free, {now} are now"
    );
}

/// Frees the storage and waits until the filesystem accounts for it.
fn make_room(fs: &SmallFs) {
    fs.unfill();
    let start = Instant::now();
    while fs.free() < LARGE as u64 + LARGE as u64 / 2 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the space is used up again"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn refused_pin_changes_nothing(preallocation: Preallocation) {
    on_each(|kind, fs| {
        put(fs.path(), "neighbour", 3, 100 * PAGE);
        let cache = cache_for(CopyMethod::Auto, LARGE_WINDOW);
        let file = file_with(&cache, fs.path(), "a", LARGE, allocating(preallocation));
        file.write_at_small(kind, preallocation);
        let length = fs::metadata(fs.path().join("a")).map_or(0, |known| known.len());
        file.sync().expect("a sync");
        let free = fs.fill_leaving(ROOM);
        assert_full(file.pin(1, Access::ReadWrite), &file, kind);
        assert_eq!(
            fs::metadata(fs.path().join("a")).map_or(0, |known| known.len()),
            length,
            "{kind:?}"
        );
        assert_free_as_before(fs, free, kind);
        assert_eq!(cache.stats().mappings, 0);
        let neighbour = file_with(&cache, fs.path(), "neighbour", 100 * PAGE, writable());
        assert_reads(&neighbour, 3, 0, 100 * PAGE);

        make_room(fs);
        let pin = file.pin(1, Access::ReadWrite).expect("space is free again");
        assert_eq!(pin.write_at(0, b"stored").expect("a store"), 6);
    });
}

trait Prepared {
    fn write_at_small(&self, kind: Kind, preallocation: Preallocation);
}

impl Prepared for CachedFile {
    /// A file with some bytes, on filesystems where writing them does not preallocate the whole
    /// file.
    fn write_at_small(&self, kind: Kind, preallocation: Preallocation) {
        if preallocation == Preallocation::Full {
            return;
        }
        self.write_at(0, &[7; 5000])
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn a_write_pin_without_space_changes_nothing() {
    refused_pin_changes_nothing(Preallocation::Window);
}

#[test]
fn failed_preallocation_of_a_whole_file_changes_nothing() {
    refused_pin_changes_nothing(Preallocation::Full);
}

#[test]
fn a_positioned_write_on_a_full_disk_keeps_the_length() {
    for preallocation in [
        Preallocation::Window,
        Preallocation::Full,
        Preallocation::Sparse,
    ] {
        on_each(|kind, fs| {
            let cache = cache_for(CopyMethod::Positioned, LARGE_WINDOW);
            let file = file_with(&cache, fs.path(), "a", LARGE, allocating(preallocation));
            let whole = preallocation == Preallocation::Full;
            if whole {
                file.create_if_missing().expect("created");
            } else {
                file.write_at(0, &[7; 5000]).expect("a write");
                file.sync().expect("a sync");
            }
            let before = len_of(fs.path(), "a");
            let free = fs.fill_leaving(ROOM);
            assert_full(file.write_at(before, &vec![8; LARGE / 2]), &file, kind);
            assert_eq!(len_of(fs.path(), "a"), before, "{kind:?} {preallocation:?}");
            assert_free_as_before(fs, free, kind);
            if !whole {
                let mut buf = [0; 6000];
                assert_eq!(file.read_at(0, &mut buf).expect("a read"), 5000);
                assert_eq!(buf[..5000], [7; 5000]);
            }
        });
    }
}

#[test]
fn copies_into_a_sparse_mapping_fail_on_a_full_disk_without_a_signal() {
    on_each(|kind, fs| {
        let cache = cache_for(CopyMethod::Mapped, LARGE_WINDOW);
        let sparse = allocating(Preallocation::Sparse);
        let file = file_with(&cache, fs.path(), "a", LARGE, sparse);
        // As long as declared, and one single hole.
        for window in 0..(LARGE / LARGE_WINDOW) as u64 {
            drop(file.pin(window, Access::ReadWrite).expect("a pin"));
        }
        file.write_at(0, &[7; 5000]).expect("a write");
        assert!(cache.stats().mappings > 0, "the copy uses a mapping");
        file.sync().expect("a sync");
        fs.fill_leaving(0);
        let length = len_of(fs.path(), "a");
        assert_full(
            file.write_at(PAGE as u64 * 4, &vec![8; LARGE / 2]),
            &file,
            kind,
        );
        assert_eq!(len_of(fs.path(), "a"), length, "{kind:?}");
        let mut buf = [0; 5000];
        assert_eq!(file.read_at(0, &mut buf).expect("a read"), 5000);
        assert_eq!(buf, [7; 5000], "{kind:?}");
        make_room(fs);
        file.write_at(PAGE as u64 * 4, &vec![8; LARGE / 2])
            .expect("space is free again");
        file.sync().expect("a sync");
    });
}

#[test]
fn preallocated_storage_is_writable_on_a_full_disk() {
    on_each(|kind, fs| {
        let cache = cache_for(CopyMethod::Mapped, LARGE_WINDOW);
        let file = file_with(
            &cache,
            fs.path(),
            "a",
            LARGE,
            allocating(Preallocation::Window),
        );
        let pin = file.pin(0, Access::ReadWrite).expect("a pin");
        fs.fill_leaving(0);
        let data = vec![9; LARGE_WINDOW];
        let stored = pin.write_at(0, &data).expect("a store");
        drop(pin);
        if kind == Kind::Btrfs {
            // A write temporarily needs free space even where storage is preallocated [I35].
            return assert!(stored > 0);
        }
        assert_eq!(stored, LARGE_WINDOW, "{kind:?}");
        file.sync().expect("a sync");
        assert_eq!(read_past_the_cache(fs.path()), data, "{kind:?}");
    });
}

fn read_past_the_cache(directory: &Path) -> Vec<u8> {
    let mut bytes = fs::read(directory.join("a")).expect("the file");
    bytes.truncate(LARGE_WINDOW);
    bytes
}

#[test]
fn whole_file_preallocation_covers_every_window_on_a_full_disk() {
    on_each(|kind, fs| {
        let cache = cache_for(CopyMethod::Mapped, WINDOW);
        let whole = allocating(Preallocation::Full);
        let file = file_with(&cache, fs.path(), "a", 64 * WINDOW, whole);
        file.write_at(0, &[1]).expect("the first write");
        assert_eq!(len_of(fs.path(), "a"), 64 * WINDOW as u64, "{kind:?}");
        fs.fill_leaving(0);
        for window in 0..64 {
            let pin = file.pin(window, Access::ReadWrite).expect("reserved");
            let stored = pin.write_at(0, &vec![2; WINDOW]).expect("a store");
            // The page of the first write is rewritten: btrfs copies it and finds no space.
            let whole = stored == WINDOW;
            assert!(whole || kind == Kind::Btrfs, "{kind:?}: {stored}");
        }
    });
}
