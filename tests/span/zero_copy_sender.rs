//! Sending without a copy in the kernel.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
    time::Duration,
};

use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingError},
    span::{Group, GroupError, ZeroCopySender},
};

use crate::{
    content::{noise, small_cache},
    support,
};

const BYTES: usize = 1 << 20;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let ours = TcpStream::connect(address).expect("it listens");
    (ours, listener.accept().expect("a peer").0)
}

#[test]
fn i39_zero_copy_sends_keep_the_range_locked_until_completion() {
    let directory = support::temp_dir();
    let group = Group::builder(directory.path())
        .cache(&small_cache(1024, CopyMethod::Auto))
        .access(Access::ReadWrite)
        .create(true)
        .file("a", BYTES as u64 / 2)
        .padding(100_000)
        .file("b", BYTES as u64 / 2)
        .open()
        .expect("a group");
    let content = noise(1, BYTES / 2);
    group
        .write_all_at(0, &content)
        .expect("the buffer has room");
    group
        .write_all_at(BYTES as u64 / 2 + 100_000, &content)
        .expect("the buffer has room");
    let group = Arc::new(group);
    let (ours, mut theirs) = pair();
    let mut sender = ZeroCopySender::new(ours).expect("TCP can");
    let sending = {
        let group = Arc::clone(&group);
        thread::spawn(move || {
            sender
                .send(group.owned_span(..).expect("the range is free"))
                .expect("a peer");
            sender
        })
    };
    // The peer has read nothing yet, and there is more than the socket buffer holds.
    thread::sleep(Duration::from_millis(50));
    let refused = group.span_mut(..1);
    assert!(
        matches!(
            &refused,
            Err(GroupError::File(MappingError::RangeLocked { .. }))
        ),
        "{refused:?}"
    );
    let mut found = vec![0; BYTES + 100_000];
    theirs.read_exact(&mut found).expect("the whole range");
    assert!(found[..BYTES / 2] == content);
    assert!(found[BYTES / 2..][..100_000].iter().all(|byte| *byte == 0));
    assert!(found[BYTES / 2 + 100_000..] == content);
    let mut sender = sending.join().expect("the thread does not panic");
    sender
        .flush_timeout(Duration::from_secs(10))
        .expect("the peer has received all of it");
    // The loopback device copies in the end, and reports it.
    assert!(sender.copied_sends() > 0);
    drop(group.span_mut(..BYTES as u64 / 2).expect("given back"));
}

#[test]
fn sockets_without_zero_copy_support_are_an_error() {
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let refused = ZeroCopySender::new(ours);
    assert!(refused.is_err(), "{refused:?}");
}
