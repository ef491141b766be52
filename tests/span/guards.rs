//! Spans read and write the content of the files, whatever happens to the group, its cache and its
//! budget.
#![expect(unsafe_code, reason = "slices are a promise of the caller")]

use std::{
    cell::Cell,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    ops::Range,
    panic::{self, AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use flatspan::{
    mapping_cache::{
        Access, BudgetPolicy, CacheOptions, CopyMethod, FlushMode, MappingCache, MappingError,
    },
    span::{EntryKind, Group, GroupBuilder, GroupError, Span, SpanMut},
};
use tempfile::TempDir;

use crate::{
    content::{
        COPY_PATHS, PREALLOCATIONS, Rng, WINDOW_BYTES, missing, noise, put, short_file, small_cache,
    },
    support,
};

const LONG: Duration = Duration::from_secs(60);

/// Sets `assume_exclusive` for tests in which only this crate touches the files while a slice
/// exists.
fn trusted(builder: GroupBuilder) -> GroupBuilder {
    // SAFETY: only this crate touches the files, as stated above.
    unsafe { builder.assume_exclusive() }
}

/// A group of files and padding of uneven lengths, and its bytes.
struct Model {
    directory: TempDir,
    group: Group,
    bytes: Vec<u8>,
}

impl Model {
    fn new(cache: &MappingCache) -> Self {
        let directory = support::temp_dir();
        let mut builder = Group::builder(directory.path()).cache(cache);
        let mut bytes = Vec::new();
        for (file, len) in [5000, 0, 1, 4096, 8192, 20_123, 77].into_iter().enumerate() {
            let content = noise(file as u64, len);
            put(&directory.path().join(format!("{file}")), &content);
            let padding = if file % 2 == 0 { 3000 } else { 0 };
            builder = builder.file(format!("{file}"), len as u64).padding(padding);
            bytes.extend(content);
            bytes.extend(vec![0; padding as usize]);
        }
        let builder = trusted(builder.access(Access::ReadWrite));
        let group = builder.open().expect("a group");
        assert_eq!(group.len(), bytes.len() as u64);
        Self {
            directory,
            group,
            bytes,
        }
    }

    /// Ranges at every entry boundary, and some random ones.
    fn ranges(&self) -> Vec<Range<u64>> {
        let len = self.group.len();
        let mut seams: Vec<u64> = (0..len).step_by(WINDOW_BYTES as usize).collect();
        for entry in self.group.entries() {
            let start = entry.range.start;
            seams.extend([start.saturating_sub(1), start, start + 1, start + 4096]);
        }
        let mut rng = Rng::new(7);
        let mut ranges: Vec<_> = (0..200)
            .map(|_| {
                let start = seams[rng.below(seams.len() as u64) as usize].min(len);
                start..start + rng.below(len - start + 1)
            })
            .collect();
        for start in seams {
            ranges.extend([start.min(len)..len, 0..start.min(len)]);
            ranges.push(start.min(len)..(start + 10).min(len));
        }
        ranges
    }

    fn slice(&self, range: &Range<u64>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// The number of windows that a range touches, and the number of padding bytes in it.
    fn windows(&self, range: &Range<u64>) -> (u64, u64) {
        let (mut windows, mut padding) = (0, 0);
        let entries: Vec<_> = self.group.entries().map(|entry| entry.kind).collect();
        for extent in self.group.layout().extents(range.clone()).expect("extents") {
            if entries[extent.entry] == EntryKind::Padding {
                padding += extent.len;
            } else {
                let last = (extent.offset + extent.len - 1) / WINDOW_BYTES;
                windows += last - extent.offset / WINDOW_BYTES + 1;
            }
        }
        (windows, padding)
    }
}

/// A file "a" of noise from a seed, in a directory.
fn one_file(seed: u64, len: usize) -> TempDir {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(seed, len));
    directory
}

fn writer(root: &Path, cache: &MappingCache) -> Group {
    let builder = Group::builder(root).cache(cache).existing_file("a");
    let builder = trusted(builder.access(Access::ReadWrite));
    builder.open().expect("a group")
}

fn cache_of(window_bytes: usize, budget: u64, when_pinned: BudgetPolicy) -> MappingCache {
    let options = CacheOptions::default().window_bytes(window_bytes);
    let options = options.budget_bytes(budget).budget_policy(when_pinned);
    MappingCache::new(options).expect("a cache")
}

#[test]
fn spans_read_the_bytes_of_the_group() {
    for copy_path in COPY_PATHS {
        let model = Model::new(&small_cache(4, copy_path));
        for range in model.ranges() {
            let span = model.group.span(range.clone()).expect("a span");
            let expected = model.slice(&range);
            assert_eq!((span.range(), span.len()), (range.clone(), expected.len()));
            assert_eq!(span.is_empty(), expected.is_empty());

            let found: Vec<&[u8]> = span.slices().collect();
            assert!(found.concat() == expected, "{range:?}");
            assert!(found.iter().all(|slice| !slice.is_empty()), "{range:?}");
            let (windows, padding) = model.windows(&range);
            match span.as_slice() {
                Some(slice) => {
                    assert!(slice == expected, "{range:?}");
                    assert_eq!((windows, padding), (1, 0), "{range:?}");
                }
                None => assert_ne!((windows, padding), (1, 0), "{range:?}"),
            }
            let buffers = span.io_slices().flatten();
            let found: Vec<u8> = buffers.flat_map(|buffer| buffer.to_vec()).collect();
            assert!(found == expected, "{range:?}");

            let mut buf = vec![0xEE; expected.len()];
            span.read_at(0, &mut buf).expect("copy_to");
            assert!(buf == expected, "{range:?}");
            let half = expected.len() / 2;
            span.read_at(half, &mut buf[half..]).expect("copy_to");
            assert!(buf == expected, "{range:?}");
            span.check_intact().expect("all bytes exist");
        }
    }
}

#[test]
fn spans_accept_any_range_bounds() {
    let model = Model::new(&small_cache(4, CopyMethod::Mapped));
    let all = |span: Span<&Group>| span.slices().collect::<Vec<_>>().concat();
    let (group, bytes) = (&model.group, &model.bytes);
    assert!(all(group.span(..).expect("all bytes")) == *bytes);
    assert!(all(group.span(7..).expect("a span")) == bytes[7..]);
    assert!(all(group.span(..=6000).expect("a span")) == bytes[..=6000]);
    assert!(all(group.span_timeout(5..9, LONG).expect("a span")) == bytes[5..9]);
    let len = group.len();
    for range in [0..len + 1, len + 1..len + 1, u64::MAX - 1..u64::MAX] {
        let refused = [
            group.span(range.clone()).map(drop),
            group.span_timeout(range.clone(), LONG).map(drop),
            group.span_mut(range.clone()).map(drop),
            group.span_mut_timeout(range.clone(), LONG).map(drop),
        ];
        for refused in refused {
            assert!(
                matches!(refused, Err(GroupError::OutOfBounds { .. })),
                "{range:?}"
            );
        }
    }
    #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
    let inverted = group.span(9..5);
    assert!(
        matches!(inverted, Err(GroupError::OutOfBounds { .. })),
        "{inverted:?}"
    );
}

#[test]
fn stores_through_spans_reach_the_files() {
    for preallocation in PREALLOCATIONS {
        let cache = small_cache(4, CopyMethod::Auto);
        let mut model = Model::new(&cache);
        let builder = Group::builder(model.directory.path()).cache(&cache);
        let mut builder = trusted(
            builder
                .access(Access::ReadWrite)
                .preallocation(preallocation),
        );
        for entry in model.group.entries() {
            let len = entry.range.end - entry.range.start;
            builder = match entry.kind {
                EntryKind::Padding => builder.padding(len),
                _ => builder.file(entry.path, len),
            };
        }
        let group = builder.open().expect("a group");
        for (seed, range) in (100..).zip(model.ranges()) {
            let content = noise(seed, (range.end - range.start) as usize);
            let (windows, padding) = model.windows(&range);
            let mut span = match group.span_mut(range.clone()) {
                Ok(span) => span,
                Err(GroupError::WriteToPadding { entry }) => {
                    assert!(padding > 0, "{range:?}");
                    let infos: Vec<_> = group.entries().collect();
                    assert_eq!(infos[entry].kind, EntryKind::Padding);
                    continue;
                }
                Err(other) => panic!("{range:?}: {other:?}"),
            };
            assert_eq!(padding, 0, "{range:?}");
            assert_eq!((span.range(), span.len()), (range.clone(), content.len()));
            assert_eq!(span.is_empty(), content.is_empty());
            let mut left = &content[..];
            match (seed % 4, span.as_mut_slice()) {
                (0, Some(slice)) => {
                    assert_eq!(windows, 1);
                    slice.copy_from_slice(left);
                }
                (0 | 1, _) => {
                    for slice in span.slices_mut() {
                        slice.copy_from_slice(&left[..slice.len()]);
                        left = &left[slice.len()..];
                    }
                    assert!(left.is_empty());
                }
                (2, _) => {
                    for mut batch in span.io_slices_mut() {
                        let read = io::Read::read_vectored(&mut left, &mut batch);
                        read.expect("a read from memory");
                    }
                    assert!(left.is_empty());
                }
                (_, _) => span.write_at(0, left).expect("copy_from"),
            }
            let seen: Vec<&[u8]> = span.as_span().slices().collect();
            assert!(seen.concat() == content, "{range:?}");
            let mut buf = vec![0; content.len()];
            span.read_at(0, &mut buf).expect("copy_to");
            assert!(buf == content, "{range:?}");
            span.check_intact().expect("all bytes exist");
            model.bytes[range.start as usize..range.end as usize].copy_from_slice(&content);
        }
        let mut buf = vec![0; model.bytes.len()];
        group.read_exact_at(0, &mut buf).expect("all bytes");
        assert!(buf == model.bytes, "{preallocation:?}");
        group.sync_all().expect("sync_all");
        assert_eq!(group.stats().dirty_files, 0);
        let files = group
            .entries()
            .filter(|entry| entry.kind == EntryKind::File);
        for entry in files {
            let found = fs::read(model.directory.path().join(entry.path)).expect("read");
            assert!(
                found == *model.slice(&entry.range),
                "{}",
                entry.path.display()
            );
        }
    }
}

#[test]
fn stores_make_files_dirty_until_the_group_is_synced() {
    let directory = one_file(1, 10_000);
    let group = writer(directory.path(), &small_cache(4, CopyMethod::Auto));
    let mut span = group.span_mut(..100).expect("a span");
    span.slices_mut().for_each(|slice| slice.fill(9));
    group.sync_all().expect("the stored state");
    assert_eq!(group.stats().dirty_files, 1, "further stores are possible");
    drop(span);
    group.flush(..100, FlushMode::Sync).expect("flush");
    assert_eq!(group.stats().dirty_files, 0);
}

#[test]
fn padding_reads_as_zeros_and_refuses_writing_spans() {
    let directory = one_file(1, 100);
    let cache = small_cache(4, CopyMethod::Auto);
    let builder = Group::builder(directory.path())
        .cache(&cache)
        .padding(200_000);
    let builder = trusted(builder.existing_file("a").padding(70_000));
    let builder = builder.access(Access::ReadWrite);
    let group = builder.open().expect("a group");
    let span = group.span(1..270_000).expect("a span");
    let mut expected = vec![0; 199_999];
    expected.extend(noise(1, 100));
    expected.extend([0; 69_900]);
    assert!(span.slices().collect::<Vec<_>>().concat() == expected);
    assert!(span.as_slice().is_none());
    span.check_intact().expect("padding always exists");
    let only = group.span(..100_000).expect("only padding");
    assert!(
        only.slices()
            .all(|slice| slice.iter().all(|byte| *byte == 0))
    );
    assert_eq!(only.slices().map(<[u8]>::len).sum::<usize>(), 100_000);
    only.check_intact().expect("padding always exists");
    for (range, padding) in [(0..1, 0), (199_999..200_050, 0), (200_000..200_101, 2)] {
        let refused = group.span_mut(range.clone());
        assert!(
            matches!(refused, Err(GroupError::WriteToPadding { entry }) if entry == padding),
            "{range:?}: {refused:?}"
        );
        let refused = group.span_mut_timeout(range, LONG);
        assert!(matches!(refused, Err(GroupError::WriteToPadding { .. })));
    }
    drop(span);
    drop(group.span_mut(200_000..200_100).expect("between them"));
}

#[test]
fn buffers_come_in_batches_within_the_kernel_limit() {
    const FILES: usize = 1200;
    let directory = support::temp_dir();
    let cache = small_cache(2 * FILES as u64, CopyMethod::Auto);
    let builder = Group::builder(directory.path()).cache(&cache);
    let mut builder = trusted(builder.access(Access::ReadWrite).create(true));
    for file in 0..FILES {
        builder = builder.file(format!("{file}"), 3);
    }
    let group = builder.open().expect("a group");
    let content = noise(1, 3 * FILES);
    let mut span = group.span_mut(..).expect("a span");
    let mut left = &content[..];
    let mut lens = Vec::new();
    for mut batch in span.io_slices_mut() {
        lens.push(batch.len());
        let read = left.read_vectored(&mut batch).expect("a read from memory");
        assert_eq!(read, 3 * batch.len());
    }
    assert_eq!((lens, left.len()), (vec![1024, FILES - 1024], 0));
    drop(span);

    let span = group.span(..).expect("a span");
    let mut file = tempfile::tempfile().expect("a file");
    let mut lens = Vec::new();
    for batch in span.io_slices() {
        lens.push(batch.len());
        let written = file.write_vectored(&batch).expect("one call");
        assert_eq!(written, 3 * batch.len());
    }
    assert_eq!(lens, [1024, FILES - 1024]);
    let mut found = Vec::new();
    file.rewind().expect("seek");
    file.read_to_end(&mut found).expect("read");
    assert!(found == content);
    assert_eq!(
        group
            .span(0..0)
            .expect("the range is empty")
            .io_slices()
            .count(),
        0
    );
}

#[test]
fn empty_spans_have_no_slices() {
    let model = Model::new(&small_cache(4, CopyMethod::Mapped));
    for at in [0, 1, 5000, 8000, model.group.len()] {
        let span = model.group.span(at..at).expect("the range is empty");
        assert!(span.is_empty() && span.slices().next().is_none());
        span.read_at(0, &mut []).expect("an empty read");
        span.check_intact().expect("nothing is lost");
        let mut span = model.group.span_mut(at..at).expect("the range is empty");
        assert!(span.is_empty() && span.slices_mut().next().is_none());
        span.write_at(0, &[]).expect("an empty read");
    }
    assert_eq!(
        model.group.stats().mappings,
        0,
        "nothing is mapped for them"
    );
    // No file is opened either.
    let builder = Group::builder(model.directory.path()).file("not there", 10);
    let group = builder.open().expect("a group");
    drop(group.span(3..3).expect("the range is empty"));
}

#[test]
fn copies_stay_inside_the_span() {
    let directory = one_file(1, 10_000);
    let group = writer(directory.path(), &small_cache(4, CopyMethod::Auto));
    let mut span = group.span_mut(1000..6000).expect("a span");
    let outside = |done: Result<(), GroupError>| {
        assert!(
            matches!(done, Err(GroupError::OutOfBounds { .. })),
            "{done:?}"
        );
    };
    for (at, len) in [(5001, 0), (5000, 1), (0, 5001), (usize::MAX, 1), (2, 4999)] {
        let mut buf = vec![0xEE; len];
        outside(span.write_at(at, &buf));
        outside(span.read_at(at, &mut buf));
        outside(span.as_span().read_at(at, &mut buf));
        assert!(buf.iter().all(|byte| *byte == 0xEE));
    }
    span.write_at(5000, &[]).expect("nothing, at the end");
    span.write_at(4999, &[7]).expect("the last byte");
    drop(span);
    let mut expected = noise(1, 10_000);
    expected[5999] = 7;
    assert!(fs::read(directory.path().join("a")).expect("read") == expected);
}

#[test]
fn slices_without_assume_exclusive_panic_in_the_caller_and_name_the_remedies() {
    thread_local! {
        static FILE: Cell<Option<String>> = const { Cell::new(None) };
    }
    #[track_caller]
    fn panics(act: impl FnOnce()) {
        let payload = catch_unwind(AssertUnwindSafe(act)).expect_err("it must panic");
        let message = payload.downcast_ref::<&str>().expect("a message");
        assert!(
            message.contains("`GroupBuilder::assume_exclusive`"),
            "{message}"
        );
        assert!(message.contains("copy with `read_at`"), "{message}");
        assert_eq!(FILE.take().as_deref(), Some(file!()));
    }
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        FILE.set(info.location().map(|at| at.file().to_owned()));
        others(info);
    }));
    let directory = one_file(1, 10_000);
    let builder = Group::builder(directory.path()).existing_file("a");
    let group = builder.access(Access::ReadWrite).open().expect("a group");
    let span = group.span(..).expect("a span");
    panics(|| assert!(span.as_slice().is_some()));
    panics(|| assert!(span.slices().count() > 0));
    panics(|| assert!(span.io_slices().count() > 0));
    let mut buf = [0; 100];
    span.read_at(0, &mut buf).expect("copies need no promise");
    drop(span);
    let mut span = group.span_mut(..).expect("given back by the panics, too");
    panics(|| drop(span.as_mut_slice()));
    panics(|| assert!(span.slices_mut().count() > 0));
    panics(|| assert!(span.io_slices_mut().count() > 0));
    panics(|| assert!(span.as_span().as_slice().is_some()));
    span.write_at(0, &buf).expect("copies need no promise");
    span.check_intact().expect("nor does this");
}

