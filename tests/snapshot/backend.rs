//! `DirectoryBackend` on real files: logical files of several parts, their lengths, holes and
//! copies.

use std::{
    fs,
    io::{self, ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use flatspan::{
    mapping_cache::{Access, CacheOptions, MappingCache},
    snapshot::{DirectoryBackend, HeapName, JournalNumber, LogicalFile, StorageBackend},
    span::Group,
};

use crate::support::{
    filesystem::{Kind, SmallFs},
    temp_dir,
};

pub(crate) const PART: u64 = 64 << 10;
pub(crate) const HEAP: LogicalFile = LogicalFile::Heap(HeapName::A);
pub(crate) const OTHER: LogicalFile = LogicalFile::Heap(HeapName::B);

pub(crate) fn open(dir: &Path) -> DirectoryBackend {
    DirectoryBackend::open(dir, PART, Access::ReadWrite).expect("a disk")
}

/// Returns non-zero bytes that identify their position.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let byte = |at: u64| ((at ^ (seed << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 | 1;
    (0..len as u64).map(byte).collect()
}

pub(crate) fn read(
    disk: &dyn StorageBackend,
    array: LogicalFile,
    offset: u64,
    len: usize,
) -> Vec<u8> {
    let mut buf = vec![0xEE; len];
    disk.read(array, offset, &mut buf).expect("a read");
    buf
}

#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers pass the result of a call"
)]
pub(crate) fn assert_kind<T: std::fmt::Debug>(done: io::Result<T>, kind: ErrorKind) {
    assert!(
        matches!(&done, Err(error) if error.kind() == kind),
        "{kind:?} expected: {done:?}"
    );
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir)
        .expect("a directory")
        .map_while(Result::ok);
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Asserts that another backend reads the same bytes, so nothing is only in memory.
#[track_caller]
fn assert_reopens(dir: &Path, array: LogicalFile, bytes: &[u8]) {
    let disk = DirectoryBackend::open(dir, PART, Access::ReadOnly).expect("a disk");
    assert_eq!(disk.len(array).expect("its length"), bytes.len() as u64);
    assert!(read(&disk, array, 0, bytes.len()) == bytes, "other bytes");
}

#[test]
fn reads_and_writes_span_several_parts() {
    let directory = temp_dir();
    let disk = open(directory.path());
    assert_kind(disk.len(HEAP), ErrorKind::NotFound);
    disk.create(HEAP).expect("created");
    assert_eq!(disk.len(HEAP).expect("its length"), 0);
    let mut model = noise(1, 3 * PART as usize + 100);
    disk.write(HEAP, 0, &model).expect("a write");
    assert_eq!(
        names(directory.path()),
        [
            "heap-a.00000",
            "heap-a.00001",
            "heap-a.00002",
            "heap-a.00003"
        ]
    );
    for (offset, len) in [(PART - 7, 20), (5, PART as usize + 3), (2 * PART, 1)] {
        let bytes = noise(offset, len);
        disk.write(HEAP, offset, &bytes).expect("a write");
        model[offset as usize..][..len].copy_from_slice(&bytes);
    }
    assert!(read(&disk, HEAP, 0, model.len()) == model);
    assert!(read(&disk, HEAP, PART - 100, 200) == model[PART as usize - 100..][..200]);
    disk.sync(HEAP).expect("a sync");
    assert_reopens(directory.path(), HEAP, &model);
    let end = model.len() as u64;
    assert_kind(
        disk.read(HEAP, end - 1, &mut [0; 2]),
        ErrorKind::UnexpectedEof,
    );
    assert_kind(
        disk.read(HEAP, u64::MAX, &mut [0; 2]),
        ErrorKind::InvalidInput,
    );
}

#[test]
fn write_after_the_end_leaves_zeros_in_the_gap() {
    let directory = temp_dir();
    let disk = open(directory.path());
    disk.create(HEAP).expect("created");
    disk.write(HEAP, 10, b"near").expect("a write");
    disk.write(HEAP, 2 * PART + 5, b"far").expect("a write");
    let mut model = vec![0; 2 * PART as usize + 8];
    model[10..14].copy_from_slice(b"near");
    model[2 * PART as usize + 5..].copy_from_slice(b"far");
    assert!(read(&disk, HEAP, 0, model.len()) == model);
    assert_reopens(directory.path(), HEAP, &model);
}

