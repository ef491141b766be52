//! Range locks hold for every path to the same bytes. A writing span excludes all others, reading
//! spans share, and ranges that do not overlap do not block each other.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    mem,
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use flatspan::{
    mapping_cache::{
        Access, CacheOptions, CopyMethod, FileOptions, Location, MappingCache, MappingError,
    },
    span::{Cursor, Group, GroupBuilder, GroupError, Pieces, Sha1},
};

use crate::{
    content::{COPY_PATHS, WINDOW_BYTES, noise, put, small_cache},
    support,
};

const FILE_BYTES: u64 = 60_000;

/// A timeout that no test reaches when the code is correct.
const LONG: Duration = Duration::from_secs(60);

/// A directory with the file "a", which holds noise.
fn directory() -> tempfile::TempDir {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, FILE_BYTES as usize));
    directory
}

fn builder(root: &Path, cache: &MappingCache) -> GroupBuilder {
    let builder = Group::builder(root).cache(cache);
    builder.access(Access::ReadWrite)
}

fn group_of(paths: &[&str], root: &Path, cache: &MappingCache) -> Group {
    let files = paths.iter();
    let builder = files.fold(builder(root, cache), |builder, path| {
        builder.file(*path, FILE_BYTES)
    });
    builder.open().expect("a group")
}

#[track_caller]
fn assert_busy<T: std::fmt::Debug>(result: Result<T, GroupError>, file: &Path) {
    match result {
        Err(GroupError::File(MappingError::RangeLocked { path, .. })) => assert_eq!(path, file),
        other => panic!("not busy: {other:?}"),
    }
}

/// Asserts that the range `here` of one group and the range `there` of another share their bytes:
/// in both directions, by spans and by copies.
#[track_caller]
fn assert_one_file((one, here): (&Group, u64), (two, there): (&Group, u64), path: &Path) {
    let (a, b) = (here + 1000..here + 9000, there + 1000..there + 9000);
    let mut buf = [0; 10];

    let held = one.span_mut(a.clone()).expect("the range is unlocked");
    for overlapping in [b.clone(), b.start - 1..b.start + 1, b.end - 1..b.end + 1] {
        assert_busy(two.span(overlapping.clone()), path);
        assert_busy(two.span_mut(overlapping.clone()), path);
        let read = two.read_at(overlapping.start, &mut buf);
        if overlapping.start < b.start {
            assert_eq!(read.expect("the bytes before it"), 1);
        } else {
            assert_busy(read, path);
        }
        assert_busy(two.read_exact_at(overlapping.end - 2, &mut buf), path);
        assert_busy(two.write_at(overlapping.start, &buf), path);
        assert_busy(two.write_all_at(overlapping.end - 2, &buf), path);
    }
    for beside in [b.start - 500..b.start, b.end..b.end + 500] {
        drop(two.span(beside.clone()).expect("a range beside it"));
        drop(two.span_mut(beside.clone()).expect("a range beside it"));
        two.read_exact_at(beside.start, &mut buf)
            .expect("a range beside it");
        two.write_all_at(beside.start, &buf)
            .expect("a range beside it");
    }
    drop(held);

    let held = one.span(a.clone()).expect("the range was unlocked");
    let other = two.span(b.clone()).expect("spans for reading share");
    two.read_exact_at(b.start, &mut buf).expect("so do copies");
    assert_busy(two.span_mut(b.clone()), path);
    assert_busy(two.write_at(b.start, &buf), path);
    assert_busy(two.write_all_at(b.end - 1, &buf), path);
    drop(held);
    assert_busy(two.write_all_at(b.start, &buf), path);
    drop(other);
    two.write_all_at(b.start, &buf)
        .expect("it was given back twice");
    drop(two.span_mut(b).expect("the range was unlocked"));
    drop(one.span_mut(a).expect("the range was unlocked"));
    assert_eq!(
        (one.stats().pinned_mappings, two.stats().pinned_mappings),
        (0, 0)
    );
}