#[test]
fn a_span_dropped_by_a_panic_unlocks_its_range() {
    let directory = one_file(1, 10_000);
    let group = writer(directory.path(), &small_cache(4, CopyMethod::Auto));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _span = group.span_mut(..).expect("a span");
        panic!("in the middle");
    }));
    assert!(unwound.is_err());
    drop(group.span_mut(..).expect("the range was unlocked"));
    assert_eq!(group.stats().pinned_mappings, 0);
}

#[test]
fn a_file_that_is_too_short_gives_no_span() {
    for copy_path in COPY_PATHS {
        let directory = one_file(1, 5000);
        let path = directory.path().join("a");
        let cache = small_cache(8, copy_path);
        let builder = Group::builder(directory.path()).cache(&cache);
        let builder = trusted(builder.file("a", 20_000).file("b", 10));
        let group = builder.open().expect("a group");
        for range in [0..5001, 4999..5001, 5000..5001, 9000..9001, 0..20_000] {
            let (named, needed, present) = short_file(group.span(range.clone()).unwrap_err());
            assert_eq!((named, present), (path.clone(), 5000), "{range:?}");
            assert!(needed > 5000 && needed <= range.end, "{range:?}");
            assert_eq!(group.stats().pinned_mappings, 0, "{range:?}");
        }
        let span = group.span(..5000).expect("the existing bytes");
        assert!(span.slices().collect::<Vec<_>>().concat() == noise(1, 5000));
        drop(span);
        let no_file = missing(group.span(20_000..).unwrap_err());
        assert_eq!(no_file, directory.path().join("b"));
    }
}

