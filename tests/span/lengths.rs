//! Lengths and reservations of a file hold for all groups and caches of the process.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use flatspan::{
    mapping_cache::{
        Access, CacheOptions, MappingCache, MappingError, Preallocation, PreallocationStatus,
        install_sigbus_handler,
    },
    span::{Group, GroupError},
};

use crate::support::filesystem::{Kind, SmallFs};

const BYTES: u64 = 1 << 20;
const SHORT: u64 = 4096;
const FAR: u64 = 512 << 10;

fn group(root: &Path, preallocation: Preallocation) -> Group {
    let options = CacheOptions::default()
        .window_bytes(64 << 10)
        .budget_bytes(1 << 20);
    let builder = Group::builder(root)
        .cache(&MappingCache::new(options).expect("a cache"))
        .access(Access::ReadWrite)
        .create(true)
        .preallocation(preallocation)
        .file("a", BYTES);
    // SAFETY: only this test uses the file.
    #[expect(unsafe_code, reason = "slices of a file of this test")]
    let builder = unsafe { builder.assume_exclusive() };
    builder.open().expect("a group")
}

fn fill(group: &Group) {
    let bytes = vec![7; BYTES as usize];
    group.write_all_at(0, &bytes).expect("a write");
}

#[track_caller]
fn assert_too_short<T: std::fmt::Debug>(result: &Result<T, GroupError>) {
    assert!(
        matches!(
            result,
            Err(GroupError::File(MappingError::FileTooShort { .. }))
        ),
        "{result:?}"
    );
}

#[test]
fn a_span_past_the_end_is_refused_after_another_cache_truncated_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = group(directory.path(), Preallocation::Sparse);
    let second = group(directory.path(), Preallocation::Sparse);
    fill(&first);
    drop(first.span(FAR..FAR + 100).expect("a span"));
    second.set_file_len(0, SHORT).expect("truncated");
    assert_too_short(&first.span(FAR..FAR + 100));
    // A write in the other cache extends the file for this one.
    second.write_all_at(FAR, &[9; 100]).expect("a write");
    let span = first.span(FAR..FAR + 100).expect("a span");
    assert_eq!(span.as_slice(), Some(&[9; 100][..]));
}

#[test]
fn a_span_past_the_end_is_refused_after_a_new_state_truncated_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = MappingCache::new(CacheOptions::default()).expect("a cache");
    let open = || {
        Group::builder(directory.path())
            .cache(&cache)
            .access(Access::ReadWrite)
            .create(true)
            .file("a", BYTES)
            .open()
            .expect("a group")
    };
    let (first, mut second) = (open(), open());
    fill(&first);
    drop(first.span(FAR..FAR + 100).expect("a span"));
    second.read_exact_at(0, &mut [0; 1]).expect("a read");
    drop(first.evict(..));
    second.close_file_without_sync(0).expect("closed");
    second.set_file_len(0, SHORT).expect("truncated");
    assert_too_short(&first.span(FAR..FAR + 100));
}

#[test]
fn a_span_for_writing_extends_a_file_that_was_truncated_under_its_mapping() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = group(directory.path(), Preallocation::Sparse);
    let second = group(directory.path(), Preallocation::Sparse);
    fill(&first);
    // The window stays mapped for writing in the first cache.
    drop(first.span_mut(FAR..FAR + 100).expect("a span"));
    second.set_file_len(0, SHORT).expect("truncated");
    let mut span = first.span_mut(FAR..FAR + 100).expect("a span");
    span.as_mut_slice().expect("one window").fill(5);
    drop(span);
    let mut found = [0; 101];
    second.read_exact_at(FAR, &mut found).expect("a read");
    assert!(found[..100] == [5; 100] && found[100] == 0);
}

#[test]
fn regrown_ranges_have_spans_while_another_span_of_the_file_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let group = group(directory.path(), Preallocation::Sparse);
    fill(&group);
    let kept = group.span(0..100).expect("a span");
    drop(group.span(FAR..FAR + 100).expect("a span"));
    group.set_file_len(0, 128 << 10).expect("truncated");
    assert_too_short(&group.span(FAR..FAR + 100));
    group.set_file_len(0, BYTES).expect("extended");
    let span = group.span(FAR..FAR + 100).expect("a span");
    assert_eq!(span.as_slice(), Some(&[0; 100][..]));
    assert_eq!(kept.as_slice(), Some(&[7; 100][..]));
}

