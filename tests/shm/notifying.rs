//! `Notify` on both kinds of sockets.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use flatspan::shm::{Memfd, Notify, ShmError};

use crate::inherited_fds::path_of;
use crate::manager::Manager;

fn assert_all_messages(mut manager: Manager) {
    let notify = Notify::to_socket(&manager.address).expect("an address");
    assert!(notify.is_enabled());
    notify.ready().expect("the bytes are sent");
    notify
        .status("half\ndone\u{7}")
        .expect("the bytes are sent");
    notify.watchdog().expect("the bytes are sent");
    notify.main_pid(12).expect("the bytes are sent");
    notify.stopping().expect("the bytes are sent");
    while manager.hear() {}
    let said = [
        "READY=1",
        "STATUS=half done ",
        "WATCHDOG=1",
        "MAINPID=12",
        "STOPPING=1",
    ];
    assert_eq!(manager.heard, said);

    let memory = Memfd::create("kept", 0).expect("a memfd");
    let other = Memfd::create("other", 0).expect("a memfd");
    notify
        .store_fds("MEMORY", &[memory.as_fd(), other.as_fd()])
        .expect("the bytes are sent");
    while manager.hear() {}
    assert_eq!(manager.heard[5], "FDSTORE=1\nFDNAME=MEMORY\nFDPOLL=0");
    let inode = |path| fs::metadata(path).expect("open").ino();
    let kept: Vec<u64> = manager
        .kept("MEMORY")
        .into_iter()
        .map(|fd| inode(path_of(fd)))
        .collect();
    assert_eq!(kept, [inode(path_of(&memory)), inode(path_of(&other))]);
    notify.remove_fds("MEMORY").expect("the bytes are sent");
    while manager.hear() {}
    assert_eq!(manager.heard[6], "FDSTOREREMOVE=1\nFDNAME=MEMORY");
    assert!(manager.kept("MEMORY").is_empty());
}

#[test]
fn messages_reach_a_path_socket() {
    assert_all_messages(Manager::on_a_path());
}

#[test]
fn messages_reach_an_abstract_socket() {
    assert_all_messages(Manager::on_an_abstract_name());
}

#[test]
fn a_barrier_ends_with_the_answer_or_the_timeout() {
    let mut manager = Manager::on_a_path();
    let notify = Notify::to_socket(&manager.address).expect("an address");
    assert!(
        !notify
            .barrier(Duration::from_millis(50))
            .expect("the bytes are sent"),
        "no process listens"
    );
    let waiting = std::thread::spawn(move || notify.barrier(Duration::from_secs(60)));
    manager.hear_until(|manager| manager.heard.len() == 2);
    assert_eq!(manager.heard, ["BARRIER=1", "BARRIER=1"]);
    assert!(
        waiting
            .join()
            .expect("the thread does not panic")
            .expect("the bytes are sent")
    );
}

/// No process reads: the socket's queue is full after some messages. The next message is an error,
/// not an endless wait.
#[test]
fn an_unread_socket_is_an_error_not_a_hang() {
    let manager = Manager::on_an_abstract_name();
    let notify = Notify::to_socket(&manager.address).expect("an address");
    let refused = (0..100_000)
        .find_map(|_| notify.ready().err())
        .expect("a full queue");
    assert!(matches!(&refused, ShmError::Notify { socket, .. } if *socket == manager.address));
    assert!(
        matches!(
            refused.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ),
        "{refused}"
    );
}

#[test]
fn errors_name_the_socket_and_the_message() {
    let gone = Manager::on_a_path().address;
    let refused = Notify::to_socket(&gone)
        .expect("an address")
        .status("x")
        .expect_err("no socket exists");
    let text = refused.to_string();
    assert!(text.contains(&gone) && text.contains("STATUS=x"), "{text}");
    assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    for name in ["", "a:b", "a\nFDSTOREREMOVE=1", r"a\"] {
        let notify = Notify::disabled();
        assert!(
            matches!(
                notify.store_fds(name, &[]),
                Err(ShmError::InvalidFdName { .. })
            ),
            "{name}"
        );
        assert!(
            matches!(notify.remove_fds(name), Err(ShmError::InvalidFdName { .. })),
            "{name}"
        );
    }
}
