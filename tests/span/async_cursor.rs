//! The cursor for tokio's traits.

use std::{io::SeekFrom, path::Path, sync::Arc};

use flatspan::{
    mapping_cache::{Access, MappingError},
    span::{AsyncCursor, Group, GroupError},
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::{building::creating, content::noise, support};

const BYTES: usize = 700_000;

fn group(root: &Path) -> Arc<Group> {
    let group = creating(root).file("a", 300_000).file("b", 400_000).open();
    Arc::new(group.expect("a group"))
}

#[tokio::test]
async fn everything_written_is_read_again() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let content = noise(1, BYTES);
    let mut cursor = AsyncCursor::new(Arc::clone(&group));
    cursor.write_all(&content).await.expect("room");
    cursor.flush().await.expect("no error");
    assert_eq!(cursor.position(), BYTES as u64);
    let refused = cursor.write_all(b"more").await.expect_err("the end");
    assert_eq!(refused.kind(), std::io::ErrorKind::WriteZero);

    let mut found = vec![0; BYTES];
    group.read_exact_at(0, &mut found).expect("flushed");
    assert!(found == content);
    cursor.rewind().await.expect("a seek");
    let mut found = Vec::new();
    cursor.read_to_end(&mut found).await.expect("all of it");
    assert!(found == content);
    assert_eq!(cursor.read(&mut [0; 10]).await.expect("the end"), 0);
}

#[tokio::test]
async fn seeks_reads_and_writes_may_alternate() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let mut expected = noise(2, BYTES);
    group.write_all_at(0, &expected).expect("room");
    let mut cursor = AsyncCursor::new(group);
    for step in 0..40_usize {
        let start = step * 16_411 % (BYTES - 5_000);
        let position = cursor.seek(SeekFrom::Start(start as u64)).await;
        assert_eq!(position.expect("a seek"), start as u64);
        let mut found = vec![0; 3_000];
        cursor.read_exact(&mut found).await.expect("inside");
        assert!(found == expected[start..start + 3_000], "step {step}");
        // Without a flush: a read waits for the write before it.
        let bytes = noise(step as u64 + 10, 1_000);
        cursor.write_all(&bytes).await.expect("inside");
        expected[start + 3_000..start + 4_000].copy_from_slice(&bytes);
        cursor.seek(SeekFrom::Current(-500)).await.expect("a seek");
        let mut found = vec![0; 600];
        cursor.read_exact(&mut found).await.expect("inside");
        assert!(
            found == expected[start + 3_500..start + 4_100],
            "step {step}"
        );
    }
    let end = cursor.seek(SeekFrom::End(-1)).await.expect("a seek");
    assert_eq!(end, BYTES as u64 - 1);
    let before = cursor.seek(SeekFrom::End(-1 - BYTES as i64)).await;
    assert_eq!(
        before.expect_err("before the start").kind(),
        std::io::ErrorKind::InvalidInput
    );
    assert_eq!(cursor.position(), end, "unchanged by the error");
}

#[tokio::test]
async fn a_failed_write_is_reported_by_the_flush_and_moves_back() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    group.write_all_at(0, &noise(3, BYTES)).expect("room");
    let span = group.span(100..200).expect("free");
    let mut cursor = AsyncCursor::new(Arc::clone(&group));
    cursor.seek(SeekFrom::Start(150)).await.expect("a seek");
    assert_eq!(cursor.write(&[0; 100]).await.expect("buffered"), 100);
    let error = cursor.flush().await.expect_err("a span holds the range");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert!(
        matches!(
            inner,
            Some(GroupError::File(MappingError::RangeLocked { .. }))
        ),
        "{error:?}"
    );
    assert_eq!(cursor.position(), 150);
    drop(span);
    cursor.write_all(&[0; 100]).await.expect("free");
    cursor.shutdown().await.expect("no error");
    assert_eq!(cursor.position(), 250);
}

#[tokio::test]
async fn a_read_whose_future_is_dropped_loses_no_bytes() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let content = noise(4, BYTES);
    group.write_all_at(0, &content).expect("room");
    let mut cursor = AsyncCursor::new(group);
    let mut found = Vec::new();
    let mut buf = [0; 8_192];
    while found.len() < BYTES {
        // Polls the read once, and drops it if it has to wait.
        let polled = tokio::select! {
            biased;
            read = cursor.read(&mut buf) => Some(read.expect("inside")),
            () = tokio::task::yield_now() => None,
        };
        if let Some(len) = polled {
            found.extend_from_slice(&buf[..len]);
        }
    }
    assert!(found == content);
}

#[tokio::test]
async fn a_read_only_group_refuses_writes() {
    let directory = support::temp_dir();
    std::fs::write(directory.path().join("a"), b"abc").expect("a file");
    let group = Group::builder(directory.path())
        .access(Access::ReadOnly)
        .existing_file("a")
        .open();
    let mut cursor = AsyncCursor::new(Arc::new(group.expect("a group")));
    cursor.write_all(b"x").await.expect("buffered");
    assert!(cursor.flush().await.is_err());
    let mut found = String::new();
    cursor.read_to_string(&mut found).await.expect("a read");
    assert_eq!(found, "abc");
}