#[test]
fn length_changes_add_zeros_and_leave_no_old_bytes() {
    let directory = temp_dir();
    let disk = open(directory.path());
    disk.create(HEAP).expect("created");
    let mut model = noise(1, 2 * PART as usize + 9);
    disk.write(HEAP, 0, &model).expect("a write");
    let lengths = [
        PART + 1,
        3 * PART,
        PART,
        5 * PART + 1,
        4 * PART,
        100,
        2 * PART,
        0,
        7,
    ];
    for len in lengths {
        disk.set_len(HEAP, len).expect("set_len");
        model.resize(len as usize, 0);
        assert_eq!(disk.len(HEAP).expect("its length"), len);
        assert!(read(&disk, HEAP, 0, model.len()) == model, "{len}");
        assert_eq!(
            names(directory.path()).len() as u64,
            len.div_ceil(PART).max(1)
        );
        disk.sync(HEAP).expect("a sync");
        assert_reopens(directory.path(), HEAP, &model);
        let tail = noise(len, 3);
        let at = len.saturating_sub(3);
        disk.write(HEAP, at, &tail).expect("a write");
        model.resize(model.len().max(at as usize + 3), 0);
        model[at as usize..][..3].copy_from_slice(&tail);
    }
}

#[test]
fn discarded_range_is_zeros_and_a_hole() {
    for kind in Kind::ALL {
        let Some(fs) = SmallFs::new(kind, 16 << 20) else {
            continue;
        };
        let disk = open(fs.path());
        disk.create(HEAP).expect("created");
        let mut model = noise(1, 3 * PART as usize);
        disk.write(HEAP, 0, &model).expect("a write");
        disk.sync(HEAP).expect("a sync");
        for range in [100..200, PART - 5..2 * PART + 5, 2 * PART..3 * PART] {
            disk.discard(HEAP, range.clone()).expect("discarded");
            model[range.start as usize..range.end as usize].fill(0);
        }
        assert!(read(&disk, HEAP, 0, model.len()) == model, "{kind:?}");
        disk.sync(HEAP).expect("a sync");
        assert_eq!(disk.len(HEAP).expect("its length"), 3 * PART);
        assert_eq!(
            disk.next_data(HEAP, 2 * PART + 4096)
                .expect("call succeeds"),
            None,
            "{kind:?}"
        );
        let data = disk
            .next_data(HEAP, 0)
            .expect("call succeeds")
            .expect("some data");
        assert!(data.start == 0 && data.end >= PART - 5 && data.end <= PART);
        assert!(
            fs::metadata(fs.path().join("heap-a.00001"))
                .expect("metadata is readable")
                .blocks()
                < 16
        );
        assert_kind(
            disk.discard(HEAP, 0..3 * PART + 1),
            ErrorKind::UnexpectedEof,
        );
    }
}

#[test]
fn next_data_skips_holes() {
    let directory = temp_dir();
    let disk = open(directory.path());
    disk.create(HEAP).expect("created");
    disk.set_len(HEAP, 4 * PART).expect("set_len");
    assert_eq!(disk.next_data(HEAP, 0).expect("call succeeds"), None);
    disk.write(HEAP, PART + 8192, b"here").expect("a write");
    let found = disk
        .next_data(HEAP, 0)
        .expect("call succeeds")
        .expect("data");
    assert!(found.start <= PART + 8192 && found.end >= PART + 8196 && found.end < 2 * PART);
    assert_eq!(
        disk.next_data(HEAP, found.end).expect("call succeeds"),
        None
    );
    assert_eq!(disk.next_data(HEAP, 9 * PART).expect("call succeeds"), None);
}