#[test]
fn two_groups_of_one_cache_share_range_locks() {
    for copy_path in COPY_PATHS {
        let directory = directory();
        let cache = small_cache(64, copy_path);
        let one = group_of(&["a"], directory.path(), &cache);
        let two = group_of(&["a"], directory.path(), &cache);
        assert_one_file((&one, 0), (&two, 0), &directory.path().join("a"));
    }
}

#[test]
fn i33_groups_of_two_caches_share_range_locks() {
    for copy_path in COPY_PATHS {
        let directory = directory();
        let one = group_of(&["a"], directory.path(), &small_cache(64, copy_path));
        let two = group_of(&["a"], directory.path(), &small_cache(2, copy_path));
        assert_one_file((&one, 0), (&two, 0), &directory.path().join("a"));
        assert_one_file((&two, 20_000), (&one, 20_000), &directory.path().join("a"));
    }
}

#[test]
fn i33_windows_of_different_lengths_share_range_locks() {
    let directory = directory();
    let options = CacheOptions::default().window_bytes(64 << 10);
    let large = MappingCache::new(options.budget_bytes(1 << 20)).expect("a cache");
    let one = group_of(&["a"], directory.path(), &large);
    let two = group_of(
        &["a"],
        directory.path(),
        &small_cache(64, CopyMethod::Mapped),
    );
    assert_one_file((&one, 0), (&two, 0), &directory.path().join("a"));
    assert_one_file((&two, 0), (&one, 0), &directory.path().join("a"));
}

#[test]
fn a_repeated_path_shares_range_locks() {
    for copy_path in COPY_PATHS {
        let directory = directory();
        let cache = small_cache(64, copy_path);
        let group = group_of(&["a", "./a"], directory.path(), &cache);
        let path = directory.path().join("a");
        let half = FILE_BYTES;
        // Each half is named by its own path.
        assert_one_file((&group, half), (&group, 0), &path);
        assert_one_file((&group, 0), (&group, half), &directory.path().join("./a"));
    }
}

#[test]
fn hard_links_share_range_locks() {
    for copy_path in COPY_PATHS {
        let directory = directory();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        fs::hard_link(&a, &b).expect("link");
        let cache = small_cache(64, copy_path);
        let group = group_of(&["a", "b"], directory.path(), &cache);
        assert_one_file((&group, 0), (&group, FILE_BYTES), &b);
        let other = group_of(&["b"], directory.path(), &small_cache(64, copy_path));
        assert_one_file((&other, 0), (&group, 0), &a);
    }
}

#[test]
fn a_symlink_shares_the_range_locks_of_its_file() {
    let directory = directory();
    let link = directory.path().join("link");
    symlink("a", &link).expect("symlink");
    let cache = small_cache(64, CopyMethod::Mapped);
    let builder = builder(directory.path(), &cache).allow_outside_root(true);
    let linked = builder.file("link", FILE_BYTES).open().expect("a group");
    let group = group_of(&["a"], directory.path(), &cache);
    assert_one_file((&group, 0), (&linked, 0), &link);
}

#[test]
fn overlapping_ranges_of_a_file_share_range_locks() {
    for copy_path in COPY_PATHS {
        let directory = directory();
        let path = directory.path().join("a");
        let cache = small_cache(64, copy_path);
        let builder = builder(directory.path(), &cache).file_range("a", 0..40_000);
        let group = builder
            .file_range("a", 20_000..60_000)
            .open()
            .expect("a group");
        // Byte 20 000 of the file is at 20 000 and at 40 000 of the group.
        assert_one_file((&group, 20_000), (&group, 40_000), &path);
        assert_one_file((&group, 40_000), (&group, 20_000), &path);
        let held = group.span_mut(0..20_000).expect("only the first has it");
        drop(group.span_mut(40_000..80_000).expect("all of the second"));
        drop(held);
        let held = group.span_mut(20_000..20_001).expect("both have it");
        assert_busy(group.span(40_000..40_001), &path);
        drop(group.span_mut(40_001..80_000).expect("the range after it"));
        drop(held);
    }
}

