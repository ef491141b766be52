//! Flushing, memory advice and residency.

use std::fs::File;

use flatspan::{
    mapping_cache::{Access, Advice, CacheOptions, CopyMethod, FlushMode, MappingCache},
    span::Group,
};

use crate::{
    content::{COPY_PATHS, missing, noise, put, short_file, small_cache},
    support,
};

const FILE_BYTES: usize = 40_000;

fn group(root: &std::path::Path, cache: &MappingCache) -> Group {
    let builder = Group::builder(root).cache(cache).access(Access::ReadWrite);
    let builder = builder
        .create(true)
        .file("a", FILE_BYTES as u64)
        .padding(100);
    builder
        .file("b", FILE_BYTES as u64)
        .open()
        .expect("a group")
}

/// Writes all of the group except the padding.
fn write_all(group: &Group) {
    group.write_all_at(0, &noise(1, FILE_BYTES)).expect("a");
    group
        .write_all_at(FILE_BYTES as u64 + 100, &noise(2, FILE_BYTES))
        .expect("b");
}

#[test]
fn a_synchronous_flush_syncs_only_its_files() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let cache = small_cache(64, copy_path);
        let group = group(directory.path(), &cache);
        write_all(&group);
        assert_eq!(cache.stats().dirty_files, 2);
        group.flush(.., FlushMode::Async).expect("flush");
        assert_eq!(
            cache.stats().dirty_files,
            2,
            "nothing is known to be durable"
        );
        group.flush(5..10, FlushMode::Sync).expect("flush");
        assert_eq!(cache.stats().dirty_files, 1, "only a is dirty");
        group
            .flush(FILE_BYTES as u64..FILE_BYTES as u64 + 100, FlushMode::Sync)
            .expect("padding");
        assert_eq!(cache.stats().dirty_files, 1);
        group.sync_all().expect("sync_all");
        assert_eq!(cache.stats().dirty_files, 0);
        group.write_all_at(0, b"again").expect("a write");
        assert_eq!(cache.stats().dirty_files, 1);
        group.sync_all().expect("sync_all");
        group.sync_all().expect("an empty operation");
        assert_eq!(cache.stats().dirty_files, 0);
    }
}

#[test]
fn syncing_an_unused_group_does_nothing() {
    let directory = support::temp_dir();
    let cache = small_cache(4, CopyMethod::Auto);
    let group = group(directory.path(), &cache);
    group.sync_all().expect("sync_all");
    group.flush(.., FlushMode::Sync).expect("flush");
    group.flush(.., FlushMode::Async).expect("flush");
    assert_eq!(cache.stats().open_files, 0);
}

#[test]
fn dropped_pages_are_not_resident_until_read() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let cache = small_cache(64, copy_path);
        let group = group(directory.path(), &cache);
        write_all(&group);
        group.sync_all().expect("sync_all");
        assert!(group.is_resident(..).expect("is_resident"), "just written");
        group.advise(.., Advice::DontNeed).expect("advise");
        assert_eq!(cache.stats().mapped_bytes, 0, "mapped pages would stay");
        let of_padding = FILE_BYTES as u64..FILE_BYTES as u64 + 100;
        assert!(group.is_resident(of_padding.clone()).expect("is_resident"));
        if is_in_memory_only(directory.path()) {
            continue;
        }
        assert!(
            !group.is_resident(..).expect("is_resident"),
            "{copy_path:?}"
        );
        assert!(
            !group.is_resident(of_padding.end..).expect("is_resident"),
            "{copy_path:?}"
        );
        let mut buf = vec![0; FILE_BYTES];
        group.read_exact_at(0, &mut buf).expect("a read");
        assert!(buf == noise(1, FILE_BYTES));
        assert!(group.is_resident(..FILE_BYTES as u64).expect("is_resident"));
    }
}

/// Returns whether the path is on tmpfs, which cannot drop pages: it has no storage to write to.
fn is_in_memory_only(path: &std::path::Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let found = rustix::fs::statfs(path).expect("statfs");
    found.f_type == TMPFS_MAGIC
}

#[test]
fn prefetched_bytes_become_resident() {
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    let group = group(directory.path(), &cache);
    write_all(&group);
    group.sync_all().expect("sync_all");
    for prefetch in [
        |group: &Group| group.prefetch(..),
        |group: &Group| group.advise(.., Advice::WillNeed),
    ] {
        group.advise(.., Advice::DontNeed).expect("advise");
        prefetch(&group).expect("prefetch");
        let arrived = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            group.is_resident(..).expect("is_resident")
        });
        assert!(arrived, "not within five seconds");
    }
}

