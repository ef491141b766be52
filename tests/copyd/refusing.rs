//! Requests that the server refuses with a reply, after which the connection continues.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{BUSY, DONE, FILE, Files, PUT, RANGE, SYNC, Server};
use crate::support;

const BLOCK: [u8; 16 << 10] = [7; 16 << 10];

fn text(reply: &(u8, Vec<u8>)) -> String {
    String::from_utf8(reply.1.clone()).expect("a text")
}

#[test]
fn a_put_past_the_end_is_refused_and_its_payload_is_discarded() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 50_000,
        count: 2,
    };
    let server = Server::start(&files, &["--receive"]);
    let mut peer = server.connect();
    for offset in [100_000 - 16_383, 100_000, u64::MAX - 16_384, u64::MAX] {
        let reply = peer.put(offset, &BLOCK);
        assert_eq!(reply.0, RANGE, "{}", text(&reply));
        let reply = peer.get(offset, 16 << 10);
        assert_eq!(reply.0, RANGE, "{}", text(&reply));
    }
    assert_eq!(peer.put(100_000 - 16_384, &BLOCK), (DONE, vec![]));
    assert_eq!(peer.get(100_000 - 16_384, 16_384), (DONE, BLOCK.to_vec()));
    assert_eq!(peer.get(100_000, 0), (DONE, vec![]));
    assert_eq!(peer.put(0, &[]), (DONE, vec![]));
    assert_eq!(server.end()["refused"], 8);
}

#[test]
fn a_server_without_receive_refuses_puts() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 50_000,
        count: 2,
    };
    fs::write(directory.path().join("000000"), [3; 50_000]).expect("a file");
    let server = Server::start(&files, &[]);
    let mut peer = server.connect();
    let reply = peer.put(0, &BLOCK);
    assert_eq!(reply.0, FILE);
    assert!(text(&reply).contains("reading only"), "{}", text(&reply));
    assert_eq!(peer.get(40_000, 10_000), (DONE, vec![3; 10_000]));
    // The second file is missing.
    let reply = peer.get(45_000, 10_000);
    assert_eq!(reply.0, FILE);
    assert!(text(&reply).contains("no such file"), "{}", text(&reply));
    assert_eq!(peer.get(0, 1), (DONE, vec![3]));
    server.end();
    assert!(!directory.path().join("000001").exists());
}

#[test]
fn a_get_from_a_truncated_file_gets_an_error_reply() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 300_000,
        count: 1,
    };
    let path = directory.path().join("000000");
    fs::write(&path, [3; 300_000]).expect("a file");
    let server = Server::start(&files, &["--budget", "1M"]);
    let mut peer = server.connect();
    // Mapped, so that the window still exists when the file does not.
    assert_eq!(peer.get(200_000, 16_384).0, DONE);
    // The server checks the file once more after the last byte. This reply arrives after that
    // check.
    assert_eq!(peer.get(0, 0), (DONE, vec![]));
    let file = File::options().write(true).open(&path).expect("a file");
    file.set_len(100_000).expect("the file is truncated");
    // The last page extends past the end of the file: its zeros are not content.
    for offset in [99_999, 90_000, 200_000, 283_616] {
        let reply = peer.get(offset, 16_384);
        assert_eq!(reply.0, FILE, "{}", text(&reply));
        assert!(text(&reply).contains("has 100000"), "{}", text(&reply));
    }
    assert_eq!(peer.get(99_900, 100), (DONE, vec![3; 100]));
    file.set_len(300_000).expect("made longer");
    assert_eq!(peer.get(200_000, 2), (DONE, vec![0; 2]));
    assert_eq!(server.end()["broken"], 0);
}

#[test]
fn a_put_into_a_truncated_file_is_refused() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 300_000,
        count: 2,
    };
    let server = Server::start(&files, &["--receive", "--budget", "1M"]);
    let mut peer = server.connect();
    assert_eq!(peer.put(200_000, &BLOCK).0, DONE);
    assert_eq!(peer.put(400_000, &BLOCK).0, DONE);
    let path = directory.path().join("000000");
    let file = File::options().write(true).open(&path).expect("a file");
    file.set_len(100_000).expect("the file is truncated");
    let reply = peer.put(200_000, &BLOCK);
    assert_eq!(reply.0, FILE, "{}", text(&reply));
    assert!(text(&reply).contains("has 100000"), "{}", text(&reply));
    // The other file is not affected.
    let mut peer = server.connect();
    assert_eq!(peer.get(400_000, 16 << 10), (DONE, BLOCK.to_vec()));
    assert_eq!(peer.put(500_000, &BLOCK).0, DONE);
    // The first file was truncated by another process, so a clean end and an error are both
    // correct.
    server.signal(Signal::TERM);
    let (status, _) = server.wait();
    println!("{status}");
    assert!(matches!(status.code(), Some(0 | 4)), "{status}");
}

#[test]
fn a_block_is_busy_until_its_put_ends_or_its_peer_dies() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 50_000,
        count: 2,
    };
    let server = Server::start(&files, &["--receive"]);
    let mut other = server.connect();
    assert_eq!(other.put(30_000, &[1; 16 << 10]).0, DONE);

    let mut slow = server.connect();
    slow.head(PUT, 40_000, 16 << 10);
    slow.send(&BLOCK[..1000]);
    wait_until(|| other.get(40_000, 1).0 == BUSY);
    // The block crosses both files, and its whole range is locked; ranges beside it are not.
    assert_eq!(other.get(55_000, 1).0, BUSY);
    assert_eq!(other.get(30_000, 10_000), (DONE, vec![1; 10_000]));
    // Waits without success, then reads the payload from the connection.
    let asked = Instant::now();
    assert_eq!(other.put(45_000, &BLOCK).0, BUSY);
    assert!(asked.elapsed() >= Duration::from_secs(5));
    assert_eq!(other.get(39_999, 1), (DONE, vec![1]));
    // Waits for the peer to finish.
    other.head(PUT, 45_000, 16 << 10);
    other.send(&[9; 16 << 10]);
    slow.send(&BLOCK[1000..]);
    assert_eq!(slow.reply(), (DONE, vec![]));
    assert_eq!(other.reply(), (DONE, vec![]));
    assert_eq!(slow.get(44_999, 2), (DONE, vec![7, 9]));
    // A peer that dies releases its block.
    slow.head(PUT, 40_000, 16 << 10);
    slow.send(&[8; 1000]);
    wait_until(|| other.get(40_000, 1).0 == BUSY);
    drop(slow);
    wait_until(|| other.get(40_000, 1).0 == DONE);
    // The bytes that it sent are stored.
    assert_eq!(other.get(40_999, 2), (DONE, vec![8, 7]));
    other.head(SYNC, u64::MAX, u32::MAX);
    assert_eq!(other.reply(), (DONE, vec![]));
    let stats = server.end();
    assert_eq!(stats["pinned_mappings"], 0, "{stats}");
    assert_eq!(stats["broken"], 1, "{stats}");
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "the condition is not met");
        std::thread::sleep(Duration::from_millis(1));
    }
}