fn clone_on(dir: &Path) -> DirectoryBackend {
    let disk = open(dir);
    for array in [HEAP, OTHER] {
        disk.create(array).expect("created");
    }
    disk.set_len(HEAP, 3 * PART).expect("set_len");
    let mut model = vec![0; 3 * PART as usize];
    for (offset, len) in [(5, 20_000), (PART + 32_768, 40_000), (3 * PART - 10, 10)] {
        let bytes = noise(offset, len);
        disk.write(HEAP, offset, &bytes).expect("a write");
        model[offset as usize..][..len].copy_from_slice(&bytes);
    }
    // Existing bytes are replaced, also by the zeros of a hole.
    let mut other = noise(9, 2 * PART as usize);
    disk.write(OTHER, 0, &other).expect("a write");
    let range = 4096 - 3..3 * PART;
    disk.clone_range(HEAP, OTHER, range.clone())
        .expect("cloned");
    other.resize(3 * PART as usize, 0);
    other[range.start as usize..].copy_from_slice(&model[range.start as usize..]);
    assert!(read(&disk, OTHER, 0, other.len()) == other);
    disk.sync(OTHER).expect("a sync");
    let hole = disk
        .next_data(OTHER, 2 * PART + 8192)
        .expect("call succeeds");
    assert!(hole.is_some_and(|data| data.start >= 3 * PART - 4096));
    assert_reopens(dir, OTHER, &other);
    assert_kind(
        disk.clone_range(HEAP, OTHER, 0..3 * PART + 1),
        ErrorKind::UnexpectedEof,
    );
    disk.write(OTHER, 40_000, b"its own").expect("a write");
    assert!(read(&disk, HEAP, 0, model.len()) == model);
    disk
}

#[test]
fn clone_range_keeps_holes_on_every_filesystem() {
    clone_on(temp_dir().path());
    for kind in Kind::ALL {
        if let Some(fs) = SmallFs::new(kind, 16 << 20) {
            clone_on(fs.path());
        }
    }
}

#[test]
fn clone_shares_storage_if_the_filesystem_supports_it() {
    for kind in [Kind::Xfs, Kind::Btrfs] {
        let Some(fs) = SmallFs::new(kind, 16 << 20) else {
            continue;
        };
        let disk = DirectoryBackend::open(fs.path(), 32 << 20, Access::ReadWrite).expect("a disk");
        for array in [HEAP, OTHER] {
            disk.create(array).expect("created");
        }
        disk.write(HEAP, 0, &noise(1, 20 << 20)).expect("a write");
        disk.sync(HEAP).expect("a sync");
        let free = fs.free();
        disk.clone_range(HEAP, OTHER, 0..20 << 20).expect("cloned");
        disk.sync(OTHER).expect("a sync");
        assert!(free - fs.free() < 4 << 20, "{kind:?}: copied, not shared");
    }
}

#[test]
fn logical_file_is_created_once_and_removed_with_all_parts() {
    let directory = temp_dir();
    let disk = open(directory.path());
    disk.create(HEAP).expect("created");
    assert_kind(disk.create(HEAP), ErrorKind::AlreadyExists);
    assert_kind(
        open(directory.path()).create(HEAP),
        ErrorKind::AlreadyExists,
    );
    disk.write(HEAP, 3 * PART, b"x").expect("a write");
    let journal = LogicalFile::Journal(JournalNumber::new(0xAB).expect("above 0"));
    disk.create(journal).expect("created");
    assert_eq!(disk.files().expect("listed"), [HEAP, journal]);
    disk.remove(HEAP).expect("removed");
    assert_eq!(names(directory.path()), ["journal-00000000000000ab.00000"]);
    assert_kind(disk.len(HEAP), ErrorKind::NotFound);
    assert_kind(disk.remove(HEAP), ErrorKind::NotFound);
    disk.create(HEAP).expect("created again");
    assert_eq!(disk.len(HEAP).expect("its length"), 0);
    disk.sync(HEAP).expect("a sync");
}

#[test]
fn foreign_file_names_are_ignored() {
    let directory = temp_dir();
    for name in [
        "heap-c.00000",
        "heap-a.0",
        "heap-a.00000.bak",
        "journal-1.00000",
        "journal-00000000000000AB.00000",
        "lock",
        "heap-a",
    ] {
        fs::write(directory.path().join(name), b"x").expect("a file");
    }
    let disk = open(directory.path());
    assert!(disk.files().expect("listed").is_empty());
    disk.create(HEAP).expect("created");
    assert_eq!(disk.len(HEAP).expect("its length"), 0);
}

