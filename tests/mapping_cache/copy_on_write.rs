//! [I35] Preallocated storage that does not suffice for a second write.

use std::{fs::File, process::Command};

use flatspan::mapping_cache::{Access, CopyMethod, MappingError, PreallocationStatus};

use crate::{
    fixture::{assert_reads, cache_of, options, pattern, put, writer},
    support::{
        filesystem::{Kind, SmallFs},
        need::{Need, need, skip},
    },
};

const BYTES: usize = 8 << 20;

#[test]
fn i35_btrfs_rewrites_on_a_full_disk_are_errors_not_signals() {
    let Some(fs) = SmallFs::new(Kind::Btrfs, 128 << 20) else {
        return;
    };
    for path in [CopyMethod::Mapped, CopyMethod::Auto, CopyMethod::Positioned] {
        let options = options(1).window_bytes(BYTES).budget_bytes(BYTES as u64);
        let cache = cache_of(options.copy_method(path));
        let name = format!("{path:?}");
        let file = writer(&cache, fs.path(), &name, BYTES);
        file.write_at(0, &pattern(1, 0, BYTES)).expect("a write");
        file.sync().expect("a sync");
        let pin = file.pin(0, Access::ReadWrite).expect("reserved");
        assert_eq!(
            file.preallocation_status(),
            PreallocationStatus::FirstWriteOnly
        );
        fs.fill_leaving(0);

        let stored = pin.write_at(0, &pattern(2, 0, BYTES)).expect("no fault");
        assert!(
            stored < BYTES,
            "the filesystem had space for a copy of everything"
        );
        let error = file.write_at(0, &pattern(2, 0, BYTES)).expect_err("full");
        assert!(
            matches!(error, MappingError::StorageFull { .. }),
            "{error:?}"
        );
        // Each page holds the old bytes or the new ones.
        let mut now = vec![0; BYTES];
        assert_eq!(file.read_at(0, &mut now).expect("a read"), BYTES);
        let (old, new) = (pattern(1, 0, BYTES), pattern(2, 0, BYTES));
        let pages = now.chunks(4096).zip(old.chunks(4096).zip(new.chunks(4096)));
        for (now, (old, new)) in pages {
            assert!(now == old || now == new);
        }
        drop(pin);
        fs.unfill();
        file.write_at(0, &pattern(2, 0, BYTES))
            .expect("space is free again");
        assert_reads(&file, 2, 0, BYTES);
        file.sync().expect("a sync");
    }
}

#[test]
fn i35_btrfs_nocow_preallocation_covers_every_write() {
    let Some(fs) = SmallFs::new(Kind::Btrfs, 128 << 20) else {
        return;
    };
    if !need(Need::Tools, "chattr") {
        return;
    }
    File::create(fs.path().join("a")).expect("a file");
    let set = Command::new("chattr")
        .arg("+C")
        .arg(fs.path().join("a"))
        .status();
    if !set.is_ok_and(|status| status.success()) {
        return skip(Need::Tools, "chattr +C is refused");
    }
    let options = options(1).window_bytes(BYTES).budget_bytes(BYTES as u64);
    let cache = cache_of(options);
    let file = writer(&cache, fs.path(), "a", BYTES);
    let pin = file.pin(0, Access::ReadWrite).expect("a pin");
    assert_eq!(file.preallocation_status(), PreallocationStatus::Reserved);
    // Less than one more copy, but enough for metadata.
    fs.fill_leaving(1 << 20);
    for round in 0..3 {
        let stored = pin.write_at(0, &pattern(round, 0, BYTES));
        assert_eq!(stored.expect("no fault"), BYTES, "round {round}");
        file.sync().expect("a sync");
    }
}

#[test]
fn i35_xfs_preallocation_unshares_reflinked_storage() {
    let Some(fs) = SmallFs::new(Kind::Xfs, 300 << 20) else {
        return;
    };
    put(fs.path(), "original", 1, BYTES);
    let cloned = Command::new("cp")
        .arg("--reflink=always")
        .args([fs.path().join("original"), fs.path().join("clone")])
        .status();
    if !cloned.is_ok_and(|status| status.success()) {
        return skip(Need::Tools, "cp --reflink=always does not work on xfs");
    }
    let options = options(1).window_bytes(BYTES).budget_bytes(BYTES as u64);
    let cache = cache_of(options);
    let file = writer(&cache, fs.path(), "clone", BYTES);
    let pin = file.pin(0, Access::ReadWrite).expect("a pin");
    assert_eq!(file.preallocation_status(), PreallocationStatus::Reserved);
    fs.fill_leaving(0);
    let stored = pin.write_at(0, &pattern(2, 0, BYTES)).expect("no fault");
    assert_eq!(stored, BYTES, "every page has storage of its own");
    drop(pin);
    file.sync().expect("a sync");
    assert_reads(&file, 2, 0, BYTES);
    assert_reads(&writer(&cache, fs.path(), "original", BYTES), 1, 0, BYTES);
}

#[test]
fn i35_xfs_without_space_to_unshare_reports_disk_full() {
    let Some(fs) = SmallFs::new(Kind::Xfs, 300 << 20) else {
        return;
    };
    put(fs.path(), "original", 1, BYTES);
    let cloned = Command::new("cp")
        .arg("--reflink=always")
        .args([fs.path().join("original"), fs.path().join("clone")])
        .status();
    if !cloned.is_ok_and(|status| status.success()) {
        return skip(Need::Tools, "cp --reflink=always does not work on xfs");
    }
    let options = options(1).window_bytes(BYTES).budget_bytes(BYTES as u64);
    let cache = cache_of(options);
    let file = writer(&cache, fs.path(), "clone", BYTES);
    fs.fill_leaving(0);
    let refused = file.pin(0, Access::ReadWrite);
    assert!(
        matches!(refused, Err(MappingError::StorageFull { .. })),
        "{refused:?}"
    );
    assert_reads(&file, 1, 0, BYTES);
}
