//! Spans on a tokio runtime.

use std::{path::Path, sync::Arc, time::Duration};

use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingError},
    span::{Group, GroupError, PieceAssembler, Pieces, Sha1},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use crate::{
    content::{noise, small_cache},
    support,
};

const BYTES: usize = 300_000;

fn group(root: &Path) -> Arc<Group> {
    let group = Group::builder(root)
        .cache(&small_cache(64, CopyMethod::Auto))
        .access(Access::ReadWrite)
        .create(true)
        .file("a", BYTES as u64 / 3)
        .file("b", BYTES as u64 - BYTES as u64 / 3)
        .open()
        .expect("a group");
    group
        .write_all_at(0, &noise(1, BYTES))
        .expect("the buffer has room");
    Arc::new(group)
}

#[tokio::test]
async fn spans_are_sent_and_received() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let span = group.owned_span_async(..).await.expect("the range is free");
    let sending = tokio::spawn(async move {
        span.write_all_to_async(&ours).await.expect("a peer");
        ours
    });
    let mut found = vec![0; BYTES];
    theirs
        .read_exact(&mut found)
        .await
        .expect("the whole range");
    assert!(found == noise(1, BYTES));
    let ours = sending.await.expect("the thread does not panic");

    let mut span = group
        .owned_span_mut_async(1_000..)
        .await
        .expect("the range is free");
    let content = noise(2, BYTES - 1_000);
    let sending = content.clone();
    let peer = tokio::spawn(async move {
        theirs.write_all(&sending).await.expect("a peer");
    });
    span.read_exact_from_async(&ours)
        .await
        .expect("the whole range");
    peer.await.expect("the thread does not panic");
    // Hashed in the place where it arrived.
    let pieces = Pieces::new(&group, BYTES as u64).expect("pieces");
    let mut piece = PieceAssembler::<Sha1>::new(&pieces, 0).expect("a piece");
    piece.push_span(&span).expect("in the piece");
    drop(span);
    piece
        .push_block(0, &noise(1, BYTES)[..1_000])
        .expect("in the piece");
    assert_eq!(
        piece.finish().expect("complete"),
        pieces.hash(0).expect("the range is free")
    );
    let read = group.read_exact_async(..).await.expect("the range is free");
    assert!(read[1_000..] == content);
}

#[tokio::test]
async fn a_dropped_future_receives_nothing_and_unlocks_the_range() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let mut span = group
        .owned_span_mut_async(..10)
        .await
        .expect("the range is free");
    let soon = Duration::from_millis(20);
    let dropped = timeout(soon, span.read_from_async(0, &ours)).await;
    assert!(dropped.is_err(), "nothing was sent");
    theirs.write_all(&[7; 10]).await.expect("a peer");
    assert_eq!(span.read_from_async(0, &ours).await.expect("ten"), 10);
    drop(span);
    let busy = group.span_mut(..10);
    assert!(busy.is_ok(), "{busy:?}");
}

#[tokio::test]
async fn a_closed_peer_is_an_error_with_the_transferred_bytes() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    theirs.write_all(&[7; 10]).await.expect("a peer");
    drop(theirs);
    let mut span = group
        .owned_span_mut_async(..100)
        .await
        .expect("the range is free");
    let ended = span.read_exact_from_async(&ours).await;
    assert!(
        matches!(&ended, Err(GroupError::Transfer { transferred_bytes: 10, source })
            if source.kind() == std::io::ErrorKind::UnexpectedEof),
        "{ended:?}"
    );
    let refused = group.owned_span_async(..10).await;
    assert!(
        matches!(
            &refused,
            Err(GroupError::File(MappingError::RangeLocked { .. }))
        ),
        "{refused:?}"
    );
}

#[test]
fn a_runtime_shutdown_leaves_no_range_locked() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (ours, theirs) = {
        let _guard = runtime.enter();
        UnixStream::pair().expect("a pair")
    };
    let (receiver, writer) = (Arc::clone(&group), Arc::clone(&group));
    runtime.spawn(async move {
        let mut span = receiver
            .owned_span_mut_async(..1_000)
            .await
            .expect("the range is free");
        // The peer never sends.
        span.read_exact_from_async(&ours).await.ok();
    });
    for _ in 0..50 {
        let writer = Arc::clone(&writer);
        runtime.spawn(async move {
            let span = writer.owned_span_async(2_000..).await;
            drop(span);
        });
    }
    std::thread::sleep(Duration::from_millis(30));
    runtime.shutdown_timeout(Duration::from_secs(10));
    drop(theirs);
    drop(group.span_mut(..).expect("no range is locked"));
}