#[test]
fn bytes_past_the_end_of_a_file_are_not_resident() {
    let directory = support::temp_dir();
    put(
        &directory.path().join("a"),
        b"one page holds more than these bytes",
    );
    for copy_path in COPY_PATHS {
        let cache = small_cache(64, copy_path);
        let group = group(directory.path(), &cache);
        assert!(group.is_resident(..36).expect("is_resident"));
        assert!(
            !group.is_resident(..37).expect("is_resident"),
            "after the end, in its page"
        );
        assert!(
            !group.is_resident(5000..5001).expect("is_resident"),
            "after the last page"
        );
        assert!(
            !group
                .is_resident(FILE_BYTES as u64 + 100..)
                .expect("is_resident"),
            "missing"
        );
        assert!(
            group.is_resident(50_000..50_000).expect("is_resident"),
            "an empty range is always resident"
        );
        group.prefetch(..).expect("missing files are left out");
    }
}

#[test]
fn advice_for_a_missing_file_names_the_file() {
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    let group = group(directory.path(), &cache);
    for advice in [
        Advice::Random,
        Advice::HugePages,
        Advice::DontNeed,
        Advice::Lock,
    ] {
        let error = group.advise(.., advice).unwrap_err();
        assert_eq!(missing(error), directory.path().join("a"), "{advice:?}");
    }
}

#[test]
fn locking_pages_past_the_end_of_a_file_reports_its_length() {
    let directory = support::temp_dir();
    let [first, second] = [(); 2].map(|()| small_cache(64, CopyMethod::Auto));
    let [first, second] = [&first, &second].map(|cache| group(directory.path(), cache));
    write_all(&first);
    // The window is mapped while the other cache truncates the file.
    drop(first.span(4096..8192).expect("a span"));
    second.set_file_len(0, 4096).expect("truncated");
    let error = first.advise(4096..8192, Advice::Lock).unwrap_err();
    assert_eq!(short_file(error), (directory.path().join("a"), 8192, 4096));
}

#[test]
fn advice_changes_no_bytes() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let cache = small_cache(64, copy_path);
        let group = group(directory.path(), &cache);
        write_all(&group);
        let mut buf = vec![0; FILE_BYTES];
        for advice in [
            Advice::Normal,
            Advice::Random,
            Advice::Sequential,
            Advice::WillNeed,
            Advice::HugePages,
            Advice::DontNeed,
            Advice::Lock,
            Advice::Unlock,
        ] {
            group.advise(5000..90_000 - 20_000, advice).expect("advise");
            group.read_exact_at(0, &mut buf).expect("a");
            assert!(buf == noise(1, FILE_BYTES), "{copy_path:?} {advice:?}");
            group.write_all_at(6000, &buf[6000..7000]).expect("a write");
        }
        assert_eq!(cache.stats().pinned_mappings, 0, "unlocked");
    }
}

#[test]
fn locked_windows_stay_mapped_until_they_are_unlocked() {
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Mapped);
    let group = group(directory.path(), &cache);
    write_all(&group);
    group.evict(..).expect("evict");
    group
        .advise(0..8192, Advice::Lock)
        .expect("a few pages may be locked");
    group.advise(0..100, Advice::Lock).expect("again");
    assert_eq!(cache.stats().pinned_mappings, 2);
    assert_eq!(group.evict(..).expect("evict"), 0);
    let locked = memory_locked();
    assert!(locked >= 8192, "{locked} bytes locked");
    group.advise(0..8192, Advice::Unlock).expect("advise");
    assert_eq!(cache.stats().pinned_mappings, 0);
    group.evict(..).expect("evict");
    assert_eq!(cache.stats().mapped_bytes, 0);
    assert!(memory_locked() < locked);
    group.advise(0..8192, Advice::Lock).expect("advise");
    drop(group);
    assert_eq!(cache.stats().mapped_bytes, 0, "dropping unlocks");
}

fn memory_locked() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let kib = line.expect("VmLck").trim().trim_end_matches(" kB").trim();
    kib.parse::<u64>().expect("a number") << 10
}

#[test]
fn statistics_distinguish_hits_from_misses() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, FILE_BYTES));
    let options = CacheOptions::default()
        .window_bytes(4096)
        .copy_method(CopyMethod::Mapped);
    let cache = MappingCache::new(options).expect("a cache");
    let builder = Group::builder(directory.path()).cache(&cache);
    let group = builder.existing_file("a").open().expect("a group");
    let mut buf = [0; 100];
    group.read_exact_at(0, &mut buf).expect("a read");
    let first = cache.stats();
    assert_eq!(
        (first.hits, first.misses, first.positioned_copies),
        (0, 1, 0)
    );
    group.read_exact_at(50, &mut buf).expect("a read");
    group
        .read_exact_at(4050, &mut buf)
        .expect("a read of two windows");
    let second = cache.stats();
    assert_eq!((second.hits, second.misses, second.mappings), (2, 2, 2));
    assert_eq!((second.mapped_bytes, second.evictions), (8192, 0));
    group.evict(..).expect("evict");
    assert_eq!(cache.stats().evictions, 2);
    drop(File::open(directory.path().join("a")).expect("the file still exists"));
}
