//! Ranges of a group as a stream of bytes and as an HTTP body.

use std::{
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingError},
    span::{Group, GroupError, SpanStream},
};

use crate::{
    content::{noise, small_cache},
    support,
};

const FILE_BYTES: usize = 500_000;
const CHUNK_BYTES: usize = 4_096;

/// A file, padding and a file; and the content of the group.
fn group(root: &Path, allow_slices: bool) -> (Arc<Group>, Vec<u8>) {
    let mut content = noise(5, 2 * FILE_BYTES);
    std::fs::write(root.join("a"), &content[..FILE_BYTES]).expect("a file");
    std::fs::write(root.join("b"), &content[FILE_BYTES..]).expect("a file");
    let rest = content.split_off(FILE_BYTES);
    content.resize(FILE_BYTES + 10_000, 0);
    content.extend_from_slice(&rest);
    let mut builder = Group::builder(root)
        .cache(&small_cache(8, CopyMethod::Auto))
        .access(Access::ReadWrite)
        .file("a", FILE_BYTES as u64)
        .padding(10_000)
        .file("b", FILE_BYTES as u64);
    if allow_slices {
        #[expect(unsafe_code, reason = "the directory is this test's own")]
        // SAFETY: nothing else uses the directory.
        let trusted = unsafe { builder.assume_exclusive() };
        builder = trusted;
    }
    (Arc::new(builder.open().expect("a group")), content)
}

fn is_locked(group: &Group, range: std::ops::Range<u64>) -> bool {
    let refused = group.span_mut(range);
    matches!(
        refused,
        Err(GroupError::File(MappingError::RangeLocked { .. }))
    )
}

#[cfg(feature = "stream")]
mod stream {
    use futures_core::Stream as _;

    use super::*;

    /// Polls without a runtime, where every poll is ready.
    fn next(stream: &mut SpanStream) -> Option<Result<Bytes, GroupError>> {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(stream).poll_next(&mut cx) {
            Poll::Ready(item) => item,
            Poll::Pending => panic!("pending without a runtime"),
        }
    }

    #[test]
    fn a_stream_returns_the_range_and_its_exact_number_of_chunks() {
        for allow_slices in [false, true] {
            let directory = support::temp_dir();
            let (group, content) = group(directory.path(), allow_slices);
            for range in [
                0..content.len(),
                1..2,
                4_000..20_000,
                499_000..520_001,
                7..7,
            ] {
                let bounds = range.start as u64..range.end as u64;
                let mut stream = group.stream(bounds).expect("inside");
                stream = stream.chunk_bytes(CHUNK_BYTES);
                let chunks = stream.size_hint().1.expect("an upper bound");
                let mut found = Vec::new();
                let mut count = 0;
                while let Some(chunk) = next(&mut stream) {
                    let chunk = chunk.expect("a chunk");
                    assert!(!chunk.is_empty() && chunk.len() <= CHUNK_BYTES);
                    found.extend_from_slice(&chunk);
                    count += 1;
                    assert_eq!(stream.size_hint().1, Some(chunks - count));
                }
                assert!(found == content[range]);
                assert_eq!((count, stream.size_hint()), (chunks, (0, Some(0))));
            }
        }
    }

    #[test]
    fn i33_a_stream_locks_only_the_chunks_that_are_kept() {
        let directory = support::temp_dir();
        let (group, content) = group(directory.path(), true);
        let mut stream = group.stream(..).expect("inside").chunk_bytes(CHUNK_BYTES);
        let kept = next(&mut stream).expect("a chunk").expect("no error");
        assert!(is_locked(&group, 0..1), "the chunk is not copied");
        assert!(!is_locked(&group, CHUNK_BYTES as u64..8_192), "not reached");
        let second = next(&mut stream).expect("a chunk").expect("no error");
        assert!(is_locked(&group, 4_096..4_097));
        drop(second);
        assert!(!is_locked(&group, 4_096..4_097), "released with its bytes");
        assert!(kept[..] == content[..CHUNK_BYTES]);
        drop((kept, stream));
        assert!(!is_locked(&group, 0..content.len() as u64 - 510_000));
    }

