//! Writes through a group to a full filesystem.

use std::{fs, path::Path};

use flatspan::{
    mapping_cache::{
        Access, Advice, CacheOptions, CopyMethod, MappingCache, MappingError, Preallocation,
    },
    span::{Group, GroupError},
};

use crate::{
    content::{PREALLOCATIONS, length_of, noise},
    support::filesystem::{Kind, SmallFs},
};

const FIRST_BYTES: usize = 200_000;
const SECOND_BYTES: usize = 16 << 20;
/// Bytes of the second file that are written while space is left.
const BEFORE_BYTES: usize = 100_000;

fn group(root: &Path, copy_path: CopyMethod, preallocation: Preallocation) -> Group {
    let options = CacheOptions::default()
        .window_bytes(64 << 10)
        .budget_bytes(1 << 20);
    let cache = MappingCache::new(options.copy_method(copy_path)).expect("a cache");
    let builder = Group::builder(root)
        .cache(&cache)
        .access(Access::ReadWrite)
        .create(true);
    builder
        .preallocation(preallocation)
        .file("first", FIRST_BYTES as u64)
        .file("second", SECOND_BYTES as u64)
        .open()
        .expect("a group")
}

#[track_caller]
fn assert_full(what: &str, result: Result<(), GroupError>, path: &Path) {
    let is_full = matches!(&result, Err(GroupError::File(MappingError::StorageFull { path: named, .. }))
        if named == path);
    assert!(is_full, "{what}: {result:?}");
    let error = result.expect_err("the window is in use");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

/// The second file does not fit, whether it is empty or partly written. The first file keeps its
/// content.
fn check(kind: Kind, copy_path: CopyMethod, preallocation: Preallocation, before: usize) {
    let Some(fs) = SmallFs::new(kind, 64 << 20) else {
        return;
    };
    let what = format!("{copy_path:?} {preallocation:?} {before}");
    let group = group(fs.path(), copy_path, preallocation);
    let (first, second) = (fs.path().join("first"), fs.path().join("second"));
    let start = FIRST_BYTES as u64;
    group
        .write_all_at(0, &noise(1, FIRST_BYTES))
        .expect("space is left");
    if before > 0 && preallocation != Preallocation::Full {
        group
            .write_all_at(start, &noise(2, before))
            .expect("space is left");
    }
    group.sync_all().expect("sync_all");
    let len_before = second.metadata().map_or(0, |found| found.len());
    fill(&fs);

    // One window first, which fits completely or not at all; then everything at once.
    let all = noise(3, SECOND_BYTES);
    assert_full(&what, group.write_all_at(start, &all), &second);
    let reached = length_of(&second);
    let in_one_step = copy_path != CopyMethod::Mapped || preallocation == Preallocation::Full;
    if in_one_step {
        assert_eq!(reached, len_before, "{what}");
    }
    assert!(reached < SECOND_BYTES as u64, "{what}");

    let mut buf = vec![0; FIRST_BYTES];
    group.read_exact_at(0, &mut buf).expect("the first file");
    assert!(buf == noise(1, FIRST_BYTES), "{what}");
    assert!(
        fs::read(&first).expect("read") == noise(1, FIRST_BYTES),
        "{what}"
    );
    let mut buf = vec![0; len_before as usize];
    group
        .read_exact_at(start, &mut buf)
        .expect("the old content");
    let mut old = noise(2, before);
    old.resize(buf.len(), 0);
    let of_either = |(at, byte): (usize, &u8)| *byte == old[at] || *byte == all[at];
    assert!(buf.iter().enumerate().all(of_either), "{what}");
    if is_lost(kind, &group.sync_all(), &second) {
        assert_eq!(copy_path, CopyMethod::Mapped);
        return;
    }
    // Read from the disk this time.
    group.advise(.., Advice::DontNeed).expect("advise");
    let mut again = vec![0; reached as usize];
    group
        .read_exact_at(start, &mut again)
        .expect("the old content");
    assert!(again[..buf.len()] == buf, "{what}");
    if kind == Kind::Btrfs {
        // A file that was full once may refuse every further sync.
        return;
    }
    fs.unfill();
    group
        .write_all_at(start, &all)
        .expect("space is free again");
    group.sync_all().expect("sync_all");
    assert!(fs::read(&second).expect("read") == all, "{what}");
}

/// Copy-on-write filesystems accept stores for which they have no space later. The sync of that
/// file, and of no other, reports them [I35]. The filesystem then reports them a second time.
fn is_lost(kind: Kind, synced: &Result<(), GroupError>, second: &Path) -> bool {
    match synced {
        Ok(()) => false,
        Err(GroupError::File(MappingError::SyncFailed { path, .. })) => {
            assert_eq!((kind, path.as_path()), (Kind::Btrfs, second));
            true
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Leaves less space than the second file needs. The filesystem may free removed files only now, so
/// one attempt does not always suffice. On its last bytes btrfs cannot commit and loses what was
/// written long before.
fn fill(fs: &SmallFs) {
    let left = (0..20)
        .map(|_| fs.fill_leaving(8 << 20))
        .find(|left| *left < 12 << 20);
    assert!(left.is_some(), "{} bytes left", fs.free());
}

fn check_all(kind: Kind) {
    for copy_path in [CopyMethod::Auto, CopyMethod::Mapped] {
        for preallocation in PREALLOCATIONS {
            for before in [0, BEFORE_BYTES] {
                check(kind, copy_path, preallocation, before);
            }
        }
    }
}

#[test]
fn a_full_tmpfs_is_an_error() {
    check_all(Kind::Tmpfs);
}

#[test]
fn a_full_ext4_is_an_error() {
    check_all(Kind::Ext4);
}

#[test]
fn a_full_xfs_is_an_error() {
    check_all(Kind::Xfs);
}

#[test]
fn a_full_btrfs_is_an_error() {
    check_all(Kind::Btrfs);
}