#[test]
fn missing_part_file_is_named_in_the_error() {
    let directory = temp_dir();
    let disk = open(directory.path());
    disk.create(HEAP).expect("created");
    disk.write(HEAP, 0, &noise(1, 3 * PART as usize))
        .expect("a write");
    drop(disk);
    let middle = directory.path().join("heap-a.00001");
    let check = |what: &str| {
        let disk = open(directory.path());
        let error = disk.len(HEAP).expect_err("a gap");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(
            error.to_string().contains("heap-a.00001"),
            "{what}: {error}"
        );
        assert!(read(&disk, HEAP, 0, 4096) == noise(1, 4096), "the start");
        assert_kind(disk.write(HEAP, 0, b"x"), ErrorKind::InvalidData);
        assert_kind(disk.read(HEAP, 2 * PART, &mut [0]), ErrorKind::InvalidData);
        disk
    };
    fs::File::options()
        .write(true)
        .open(&middle)
        .expect("file opens")
        .set_len(PART - 1)
        .expect("file is truncated");
    check("short");
    fs::File::options()
        .write(true)
        .open(&middle)
        .expect("file opens")
        .set_len(PART + 1)
        .expect("grown");
    check("long");
    fs::remove_file(&middle).expect("rm");
    let disk = check("missing");
    disk.remove(HEAP).expect("incomplete file is removed");
    assert!(names(directory.path()).is_empty());
}

#[test]
fn start_is_readable_with_an_unknown_part_length() {
    let directory = temp_dir();
    let disk = open(directory.path());
    disk.create(HEAP).expect("created");
    disk.write(HEAP, 0, &noise(1, 3 * PART as usize))
        .expect("a write");
    let ignorant =
        DirectoryBackend::open(directory.path(), 1 << 40, Access::ReadOnly).expect("a disk");
    assert!(read(&ignorant, HEAP, 0, PART as usize) == noise(1, PART as usize));
    assert_kind(ignorant.len(HEAP), ErrorKind::InvalidData);
}

#[test]
fn read_only_backend_sees_new_files_and_changes_nothing() {
    let directory = temp_dir();
    let writer = open(directory.path());
    writer.create(HEAP).expect("created");
    writer.write(HEAP, 0, b"first").expect("a write");
    let reader = DirectoryBackend::open(directory.path(), PART, Access::ReadOnly).expect("a disk");
    assert_eq!(reader.len(HEAP).expect("its length"), 5);
    writer.write(HEAP, PART, b"second").expect("a write");
    assert!(read(&reader, HEAP, PART, 6) == b"second");
    assert_eq!(reader.len(HEAP).expect("its length"), PART + 6);
    let refused = [
        reader.write(HEAP, 0, b"x"),
        reader.write(HEAP, 9 * PART, b"x"),
        reader.set_len(HEAP, 0),
        reader.discard(HEAP, 0..1),
        reader.reserve(HEAP, 0..1),
        reader.remove(HEAP),
        reader.create(OTHER),
    ];
    for refused in refused {
        assert_kind(refused, ErrorKind::PermissionDenied);
    }
    reader.drop_page_cache(HEAP).expect("forgotten");
    reader.sync(HEAP).expect("sync without changes succeeds");
    writer.remove(HEAP).expect("removed");
    assert_kind(reader.len(HEAP), ErrorKind::NotFound);
}

#[test]
fn part_file_and_span_share_the_cache() {
    let directory = temp_dir();
    let options = CacheOptions::default()
        .window_bytes(4096)
        .budget_bytes(64 << 10);
    let cache = MappingCache::new(options).expect("a cache");
    let disk = open(directory.path()).cache(&cache);
    disk.create(HEAP).expect("created");
    disk.write(HEAP, 0, &noise(1, PART as usize + 9))
        .expect("a write");
    let mut file = disk.part_file(HEAP, 1).expect("opened").expect("a file");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    assert!(bytes == noise(1, PART as usize + 9)[PART as usize..]);
    assert_kind(disk.part_file(HEAP, 2), ErrorKind::NotFound);

    let group = Group::builder(directory.path())
        .cache(&cache)
        .existing_file("heap-a.00001");
    let group = group.open().expect("a group");
    let span = group.span(0..9).expect("a span");
    assert_kind(disk.set_len(HEAP, PART + 3), ErrorKind::ResourceBusy);
    assert_kind(disk.write(HEAP, PART, b"x"), ErrorKind::ResourceBusy);
    assert_kind(disk.discard(HEAP, PART..PART + 1), ErrorKind::ResourceBusy);
    assert_kind(disk.remove(HEAP), ErrorKind::ResourceBusy);
    drop(span);
    disk.set_len(HEAP, PART + 3).expect("free again");
    assert_eq!(disk.len(HEAP).expect("its length"), PART + 3);
}