#[test]
fn a_writing_span_creates_and_extends_files() {
    for preallocation in PREALLOCATIONS {
        let directory = one_file(1, 100);
        let cache = small_cache(8, CopyMethod::Auto);
        let build = |create| {
            let builder = Group::builder(directory.path()).cache(&cache);
            let builder = builder.access(Access::ReadWrite).create(create);
            let builder = trusted(builder.preallocation(preallocation));
            let builder = builder.file("a", 10_000).file("new/b", 5000);
            builder.open().expect("a group")
        };
        let group = build(false);
        let b = directory.path().join("new/b");
        assert_eq!(missing(group.span_mut(..).unwrap_err()), b);
        let group = build(true);
        let mut span = group.span_mut(9000..12_000).expect("a span");
        let content = noise(2, 3000);
        span.write_at(0, &content).expect("copy_from");
        drop(span);
        group.sync_all().expect("sync_all");
        let found = fs::read(directory.path().join("a")).expect("read");
        assert!(found.len() == 10_000 && found[9000..] == content[..1000]);
        assert!(found[..100] == noise(1, 100) && found[100..9000].iter().all(|byte| *byte == 0));
        assert!(fs::read(b).expect("read")[..2000] == content[1000..]);
    }
}

#[test]
fn a_read_only_group_refuses_writing_spans() {
    let directory = one_file(1, 10_000);
    let builder = Group::builder(directory.path()).existing_file("a");
    let group = builder.open().expect("a group");
    let held = group.span(..).expect("a span");
    for refused in [group.span_mut(..), group.span_mut(5..6)] {
        let error = refused.map(drop).unwrap_err();
        assert!(
            matches!(
                error,
                GroupError::File(MappingError::ReadOnly { .. } | MappingError::RangeLocked { .. })
            ),
            "{error:?}"
        );
    }
    drop(held);
    let refused = group.span_mut(..);
    assert!(
        matches!(
            refused,
            Err(GroupError::File(MappingError::ReadOnly { .. }))
        ),
        "{refused:?}"
    );
    drop(group.span(..).expect("no range stays locked"));
}

