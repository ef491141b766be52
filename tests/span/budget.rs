//! Requests larger than the budget are served in steps.

use flatspan::{
    mapping_cache::{Access, BudgetPolicy, CacheOptions, CopyMethod, MappingCache},
    span::{Group, PieceHasher as _, Pieces, Sha1},
};

use crate::{
    content::{COPY_PATHS, WINDOW_BYTES, noise, small_cache},
    support,
};

const BYTES: usize = 1 << 20;

fn group(cache: &MappingCache, root: &std::path::Path) -> Group {
    let builder = Group::builder(root).cache(cache).access(Access::ReadWrite);
    let third = BYTES as u64 / 3;
    let builder = builder.create(true).file("a", third).file("b", third);
    builder
        .file("c", BYTES as u64 - 2 * third)
        .open()
        .expect("a group")
}

#[test]
fn a_budget_of_one_window_serves_a_megabyte() {
    let directory = support::temp_dir();
    let cache = small_cache(1, CopyMethod::Mapped);
    let group = group(&cache, directory.path());
    let content = noise(1, BYTES);
    let mut buf = vec![0; BYTES];
    for content in [&content, &noise(2, BYTES)] {
        group.write_all_at(0, content).expect("a write");
        group.read_exact_at(0, &mut buf).expect("a read");
        assert!(buf == *content);
    }
    let mut hasher = Sha1::default();
    hasher.update(&buf);
    let pieces = Pieces::new(&group, BYTES as u64).expect("one piece");
    assert_eq!(pieces.hash(0).expect("a hash"), hasher.finish());
    let stats = cache.stats();
    assert!(stats.mapped_bytes_max <= WINDOW_BYTES, "{stats:?}");
    assert_eq!((stats.over_budget_mappings, stats.pinned_mappings), (0, 0));
    assert!(
        stats.misses >= 4 * (BYTES as u64 / WINDOW_BYTES),
        "all of it was mapped: {stats:?}"
    );
    assert_eq!(stats.mappings, 1);
    drop(group);
    assert_eq!((cache.stats().mappings, cache.stats().mapped_bytes), (0, 0));
}

#[test]
fn a_limit_of_one_mapping_serves_a_megabyte() {
    let directory = support::temp_dir();
    for when_pinned in [BudgetPolicy::AllowExceeding, BudgetPolicy::Fail] {
        let options = CacheOptions::default()
            .window_bytes(WINDOW_BYTES as usize)
            .mappings_max(1)
            .budget_policy(when_pinned)
            .copy_method(CopyMethod::Mapped);
        let cache = MappingCache::new(options).expect("a cache");
        let group = group(&cache, directory.path());
        let content = noise(1, BYTES);
        let mut buf = vec![0; BYTES];
        group.write_all_at(0, &content).expect("a write");
        group.read_exact_at(0, &mut buf).expect("a read");
        assert!(buf == content);
        let stats = cache.stats();
        assert!(stats.mapped_bytes_max <= WINDOW_BYTES, "{stats:?}");
    }
}

#[test]
fn threads_sharing_one_window_of_budget_all_make_progress() {
    for copy_path in COPY_PATHS {
        for when_pinned in [BudgetPolicy::AllowExceeding, BudgetPolicy::Fail] {
            let directory = support::temp_dir();
            let options = CacheOptions::default()
                .window_bytes(WINDOW_BYTES as usize)
                .budget_bytes(WINDOW_BYTES)
                .budget_policy(when_pinned)
                .copy_method(copy_path);
            let cache = MappingCache::new(options).expect("a cache");
            let group = group(&cache, directory.path());
            std::thread::scope(|scope| {
                for thread in 0..8_u64 {
                    let group = &group;
                    scope.spawn(move || {
                        let len = BYTES / 8;
                        let at = thread * len as u64;
                        let mut buf = vec![0; len];
                        group
                            .write_all_at(at, &noise(thread, len))
                            .expect("a write");
                        group.read_exact_at(at, &mut buf).expect("a read");
                        assert!(buf == noise(thread, len), "thread {thread}");
                    });
                }
            });
            let stats = cache.stats();
            assert_eq!(stats.pinned_mappings, 0);
            let threads = if when_pinned == BudgetPolicy::Fail {
                1
            } else {
                8
            };
            assert!(
                stats.mapped_bytes_max <= threads * WINDOW_BYTES,
                "{stats:?}"
            );
        }
    }
}

#[test]
fn evict_returns_the_number_of_unmapped_bytes() {
    let directory = support::temp_dir();
    let cache = small_cache(1024, CopyMethod::Mapped);
    let group = group(&cache, directory.path());
    // The first pass extends the files; the second one writes through their windows.
    for seed in [1, 2] {
        group.write_all_at(0, &noise(seed, BYTES)).expect("a write");
    }
    let mapped = cache.stats().mapped_bytes;
    // Three files, each ending with a partial window.
    assert_eq!(
        mapped,
        BYTES as u64 + 3 * WINDOW_BYTES - BYTES as u64 % WINDOW_BYTES - 4096
    );
    assert_eq!(group.evict(0..0).expect("an empty read"), 0);
    assert_eq!(group.evict(5000..5001).expect("one window"), WINDOW_BYTES);
    assert_eq!(group.evict(5000..5001).expect("gone already"), 0);
    assert_eq!(group.evict(4000..9000).expect("two more"), 2 * WINDOW_BYTES);
    assert_eq!(cache.stats().mapped_bytes, mapped - 3 * WINDOW_BYTES);
    assert_eq!(
        group.evict(..).expect("the rest"),
        mapped - 3 * WINDOW_BYTES
    );
    let stats = cache.stats();
    assert_eq!((stats.mappings, stats.mapped_bytes), (0, 0));
    let mut buf = vec![0; BYTES];
    group.read_exact_at(0, &mut buf).expect("all bytes");
    assert!(buf == noise(2, BYTES));
}