#[test]
fn a_writing_span_that_overlaps_itself_fails_at_once() {
    let directory = directory();
    let path = directory.path().join("a");
    fs::hard_link(&path, directory.path().join("b")).expect("link");
    let cache = small_cache(64, CopyMethod::Mapped);
    for second in ["a", "b"] {
        let group = group_of(&["a", second], directory.path(), &cache);
        let second = directory.path().join(second);
        let start = Instant::now();
        // The whole file twice, and a single byte of it twice.
        assert_busy(group.span_mut(..), &second);
        assert_busy(group.span_mut_timeout(.., LONG), &second);
        let overlapping = builder(directory.path(), &cache).file_range("a", 0..5000);
        let overlapping = overlapping.file_range("a", 4999..9000).open();
        let overlapping = Arc::new(overlapping.expect("a group"));
        assert_busy(overlapping.span_mut(..), &path);
        assert_busy(overlapping.owned_span_mut_timeout(4000..5001, LONG), &path);
        assert!(start.elapsed() < LONG / 2, "no span waits for itself");
        assert_eq!(group.stats().pinned_mappings, 0, "no pin is left");
        drop(group.span_mut(..FILE_BYTES).expect("no range stays locked"));
        drop(group.span_mut(FILE_BYTES..).expect("no range stays locked"));

        drop(group.span(..).expect("for reading it may"));
        let mut bytes = noise(2, 2 * FILE_BYTES as usize);
        group.write_all_at(0, &bytes).expect("a copy succeeds too");
        group
            .read_exact_at(0, &mut bytes)
            .expect("a copy succeeds too");
        assert!(bytes[..FILE_BYTES as usize] == bytes[FILE_BYTES as usize..]);
    }
}

#[test]
fn a_writing_span_may_cover_disjoint_ranges_of_a_file() {
    let directory = directory();
    let cache = small_cache(64, CopyMethod::Mapped);
    // Both ranges are in one window, the second one first.
    let builder = builder(directory.path(), &cache).file_range("a", 1000..2000);
    let group = builder.file_range("a", 0..1000).open().expect("a group");
    let mut span = group.span_mut_timeout(.., LONG).expect("no byte twice");
    span.write_at(0, &noise(3, 2000)).expect("copy_from");
    drop(span);
    let found = fs::read(directory.path().join("a")).expect("read");
    assert!(found[1000..2000] == noise(3, 2000)[..1000]);
    assert!(found[..1000] == noise(3, 2000)[1000..]);
}

#[test]
fn hashing_a_range_of_a_writing_span_fails() {
    for copy_path in COPY_PATHS {
        let directory = directory();
        let path = directory.path().join("a");
        let one = group_of(&["a"], directory.path(), &small_cache(64, copy_path));
        let two = group_of(&["a"], directory.path(), &small_cache(64, copy_path));
        let pieces = Pieces::new(&two, 10_000).expect("pieces");
        let before = pieces.hash(2).expect("the range is unlocked");
        let held = one.span_mut(25_000..25_001).expect("the range is unlocked");
        assert_busy(pieces.hash(2), &path);
        assert_busy(pieces.hash_with::<Sha1>(2), &path);
        pieces.hash(1).expect("a range beside it");
        #[cfg(feature = "rayon")]
        {
            use flatspan::span::{HashOptions, PieceHash};
            let outcomes = pieces.hash_all(&HashOptions::new()).expect("enough memory");
            let hashed = outcomes
                .iter()
                .map(|outcome| matches!(outcome, PieceHash::Hashed(_)));
            let expected = [true, true, false, true, true, true];
            assert_eq!(hashed.collect::<Vec<_>>(), expected);
        }
        drop(held);
        let held = one.span(..).expect("the range was unlocked");
        assert_eq!(pieces.hash(2).expect("both read"), before);
        drop(held);
    }
}