    #[test]
    fn i34_without_the_promise_chunks_are_copies_without_locks() {
        let directory = support::temp_dir();
        let (group, content) = group(directory.path(), false);
        let span = group.owned_span(..200_000).expect("free");
        assert!(is_locked(&group, 0..1));
        let mut stream = span.into_stream();
        assert_eq!(stream.remaining_bytes(), 200_000);
        assert!(!is_locked(&group, 0..1), "the span is released");
        let chunk = next(&mut stream).expect("a chunk").expect("no error");
        assert!(!is_locked(&group, 0..1), "a copy holds no lock");
        assert!(chunk[..] == content[..chunk.len()]);
        assert_eq!(group.stats().pinned_mappings, 0);
    }

    #[test]
    fn a_locked_chunk_is_an_error_that_ends_the_stream() {
        let directory = support::temp_dir();
        let (group, _) = group(directory.path(), false);
        let writing = group.span_mut(5_000..5_001).expect("free");
        let mut stream = group.stream(..).expect("inside").chunk_bytes(CHUNK_BYTES);
        assert!(next(&mut stream).expect("the first chunk").is_ok());
        let locked = next(&mut stream).expect("an item");
        assert!(
            matches!(
                locked,
                Err(GroupError::File(MappingError::RangeLocked { .. }))
            ),
            "{locked:?}"
        );
        assert!(next(&mut stream).is_none());
        drop(writing);
        assert!(next(&mut stream).is_none());
        assert!(group.stream(1_000_000_000..).is_err());
    }

    #[cfg(feature = "tokio")]
    #[tokio::test]
    async fn on_a_runtime_the_content_is_the_same() {
        use futures_util::TryStreamExt as _;

        for allow_slices in [false, true] {
            let directory = support::temp_dir();
            let (group, content) = group(directory.path(), allow_slices);
            let stream = group.stream(100..).expect("inside");
            let chunks: Vec<Bytes> = stream.try_collect().await.expect("no error");
            assert!(chunks.concat() == content[100..]);
            // Truncated: an error that names the file.
            drop(chunks);
            if !allow_slices {
                std::fs::write(directory.path().join("b"), b"short").expect("a file");
                let stream = group.stream(..).expect("inside");
                let short = stream.try_collect::<Vec<_>>().await.expect_err("short");
                assert!(
                    matches!(&short, GroupError::File(MappingError::FileTooShort { .. })),
                    "{short:?}"
                );
            }
        }
    }
}

#[cfg(all(feature = "http-body", feature = "tokio"))]
mod body {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_has_an_exact_length_and_the_content() {
        for allow_slices in [false, true] {
            let directory = support::temp_dir();
            let (group, content) = group(directory.path(), allow_slices);
            let mut body = group.stream(10..600_000).expect("inside");
            assert_eq!(body.size_hint().exact(), Some(599_990));
            assert!(!body.is_end_stream());
            let frame = body.frame().await.expect("a frame").expect("no error");
            let first = frame.into_data().expect("data");
            let rest = 599_990 - first.len() as u64;
            assert_eq!(body.size_hint().exact(), Some(rest));
            let collected = body.collect().await.expect("no error").to_bytes();
            assert_eq!(collected.len() as u64, rest);
            assert!([first, collected].concat() == content[10..600_000]);
        }
        let directory = support::temp_dir();
        let (group, _) = group(directory.path(), false);
        let empty = group.stream(5..5).expect("inside");
        assert!(empty.is_end_stream());
        assert_eq!(empty.size_hint().exact(), Some(0));
    }

    #[test]
    fn a_body_can_be_sent_to_other_threads() {
        fn assert_send<T: Send + Sync + Unpin + 'static>() {}
        assert_send::<SpanStream>();
    }
}