#[test]
fn owned_spans_outlive_group_and_cache() {
    fn assert_free<T: Send + Sync + 'static>(_: &T) {}
    let directory = one_file(1, 50_000);
    let cache = small_cache(2, CopyMethod::Mapped);
    let group = Arc::new(writer(directory.path(), &cache));
    let span: Span<Arc<Group>> = group.owned_span(..30_000).expect("a span");
    let mut stores: SpanMut<Arc<Group>> = group.owned_span_mut(30_000..).expect("a span");
    let waited = group.owned_span_timeout(5..6, LONG).expect("a span");
    assert_free(&span);
    assert_free(&stores);
    drop((group, cache));
    let (one, two) = (
        thread::spawn(move || {
            assert!(span.slices().collect::<Vec<_>>().concat() == noise(1, 50_000)[..30_000]);
            let mut buf = [0; 5000];
            span.read_at(20_000, &mut buf).expect("copy_to");
            assert!(buf == noise(1, 50_000)[20_000..25_000]);
            drop(waited);
        }),
        thread::spawn(move || {
            let content = noise(2, 20_000);
            let mut left = &content[..];
            for slice in stores.slices_mut() {
                slice.copy_from_slice(&left[..slice.len()]);
                left = &left[slice.len()..];
            }
            stores.check_intact().expect("all bytes exist");
        }),
    );
    one.join().expect("the reader");
    two.join().expect("the writer");
    let found = fs::read(directory.path().join("a")).expect("read");
    assert!(found[..30_000] == noise(1, 50_000)[..30_000]);
    assert!(found[30_000..] == noise(2, 20_000));
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "callers pass temporaries")]
fn assert_pinned(done: Result<(), GroupError>, file: &Path) {
    assert!(
        matches!(&done, Err(GroupError::File(MappingError::WindowPinned { path, .. })) if path == file),
        "{done:?}"
    );
}