#[test]
fn a_cursor_in_a_locked_range_fails() {
    let directory = directory();
    let cache = small_cache(64, CopyMethod::Auto);
    let group = group_of(&["a"], directory.path(), &cache);
    let busy = |done: io::Result<()>| {
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    };
    let mut cursor = Cursor::new(&group);
    let held = group.span_mut(5000..6000).expect("the range is unlocked");
    cursor.seek(SeekFrom::Start(5000)).expect("seek");
    busy(cursor.read_exact(&mut [0]));
    busy(cursor.write_all(b"x").and_then(|()| cursor.flush()));
    drop(held);
}

#[test]
fn pins_and_cached_files_in_a_locked_range_fail() {
    let directory = directory();
    let cache = small_cache(64, CopyMethod::Mapped);
    let group = group_of(&["a"], directory.path(), &cache);
    let location = Location::beneath(directory.path().into(), "a".into()).expect("a location");
    let options = FileOptions::default().access(Access::ReadWrite);
    for cache in [cache, small_cache(64, CopyMethod::Auto)] {
        let file = cache.file(location.clone(), FILE_BYTES, options);
        let pin = file.pin(1, Access::ReadWrite).expect("a pin");
        let busy = |done: io::Result<usize>| {
            assert_eq!(done.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        };
        let at = WINDOW_BYTES + 100;
        let mut buf = [0; 100];

        let held = group.span(at..at + 100).expect("the range is unlocked");
        busy(pin.write_at(100, &buf));
        busy(pin.write_at(1, &buf));
        assert_eq!(pin.write_at(0, &buf).expect("before it"), 100);
        assert_eq!(pin.read_at(100, &mut buf).expect("both read"), 100);
        let written = file.write_at(at, &buf);
        assert!(
            matches!(written, Err(MappingError::RangeLocked { .. })),
            "{written:?}"
        );
        assert_eq!(file.read_at(at, &mut buf).expect("both read"), 100);
        drop(held);

        let held = group
            .span_mut(at..at + 100)
            .expect("the range was unlocked");
        busy(pin.write_at(199, &buf));
        busy(pin.read_at(199, &mut buf));
        let read = file.read_at(at, &mut buf);
        assert!(
            matches!(read, Err(MappingError::RangeLocked { .. })),
            "{read:?}"
        );
        assert_eq!(pin.read_at(200, &mut buf).expect("a range after it"), 100);
        drop(held);
        assert_eq!(
            pin.write_at(100, &buf).expect("the range was unlocked"),
            100
        );
    }
}

#[test]
fn a_copy_that_overlaps_a_span_at_its_end_has_no_effect() {
    let directory = directory();
    let (b, len) = (directory.path().join("b"), FILE_BYTES as usize);
    put(&b, &noise(2, len));
    let cache = small_cache(64, CopyMethod::Mapped);
    let group = group_of(&["a", "b"], directory.path(), &cache);
    let held = group.span_mut(2 * FILE_BYTES - 1..).expect("the last byte");
    assert_busy(group.write_all_at(0, &noise(3, 2 * len)), &b);
    assert_busy(group.write_at(0, &noise(3, 2 * len)), &b);
    assert_busy(group.read_exact_at(0, &mut vec![0; 2 * len]), &b);
    assert_busy(group.span(..), &b);
    assert_busy(group.span_mut(..), &b);
    drop(held);
    assert!(fs::read(directory.path().join("a")).expect("read") == noise(1, len));
    assert!(fs::read(b).expect("read") == noise(2, len));
    assert_eq!(group.stats().pinned_mappings, 0);
    drop(group.span_mut(..).expect("no range stays locked"));
}

#[test]
fn disjoint_spans_of_one_window_are_held_at_once() {
    const BLOCK: u64 = 16 << 10;
    const BLOCKS: u64 = 32;
    const THREADS: u64 = 4;
    let directory = support::temp_dir();
    let options = CacheOptions::default().window_bytes((BLOCK * BLOCKS) as usize);
    let cache = MappingCache::new(options).expect("a cache");
    let builder = builder(directory.path(), &cache).create(true);
    let group = builder.file("a", BLOCK * BLOCKS).open().expect("a group");
    let barrier = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (group, barrier) = (&group, &barrier);
            scope.spawn(move || {
                // Neighbouring ranges belong to different threads.
                let blocks = (thread..BLOCKS).step_by(THREADS as usize);
                let spans = blocks.map(|block| {
                    let range = block * BLOCK..(block + 1) * BLOCK;
                    let span = group.span_mut(range.clone());
                    (block, range, span.expect("disjoint"))
                });
                let mut spans: Vec<_> = spans.collect();
                barrier.wait();
                for (block, range, span) in &mut spans {
                    span.write_at(0, &noise(*block, BLOCK as usize))
                        .expect("copy_from");
                    let refused = group.span(range.end - 1..range.end);
                    assert_busy(refused, &group.root().join("a"));
                }
                barrier.wait();
            });
        }
    });
    assert_eq!(
        (group.stats().pinned_mappings, group.stats().mappings),
        (0, 1)
    );
    let found = fs::read(directory.path().join("a")).expect("read");
    for (block, bytes) in (0..).zip(found.chunks(BLOCK as usize)) {
        assert!(bytes == noise(block, BLOCK as usize), "block {block}");
    }
}