/// Without the SIGBUS handler, a fault would kill the process.
#[test]
fn spans_beside_truncations_never_reach_past_the_end() {
    install_sigbus_handler().expect("a handler");
    let directory = tempfile::tempdir().expect("a directory");
    let group = group(directory.path(), Preallocation::Sparse);
    fill(&group);
    let (ended, granted) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let enough = |rounds| rounds >= 3000 && granted.load(Ordering::Relaxed) > 0;
            for _ in (0..1_000_000).take_while(|rounds| !enough(*rounds)) {
                for bytes in [SHORT, BYTES] {
                    match group.set_file_len(0, bytes) {
                        Ok(())
                        | Err(GroupError::File(
                            MappingError::RangeLocked { .. } | MappingError::WindowPinned { .. },
                        )) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        while !ended.load(Ordering::Relaxed) {
            let Ok(span) = group.span(FAR..FAR + 100) else {
                continue;
            };
            granted.fetch_add(1, Ordering::Relaxed);
            let slice = span.as_slice().expect("one window");
            assert!(slice.iter().all(|byte| matches!(byte, 0 | 7)));
            span.check_intact().expect("no page past the end");
        }
    });
    assert!(
        granted.into_inner() > 0,
        "a span was granted beside the truncations"
    );
}

#[test]
fn discarding_and_cloning_in_another_cache_end_the_reservation() {
    let directory = tempfile::tempdir().expect("a directory");
    let status = |group: &Group| group.preallocation_status(0).expect("a file");
    let first = group(directory.path(), Preallocation::Full);
    fill(&first);
    if status(&first) != PreallocationStatus::Reserved {
        return; // This filesystem promises nothing that could end.
    }
    let second = group(directory.path(), Preallocation::Full);
    second.discard(0..SHORT).expect("discarded");
    assert_ne!(status(&first), PreallocationStatus::Reserved);
    fill(&first);
    assert_eq!(status(&first), PreallocationStatus::Reserved);

    let target = Group::builder(directory.path())
        .access(Access::ReadWrite)
        .create(true)
        .file("b", BYTES)
        .open()
        .expect("a group");
    fill(&target);
    second.clone_range(.., &target, 0).expect("cloned");
    assert_ne!(
        status(&first),
        PreallocationStatus::Reserved,
        "the source shares its storage, too"
    );
}

#[test]
fn a_failed_reservation_keeps_what_earlier_ones_reserved() {
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Tmpfs] {
        let Some(fs) = SmallFs::new(kind, kind.bytes_min().max(64 << 20)) else {
            continue;
        };
        let group = Group::builder(fs.path())
            .access(Access::ReadWrite)
            .create(true)
            .preallocation(Preallocation::Sparse)
            .file("a", 1 << 40)
            .open()
            .expect("a group");
        group.write_all_at(0, &[1; 100]).expect("a write");
        group.reserve(0..4 << 20).expect("reserved");
        let refused = group.reserve(4 << 20..1 << 40);
        assert!(
            matches!(
                refused,
                Err(GroupError::File(MappingError::StorageFull { .. }))
            ),
            "{kind:?}: {refused:?}"
        );
        let allocated = group.allocated_bytes(0).expect("a file");
        assert!(
            (4 << 20..8 << 20).contains(&allocated),
            "{kind:?}: {allocated} bytes are allocated"
        );
        assert_eq!(group.actual_bytes(0).expect("a file"), 100, "{kind:?}");
    }
}

#[test]
fn holes_on_a_full_tmpfs_are_readable_by_every_safe_method() {
    let Some(fs) = SmallFs::new(Kind::Tmpfs, 4 << 20) else {
        return;
    };
    let group = std::sync::Arc::new(group(fs.path(), Preallocation::Sparse));
    group.set_file_len(0, BYTES).expect("a hole");
    fs.fill_leaving(0);
    let mut found = [1; 100];
    group.read_exact_at(FAR, &mut found).expect("a read");
    assert_eq!(found, [0; 100]);

    let span = group.owned_span(FAR..FAR + 10_000).expect("a span");
    span.read_at(0, &mut found).expect("a read");
    let (mut near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
    span.write_all_to(&far).expect("sent");
    drop(far);
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut near, &mut received).expect("received");
    assert_eq!(received, [0; 10_000]);
    let populated = span.populate();
    assert!(
        matches!(
            populated,
            Err(GroupError::File(MappingError::StorageFull { .. }))
        ),
        "nothing was lost: {populated:?}"
    );
}