#[test]
fn a_file_with_spans_is_not_closed_by_other_groups() {
    for copy_path in COPY_PATHS {
        let directory = one_file(1, 20_000);
        let elsewhere = support::temp_dir();
        let a = directory.path().join("a");
        put(&directory.path().join("0"), b"moved first");
        let cache = small_cache(16, copy_path);
        let group = writer(directory.path(), &cache);
        let builder = Group::builder(directory.path()).cache(&cache);
        let builder = builder.access(Access::ReadWrite);
        let builder = builder.existing_file("a").existing_file("0");
        let mut other = builder.open().expect("a group");
        other.write_all_at(15_000, &[3; 100]).expect("a write");

        let reading = group.span(..5000).expect("a span");
        let mut writing = group.span_mut(8000..13_000).expect("a span");
        for slice in writing.slices_mut() {
            slice.fill(5);
        }
        let mut expected = noise(1, 20_000);
        expected[8000..13_000].fill(5);
        expected[15_000..15_100].fill(3);

        assert_pinned(other.close_file(0), &a);
        assert_pinned(other.close_file_without_sync(0), &a);
        assert_pinned(other.move_files_to(elsewhere.path()), &a);
        assert_eq!(other.root(), directory.path());
        assert!(directory.path().join("0").exists(), "moved back");
        other.evict(..).expect("the unpinned range");
        cache.evict_idle(Duration::ZERO);
        assert_eq!(cache.stats().pinned_mappings, cache.stats().mappings);

        assert!(reading.slices().collect::<Vec<_>>().concat() == expected[..5000]);
        for slice in writing.slices_mut() {
            assert!(slice.iter().all(|byte| *byte == 5));
            slice.fill(6);
        }
        expected[8000..13_000].fill(6);
        writing.write_at(0, &[7; 10]).expect("copy_from");
        expected[8000..8010].fill(7);
        // The range locks still exist, and so does the other group.
        assert!(other.span_mut(4999..5000).is_err());
        assert!(other.span(8000..8001).is_err());
        drop((reading, writing));
        other.close_file(0).expect("no pin exists");
        assert!(fs::read(&a).expect("read") == expected);
        let mut buf = vec![0; 20_000];
        group.read_exact_at(0, &mut buf).expect("all bytes");
        assert!(buf == expected);
    }
}