#[test]
fn spans_for_reading_overlap_freely() {
    const THREADS: u64 = 8;
    let directory = directory();
    let cache = small_cache(64, CopyMethod::Mapped);
    let one = group_of(&["a", "a"], directory.path(), &cache);
    let two = group_of(
        &["a", "a"],
        directory.path(),
        &small_cache(64, CopyMethod::Mapped),
    );
    let barrier = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let group = if thread % 2 == 0 { &one } else { &two };
            let (barrier, one) = (&barrier, &one);
            scope.spawn(move || {
                let start = thread * 100;
                let spans = (0..50).map(|_| group.span(start..2 * FILE_BYTES - start));
                let spans: Vec<_> = spans.map(|span| span.expect("a span")).collect();
                barrier.wait();
                let mut buf = vec![0; 5000];
                spans[49].read_at(0, &mut buf).expect("copy_to");
                assert!(buf == noise(1, FILE_BYTES as usize)[start as usize..][..5000]);
                let refused = one.span_mut(40_000..40_001);
                assert_busy(refused, &one.root().join("a"));
                barrier.wait();
            });
        }
    });
    drop(one.span_mut(..FILE_BYTES).expect("all were given back"));
}

#[test]
fn empty_spans_lock_nothing() {
    let directory = directory();
    let group = group_of(
        &["a"],
        directory.path(),
        &small_cache(64, CopyMethod::Mapped),
    );
    let empty = group.span_mut(5000..5000).expect("the range is empty");
    let all = group.span_mut(..).expect("an empty one has nothing");
    drop(group.span(700..700).expect("the range is empty"));
    drop(group.span_mut(700..700).expect("the range is empty"));
    drop(
        group
            .span_mut_timeout(FILE_BYTES.., LONG)
            .expect("the range is empty"),
    );
    group.read_exact_at(700, &mut []).expect("an empty read");
    group.write_all_at(700, &[]).expect("an empty write");
    drop((empty, all));
}

