//! A limited number of requests for range locks overtake one that waits, so that no copy starves.
//! No request counts as a span before it is one.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingCache},
    span::Group,
};

use crate::{
    content::{Rng, noise, put, small_cache},
    support,
};

const BLOCK: u64 = 16 << 10;

/// A timeout that no test reaches when the code is correct.
const LONG: Duration = Duration::from_secs(60);

/// Operations of other threads that may end during one operation of the tested thread, on average.
/// The bound of 64 overtakings is tested in the lock table. Most of these operations happen while
/// the tested thread has lost the processor and does not wait. A thread that starves would let any
/// number pass.
const OVERTAKINGS: u64 = 20_000;

fn group_of(paths: &[&str], file_bytes: u64, root: &Path, cache: &MappingCache) -> Group {
    for path in paths {
        put(&root.join(path), &noise(1, file_bytes as usize));
    }
    let builder = Group::builder(root).cache(cache).access(Access::ReadWrite);
    let builder = paths
        .iter()
        .fold(builder, |builder, path| builder.file(*path, file_bytes));
    builder.open().expect("a group")
}

/// Runs `tested` many times while other threads run `other` without a pause. Asserts that the
/// others succeed only a limited number of times meanwhile. They stop at that number.
#[track_caller]
fn assert_is_not_starved(
    threads: u64,
    other: impl Fn(&mut Rng) -> bool + Sync,
    mut tested: impl FnMut(),
) {
    const TIMES: u64 = 50;
    let limit = TIMES * OVERTAKINGS;
    let (count, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for thread in 0..threads {
            let (count, is_done, other) = (&count, &is_done, &other);
            scope.spawn(move || {
                let mut rng = Rng::new(thread);
                while !is_done.load(Ordering::Relaxed) && count.load(Ordering::Relaxed) < limit {
                    count.fetch_add(other(&mut rng).into(), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..TIMES {
            tested();
        }
        is_done.store(true, Ordering::Relaxed);
    });
    let count = count.into_inner();
    assert!(count < limit, "{count} operations overtook {TIMES}");
}

#[test]
fn a_reader_is_not_starved_by_writers_of_its_block() {
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    let group = group_of(&["a"], BLOCK, directory.path(), &cache);
    let block = noise(2, BLOCK as usize);
    let mut buf = vec![0; BLOCK as usize];
    assert_is_not_starved(
        16,
        |_| group.write_all_at(0, &block).is_ok(),
        || group.read_exact_at(0, &mut buf).expect("a read"),
    );
}

#[test]
fn a_reader_of_all_blocks_is_not_starved_by_writers_of_some() {
    const BLOCKS: u64 = 64;
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    for paths in [&["a"][..], &["a", "b"]] {
        let file_bytes = BLOCKS * BLOCK / paths.len() as u64;
        let group = group_of(paths, file_bytes, directory.path(), &cache);
        let block = noise(2, BLOCK as usize);
        let mut buf = vec![0; (BLOCKS * BLOCK) as usize];
        assert_is_not_starved(
            8,
            |rng| {
                let at = rng.below(BLOCKS) * BLOCK;
                group.write_all_at(at, &block).is_ok()
            },
            || group.read_exact_at(0, &mut buf).expect("a read"),
        );
    }
}

#[test]
fn a_writer_is_not_starved_by_readers() {
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    let group = group_of(&["a", "b"], BLOCK, directory.path(), &cache);
    let block = noise(2, 2 * BLOCK as usize);
    assert_is_not_starved(
        8,
        |rng| {
            let mut buf = vec![0; BLOCK as usize];
            let at = rng.below(BLOCK);
            group.read_exact_at(at, &mut buf).is_ok()
        },
        || group.write_all_at(0, &block).expect("a write"),
    );
}

#[test]
fn a_span_that_waits_is_not_starved_by_copies() {
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    let group = group_of(&["a"], BLOCK, directory.path(), &cache);
    let block = noise(2, BLOCK as usize);
    assert_is_not_starved(
        8,
        |_| group.write_all_at(0, &block).is_ok(),
        || drop(group.span_timeout(.., LONG).expect("a span")),
    );
}

/// Copies over two files, whose order differs from thread to thread, beside copies of one file.
#[test]
fn copies_over_several_files_do_not_wait_for_each_other() {
    const TIMES: u64 = 300;
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    let paths = [["a", "b"], ["b", "a"]];
    let groups = paths.map(|paths| group_of(&paths, BLOCK, directory.path(), &cache));
    thread::scope(|scope| {
        for thread in 0..8 {
            let group = &groups[thread % 2];
            scope.spawn(move || {
                let mut rng = Rng::new(thread as u64);
                let mut buf = vec![0; 2 * BLOCK as usize];
                for _ in 0..TIMES {
                    let start = rng.below(2 * BLOCK);
                    let end = start + 1 + rng.below(2 * BLOCK - start);
                    let part = &mut buf[..(end - start) as usize];
                    if rng.percent(50) {
                        group.read_exact_at(start, part).expect("a read");
                    } else {
                        group.write_all_at(start, part).expect("a write");
                    }
                }
            });
        }
    });
}

/// Counts the copies that fail while another thread tries to create spans and never gets one.
fn copies_refused_beside(no_span: impl Fn() + Sync, copy: impl Fn() -> bool) -> usize {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                no_span();
            }
        });
        let refused = (0..20_000).filter(|_| !copy()).count();
        is_done.store(true, Ordering::Relaxed);
        refused
    })
}

#[test]
fn a_copy_waits_for_a_span_that_is_not_created_in_the_end() {
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    let group = group_of(&["a", "b"], BLOCK, directory.path(), &cache);
    let held = group.span(BLOCK..).expect("all of b");
    let refused = copies_refused_beside(
        || drop(group.span_mut(..).expect_err("b is locked")),
        || group.write_all_at(0, b"x").is_ok(),
    );
    assert_eq!(refused, 0, "no span had bytes of a");
    let refused = copies_refused_beside(
        || drop(group.span_mut(..).expect_err("b is locked")),
        || group.read_exact_at(0, &mut [0]).is_ok(),
    );
    assert_eq!(refused, 0, "no span had bytes of a");
    drop(held);

    std::fs::remove_file(directory.path().join("b")).expect("remove");
    let group = Group::builder(directory.path())
        .cache(&cache)
        .file("a", BLOCK)
        .file("b", BLOCK)
        .access(Access::ReadWrite)
        .open()
        .expect("a group");
    let refused = copies_refused_beside(
        || drop(group.span(..).expect_err("b is missing")),
        || group.write_all_at(0, b"x").is_ok(),
    );
    assert_eq!(refused, 0, "no span had bytes of a");
}

#[test]
fn a_copy_waits_for_a_span_of_a_mapped_window_that_is_not_created_in_the_end() {
    let directory = support::temp_dir();
    let cache = small_cache(64, CopyMethod::Auto);
    put(&directory.path().join("a"), &noise(1, BLOCK as usize));
    let group = Group::builder(directory.path())
        .cache(&cache)
        .file("a", BLOCK + 10)
        .access(Access::ReadWrite)
        .open()
        .expect("a group");
    drop(group.span(..10).expect("maps the window"));
    let refused = copies_refused_beside(
        || drop(group.span(..).expect_err("the file is too short")),
        || group.write_all_at(0, b"x").is_ok(),
    );
    assert_eq!(refused, 0, "no span had bytes of a");
}