#[test]
fn spans_are_unaffected_by_evictions_of_other_caches() {
    let directory = one_file(1, 20_000);
    let group = writer(directory.path(), &small_cache(16, CopyMethod::Mapped));
    let mut other = writer(directory.path(), &small_cache(16, CopyMethod::Mapped));
    let mut span = group.span_mut(..).expect("a span");
    let mut buf = [0];
    assert!(other.read_exact_at(0, &mut buf).is_err());
    other.close_file(0).expect("the range is not pinned");
    other
        .close_file_without_sync(0)
        .expect("the range is not pinned");
    assert!(
        other.read_exact_at(0, &mut buf).is_err(),
        "the range lock applies to a new handle of the file"
    );
    for slice in span.slices_mut() {
        slice.fill(4);
    }
    drop(other);
    drop(span);
    assert!(fs::read(directory.path().join("a")).expect("read") == [4; 20_000]);
}

#[test]
fn readers_and_writers_of_one_window_are_coherent() {
    let directory = one_file(1, 16 << 10);
    let cache = cache_of(16 << 10, 1 << 20, BudgetPolicy::AllowExceeding);
    let builder = Group::builder(directory.path())
        .cache(&cache)
        .existing_file("a");
    let reader = trusted(builder).open().expect("a group");
    let group = writer(directory.path(), &cache);
    let of_reader = reader.span(..4096).expect("a span");
    let of_writer = group.span(..4096).expect("a span");
    let mut writing = group.span_mut(8192..12_288).expect("beside them");
    let content = noise(2, 4096);
    let slice = writing.as_mut_slice().expect("one window");
    slice.copy_from_slice(&content);
    for span in [&of_reader, &of_writer] {
        assert!(span.as_slice().expect("one window") == &noise(1, 4096)[..]);
    }
    // In between, by copies and by the mapping that existed first.
    group.write_all_at(4096, &content).expect("a write");
    let between = reader.span(4096..8192).expect("a span");
    assert!(between.as_slice().expect("one window") == content);
    drop(writing);
    let written = reader.span(8192..12_288).expect("a span");
    assert!(written.as_slice().expect("one window") == content);
    drop((between, written));

    // The reverse order: readers arrive while the window is pinned for writing.
    let mut writing = group.span_mut(12_288..).expect("a span");
    let all = reader.span(..12_288).expect("a range beside it");
    writing.as_mut_slice().expect("one window").fill(8);
    assert!(all.as_slice().expect("one window")[8192..] == content);
    writing.write_at(0, &[9]).expect("copy_from");
    assert_eq!(
        writing.as_span().as_slice().expect("one window")[..2],
        [9, 8]
    );
    drop((all, writing, of_reader, of_writer));
    assert_eq!(cache.stats().pinned_mappings, 0);
    let found = fs::read(directory.path().join("a")).expect("read");
    assert!(found[4096..8192] == content && found[8192..12_288] == content);
    assert!(found[12_288] == 9 && found[12_289..].iter().all(|byte| *byte == 8));
}