#[test]
fn a_leaked_span_keeps_only_its_range_locked() {
    let directory = directory();
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    put(&b, &noise(2, FILE_BYTES as usize));
    let cache = small_cache(64, CopyMethod::Mapped);
    let group = group_of(&["a", "b"], directory.path(), &cache);
    let other = group_of(&["a"], directory.path(), &small_cache(64, CopyMethod::Auto));
    let last = 2 * FILE_BYTES;
    mem::forget(group.span_mut(5000..6000).expect("the range is unlocked"));
    mem::forget(group.span(last - 100..).expect("the range is unlocked"));

    let mut buf = vec![0; 1000];
    assert_busy(group.span(5999..6001), &a);
    assert_busy(
        group.span_timeout(5999..6001, Duration::from_millis(20)),
        &a,
    );
    assert_busy(other.read_exact_at(5500, &mut buf), &a);
    assert_busy(group.write_all_at(last - 1, b"x"), &b);
    drop(
        group
            .span(last - 100..)
            .expect("reading spans share the range"),
    );

    for at in [0, 4000, 6000, FILE_BYTES, last - 1100] {
        drop(
            group
                .span_mut(at..at + 1000)
                .expect("the other pieces are hashed"),
        );
        group
            .write_all_at(at, &buf)
            .expect("the other pieces are hashed");
        group
            .read_exact_at(at, &mut buf)
            .expect("the other pieces are hashed");
    }
    other
        .write_all_at(6000, &buf)
        .expect("the other pieces are hashed");
    let pieces = Pieces::new(&group, 10_000).expect("pieces");
    assert_busy(pieces.hash(0), &a);
    pieces.hash(1).expect("the other pieces are hashed");
    pieces.hash(11).expect("reading spans share the range");
    group.sync_all().expect("sync_all");
    // One window of each file stays mapped.
    group.evict(..).expect("evict");
    assert_eq!(
        (group.stats().mappings, group.stats().pinned_mappings),
        (2, 2)
    );
    drop(group);
    other.sync_all().expect("sync_all");
    drop(other);
    drop(cache);
    fs::remove_file(a).expect("remove");
}

#[test]
fn a_leaked_owned_span_keeps_the_group() {
    let directory = directory();
    let a = directory.path().join("a");
    let cache = small_cache(64, CopyMethod::Mapped);
    let group = Arc::new(group_of(&["a"], directory.path(), &cache));
    mem::forget(group.owned_span_mut(0..1).expect("the range is unlocked"));
    drop(group);
    let mut other = group_of(&["a"], directory.path(), &cache);
    assert_busy(other.span(0..1), &a);
    drop(other.span_mut(1..).expect("the other pieces are hashed"));
    let released = other.close_file(0);
    assert!(
        matches!(
            released,
            Err(GroupError::File(MappingError::WindowPinned { .. }))
        ),
        "{released:?}"
    );
}

#[test]
fn a_wait_ends_when_the_range_is_unlocked() {
    let directory = directory();
    let cache = small_cache(64, CopyMethod::Mapped);
    let group = Arc::new(group_of(&["a"], directory.path(), &cache));
    let other = Arc::new(group_of(
        &["a"],
        directory.path(),
        &small_cache(64, CopyMethod::Mapped),
    ));
    let pause = Duration::from_millis(30);
    for waits_for_writing in [false, true] {
        for is_owned in [false, true] {
            for waiter in [&group, &other] {
                let held = group
                    .owned_span_mut(1000..20_000)
                    .expect("the range is unlocked");
                let start = Instant::now();
                let holder = thread::spawn(move || {
                    thread::sleep(pause);
                    drop(held);
                });
                let range = 15_000..30_000;
                match (waits_for_writing, is_owned) {
                    (false, false) => drop(waiter.span_timeout(range, LONG).expect("span")),
                    (false, true) => drop(waiter.owned_span_timeout(range, LONG).expect("span")),
                    (true, false) => drop(waiter.span_mut_timeout(range, LONG).expect("span")),
                    (true, true) => {
                        drop(waiter.owned_span_mut_timeout(range, LONG).expect("span"));
                    }
                }
                assert!(start.elapsed() >= pause && start.elapsed() < LONG / 2);
                holder.join().expect("the holder");
            }
        }
    }
}

