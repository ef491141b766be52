//! Advice, residency, and windows locked in memory.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use flatspan::mapping_cache::{Access, Advice};

use crate::{
    fixture::{WINDOW, assert_reads, cache, put, reader, writer},
    support::{
        child::{self, Child},
        filesystem::{Kind, SmallFs},
        temp_dir,
    },
};

const BYTES: u64 = 8 * WINDOW as u64;

#[track_caller]
fn wait_until(mut what: impl FnMut() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the condition never held"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn dropped_pages_leave_memory_and_prefetched_pages_return() {
    let Some(fs) = SmallFs::new(Kind::Ext4, 32 << 20) else {
        return;
    };
    let cache = cache(64);
    put(fs.path(), "a", 1, BYTES as usize);
    let file = writer(&cache, fs.path(), "a", BYTES as usize);
    assert_reads(&file, 1, 0, BYTES as usize);
    assert!(file.is_resident(0..BYTES).expect("an answer"));
    fs::File::open(fs.path().join("a"))
        .and_then(|file| file.sync_all())
        .expect("a sync");
    wait_until(|| {
        file.advise(0..BYTES, Advice::DontNeed).expect("advice");
        !file.is_resident(0..BYTES).expect("an answer")
    });
    assert_eq!(cache.stats().over_budget_mappings, 0);
    wait_until(|| {
        file.prefetch(0..BYTES).expect("a hint");
        file.is_resident(0..BYTES).expect("an answer")
    });
    assert_reads(&file, 1, 0, BYTES as usize);
}

#[test]
fn ranges_past_the_end_are_not_resident() {
    let directory = temp_dir();
    let cache = cache(64);
    put(directory.path(), "a", 1, WINDOW);
    let file = reader(&cache, directory.path(), "a", BYTES as usize);
    assert!(file.is_resident(0..WINDOW as u64).expect("an answer"));
    assert!(!file.is_resident(0..2 * WINDOW as u64).expect("an answer"));
    assert!(!file.is_resident(BYTES..BYTES + 1).expect("an answer"));
    assert!(
        file.is_resident(5..5).expect("an answer"),
        "an empty file has no resident range"
    );
}

#[test]
fn every_advice_is_accepted_and_changes_no_byte() {
    let directory = temp_dir();
    let cache = cache(64);
    put(directory.path(), "a", 1, BYTES as usize);
    let file = writer(&cache, directory.path(), "a", BYTES as usize);
    for access in [Access::ReadOnly, Access::ReadWrite] {
        for advice in [
            Advice::Normal,
            Advice::Random,
            Advice::Sequential,
            Advice::HugePages,
            Advice::WillNeed,
            Advice::Lock,
            Advice::Unlock,
            Advice::DontNeed,
        ] {
            drop(file.pin(1, access).expect("a pin"));
            file.advise(100..BYTES - 100, advice)
                .unwrap_or_else(|error| panic!("{advice:?}: {error}"));
            drop(file.pin(2, access).expect("a pin"));
            assert_reads(&file, 1, 0, BYTES as usize);
        }
    }
    assert_eq!(cache.stats().pinned_mappings, 0);
}

#[test]
fn locked_windows_stay_mapped_until_unlocked() {
    let directory = temp_dir();
    let cache = cache(2);
    put(directory.path(), "a", 1, BYTES as usize);
    let file = reader(&cache, directory.path(), "a", BYTES as usize);
    let range = 10..WINDOW as u64 + 10;
    file.advise(range.clone(), Advice::Lock).expect("locked");
    file.advise(range.clone(), Advice::Lock)
        .expect("a second call has no effect");
    assert_eq!(cache.stats().pinned_mappings, 2);
    assert_eq!(file.evict(0..BYTES).expect("evict"), 0);
    cache.evict_idle(Duration::ZERO);
    for window in 2..8 {
        drop(file.pin(window, Access::ReadOnly).expect("a pin"));
    }
    assert!(cache.stats().mappings >= 2);
    file.advise(range.clone(), Advice::Unlock)
        .expect("unlocked");
    file.advise(range, Advice::Unlock)
        .expect("an empty operation");
    assert_eq!(cache.stats().pinned_mappings, 0);
    file.evict(0..BYTES).expect("evict");
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn a_closed_or_dropped_file_is_unlocked() {
    let directory = temp_dir();
    let cache = cache(4);
    put(directory.path(), "a", 1, BYTES as usize);
    let mut file = reader(&cache, directory.path(), "a", BYTES as usize);
    file.advise(0..BYTES / 2, Advice::Lock).expect("locked");
    file.close().expect("locks do not prevent it");
    assert_eq!(cache.stats().mappings, 0);
    file.advise(0..BYTES / 2, Advice::Lock).expect("locked");
    drop(file);
    assert_eq!(cache.stats().mappings, 0);
}

fn locked_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmLck:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("a number")
}

#[test]
fn unlocking_also_unlocks_upgraded_windows() {
    let name = "hints::unlocking_also_unlocks_upgraded_windows";
    if !child::is_me(name) {
        // Locked memory is counted for the whole process.
        if let Some(done) = Child::new(name).run() {
            done.assert_passed();
        }
        return;
    }
    let directory = temp_dir();
    let cache = cache(8);
    put(directory.path(), "a", 1, BYTES as usize);
    let file = writer(&cache, directory.path(), "a", BYTES as usize);
    file.advise(0..BYTES, Advice::Lock).expect("locked");
    assert_eq!(locked_kib(), BYTES / 1024);
    file.advise(0..BYTES, Advice::Unlock).expect("unlocked");
    assert_eq!(locked_kib(), 0);
    file.advise(0..BYTES, Advice::Lock).expect("locked");
    for window in 0..8 {
        drop(
            file.pin(window, Access::ReadWrite)
                .expect("a second mapping"),
        );
    }
    file.advise(0..BYTES, Advice::Unlock).expect("unlocked");
    assert_eq!(cache.stats().pinned_mappings, 0);
    assert_eq!(locked_kib(), 0, "the mapping that was locked is unlocked");
}