#[test]
fn copies_and_slices_are_coherent() {
    for copy_path in COPY_PATHS {
        let directory = one_file(1, 20_000);
        let group = writer(directory.path(), &small_cache(2, copy_path));
        let other = writer(directory.path(), &small_cache(2, copy_path));
        for round in 0..20 {
            let content = noise(100 + round, 6000);
            let at = round * 700;
            let mut span = group.span_mut(at..at + 6000).expect("a span");
            if round % 2 == 0 {
                span.write_at(0, &content).expect("copy_from");
            } else {
                let mut left = &content[..];
                for slice in span.slices_mut() {
                    slice.copy_from_slice(&left[..slice.len()]);
                    left = &left[slice.len()..];
                }
            }
            assert!(span.as_span().slices().collect::<Vec<_>>().concat() == content);
            drop(span);
            let mut buf = vec![0; 6000];
            other.read_exact_at(at, &mut buf).expect("a read");
            assert!(buf == content, "{copy_path:?} {round}");
            other
                .write_all_at(at, &[round as u8; 6000])
                .expect("a write");
            let span = group.span(at..at + 6000).expect("a span");
            assert!(
                span.slices()
                    .all(|slice| slice.iter().all(|byte| *byte == round as u8))
            );
        }
    }
}

#[test]
fn i38_a_span_larger_than_the_budget_follows_the_policy() {
    const WINDOWS: usize = 10;
    let len = WINDOWS * WINDOW_BYTES as usize;
    let directory = one_file(1, len);
    let budget = 3 * WINDOW_BYTES;
    let cache = cache_of(WINDOW_BYTES as usize, budget, BudgetPolicy::AllowExceeding);
    let group = writer(directory.path(), &cache);
    let span = group.span(..).expect("the budget is exceeded");
    assert!(span.slices().collect::<Vec<_>>().concat() == noise(1, len));
    assert_eq!(cache.stats().pinned_mappings, WINDOWS);
    assert!(cache.stats().over_budget_mappings > 0);
    drop(span);
    assert!(
        cache.stats().mapped_bytes <= budget,
        "the excess is released at once"
    );
    let mut span = group.span_mut(..).expect("the budget is exceeded");
    span.slices_mut().for_each(|slice| slice.fill(2));
    drop(span);
    assert!(
        cache.stats().mapped_bytes <= budget,
        "the excess is released at once"
    );
    assert!(fs::read(directory.path().join("a")).expect("read") == vec![2; len]);

    let by_bytes = cache_of(WINDOW_BYTES as usize, budget, BudgetPolicy::Fail);
    let options = CacheOptions::default().window_bytes(WINDOW_BYTES as usize);
    let options = options.mappings_max(3).budget_policy(BudgetPolicy::Fail);
    let by_mappings = MappingCache::new(options).expect("a cache");
    for cache in [by_bytes, by_mappings] {
        let group = Arc::new(writer(directory.path(), &cache));
        let other = writer(directory.path(), &small_cache(64, CopyMethod::Mapped));
        let start = Instant::now();
        let refused = [
            group.span(..).map(drop),
            group.span_mut(..).map(drop),
            group.span_timeout(.., LONG).map(drop),
            group.span_mut_timeout(.., LONG).map(drop),
            group.owned_span_timeout(1.., LONG).map(drop),
            group.owned_span_mut_timeout(1.., LONG).map(drop),
        ];
        for refused in refused {
            assert!(
                matches!(
                    refused,
                    Err(GroupError::File(MappingError::BudgetExhausted { .. }))
                ),
                "{refused:?}"
            );
        }
        assert!(
            start.elapsed() < LONG / 2,
            "a span does not wait for the budget"
        );
        assert_eq!(
            (
                cache.stats().pinned_mappings,
                cache.stats().over_budget_mappings
            ),
            (0, 0)
        );
        drop(other.span_mut(..).expect("no range stays locked"));
        drop(group.span_mut(..budget).expect("as much as there is"));
        drop(group.span(len as u64 - budget..).expect("as much"));
        assert_eq!(cache.stats().mapped_bytes_max, budget);
    }
}