#[test]
fn a_writing_span_waits_for_readers_of_all_files() {
    let directory = directory();
    put(&directory.path().join("b"), &noise(2, FILE_BYTES as usize));
    let cache = small_cache(64, CopyMethod::Mapped);
    let group = Arc::new(group_of(&["a", "b"], directory.path(), &cache));
    let (sender, receiver) = mpsc::channel();
    for at in [0, 30_000, FILE_BYTES, 2 * FILE_BYTES - 1] {
        let held = group.owned_span(at..at + 1).expect("a span");
        sender.send(held).expect("the holder");
    }
    drop(sender);
    let holder = thread::spawn(move || {
        for held in receiver {
            thread::sleep(Duration::from_millis(10));
            drop(held);
        }
    });
    drop(group.span_mut_timeout(.., LONG).expect("in the end"));
    holder.join().expect("the holder");
}

#[test]
fn a_wait_ends_with_the_timeout() {
    let directory = directory();
    let a = directory.path().join("a");
    let group = Arc::new(group_of(
        &["a"],
        directory.path(),
        &small_cache(64, CopyMethod::Mapped),
    ));
    for timeout in [0, 1, 40].map(Duration::from_millis) {
        let held = group.span_mut(1000..2000).expect("the range is unlocked");
        let start = Instant::now();
        assert_busy(group.span_timeout(.., timeout), &a);
        assert_busy(group.owned_span_timeout(1000..1001, timeout), &a);
        drop(held);
        let held = group.span(1000..2000).expect("the range was unlocked");
        assert_busy(group.span_mut_timeout(.., timeout), &a);
        assert_busy(group.owned_span_mut_timeout(1999..2001, timeout), &a);
        assert!(start.elapsed() >= 4 * timeout);
        assert!(start.elapsed() < 4 * timeout + LONG / 2);
        drop(group.span_timeout(.., timeout).expect("for reading"));
        drop(held);
        drop(
            group
                .span_mut_timeout(.., timeout)
                .expect("the range is free"),
        );
        drop(
            group
                .span_mut_timeout(.., Duration::MAX)
                .expect("the range is free"),
        );
    }
}

#[test]
fn copies_do_not_wait_for_spans() {
    let directory = directory();
    let group = group_of(
        &["a"],
        directory.path(),
        &small_cache(64, CopyMethod::Mapped),
    );
    let held = group.span(..).expect("a span");
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(group.write_all_at(0, b"x").is_err());
    }
    assert!(start.elapsed() < LONG / 2);
    drop(held);
}

#[test]
fn a_replacement_file_has_its_own_range_locks() {
    let directory = directory();
    let a = directory.path().join("a");
    let cache = small_cache(64, CopyMethod::Mapped);
    let old = group_of(&["a"], directory.path(), &cache);
    let mut held = old.span_mut(..).expect("the range is unlocked");
    fs::remove_file(&a).expect("remove");
    put(&a, &noise(5, FILE_BYTES as usize));
    let new = group_of(&["a"], directory.path(), &cache);
    let span = new.span_mut(..).expect("the new file is unlocked");
    held.write_at(0, b"of the old")
        .expect("a write to the old file");
    drop(span);
    drop(held);
    let file = File::open(&a).expect("open");
    assert_eq!(file.metadata().expect("metadata").len(), FILE_BYTES);
    assert!(fs::read(&a).expect("read") == noise(5, FILE_BYTES as usize));
}

#[test]
fn a_timeout_ends_while_a_later_window_of_the_range_is_locked() {
    let directory = directory();
    let a = directory.path().join("a");
    let cache = small_cache(64, CopyMethod::Auto);
    let group = Arc::new(group_of(&["a"], directory.path(), &cache));
    let held = group
        .span_mut(WINDOW_BYTES..WINDOW_BYTES + 1)
        .expect("the range is unlocked");
    // On a thread, since the request that this test guards against never ends.
    let (ended, end) = mpsc::channel();
    let waiter = Arc::clone(&group);
    thread::spawn(move || {
        let timeout = Duration::from_millis(20);
        let range = WINDOW_BYTES - 1..WINDOW_BYTES + 1;
        let refused = waiter.span_timeout(range, timeout).map(drop);
        ended.send(refused).expect("the test waits");
    });
    assert_busy(end.recv_timeout(LONG).expect("the request ends"), &a);
    drop(held);
}