/// Two threads hold half of the budget each and repeatedly request the other half. Neither may wait
/// for it.
fn both_request_all(when_pinned: BudgetPolicy) -> Vec<Result<(), GroupError>> {
    let directory = one_file(1, 40 * WINDOW_BYTES as usize);
    let budget = 4 * WINDOW_BYTES;
    let cache = cache_of(WINDOW_BYTES as usize, budget, when_pinned);
    let group = writer(directory.path(), &cache);
    let barrier = Barrier::new(2);
    let results = thread::scope(|scope| {
        let threads = [0, 20].map(|first| {
            let (group, barrier) = (&group, &barrier);
            scope.spawn(move || {
                let window = |number: u64| {
                    let start = (first + number) * WINDOW_BYTES;
                    start..start + 2 * WINDOW_BYTES
                };
                (0..20)
                    .map(|_| {
                        let held = group.span_mut(window(0)).expect("its half");
                        barrier.wait();
                        let more = group.span_mut_timeout(window(4), LONG);
                        barrier.wait();
                        let more = more.map(drop);
                        drop(held);
                        barrier.wait();
                        more
                    })
                    .collect::<Vec<_>>()
            })
        });
        threads.map(|thread| thread.join().expect("a thread"))
    });
    assert_eq!(cache.stats().pinned_mappings, 0);
    assert!(cache.stats().mapped_bytes <= budget);
    results.into_iter().flatten().collect()
}

#[test]
fn i38_spans_never_wait_for_the_budget() {
    let start = Instant::now();
    for result in both_request_all(BudgetPolicy::AllowExceeding) {
        result.expect("the budget is exceeded");
    }
    for result in both_request_all(BudgetPolicy::Fail) {
        assert!(
            matches!(
                result,
                Err(GroupError::File(MappingError::BudgetExhausted { .. }))
            ),
            "{result:?}"
        );
    }
    assert!(start.elapsed() < LONG / 2);
}

#[test]
fn i38_copies_work_while_spans_pin_the_budget() {
    let directory = one_file(1, 20 * WINDOW_BYTES as usize);
    for copy_path in COPY_PATHS {
        let options = CacheOptions::default()
            .window_bytes(WINDOW_BYTES as usize)
            .budget_bytes(2 * WINDOW_BYTES)
            .budget_policy(BudgetPolicy::Fail)
            .copy_method(copy_path);
        let cache = MappingCache::new(options).expect("a cache");
        let group = writer(directory.path(), &cache);
        let held = group.span(..2 * WINDOW_BYTES).expect("all of the budget");
        let mut buf = vec![0; 5 * WINDOW_BYTES as usize];
        // Copies through mappings may be refused. They neither wait nor harm the span.
        let copied = group.read_exact_at(5 * WINDOW_BYTES, &mut buf);
        if copy_path == CopyMethod::Mapped {
            drop(copied);
        } else {
            copied.expect("copied by the kernel");
            assert!(buf == noise(1, 20 * WINDOW_BYTES as usize)[5 * 4096..10 * 4096]);
        }
        assert!(
            held.slices().collect::<Vec<_>>().concat()
                == noise(1, 20 * WINDOW_BYTES as usize)[..2 * 4096]
        );
        assert_eq!(cache.stats().pinned_mappings, 2);
    }
}

#[test]
fn bytes_past_the_end_of_a_file_are_never_in_a_span() {
    // Both ends are in one page, and the file was longer before.
    let directory = one_file(1, 4096);
    let path = directory.path().join("a");
    let file = File::options().write(true).open(&path).expect("open");
    file.set_len(100).expect("the file is truncated");
    let group = writer(directory.path(), &small_cache(4, CopyMethod::Auto));
    assert_eq!(group.len(), 100);
    let mut span = group.span_mut(..).expect("a span");
    assert_eq!(span.as_mut_slice().expect("one window").len(), 100);
    drop(span);
    let builder = Group::builder(directory.path()).file_range("a", 50..200);
    let beyond = trusted(builder).open().expect("a group");
    assert_eq!(short_file(beyond.span(..).unwrap_err()), (path, 200, 100));
    assert_eq!(beyond.span(..50).expect("the existing bytes").len(), 50);
}

#[test]
fn guards_have_readable_debug_output() {
    let directory = one_file(1, 10_000);
    let group = Arc::new(writer(directory.path(), &small_cache(4, CopyMethod::Auto)));
    let one = group.owned_span(1..5).expect("a span");
    let two = group.owned_span_mut(7..9).expect("a span");
    assert_eq!(format!("{one:?}"), "Span { range: 1..5, .. }");
    assert_eq!(format!("{two:?}"), "SpanMut { range: 7..9, .. }");
}
