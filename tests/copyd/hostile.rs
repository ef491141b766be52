//! Malformed and hostile messages.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use crate::program::{DONE, FULL, Files, GET, MALFORMED, PUT, RANGE, Server};
use crate::support;

/// More memory than a server of such a small group ever needs.
const RSS_MAX: u64 = 48 << 20;

#[test]
fn hostile_messages_get_a_reply_and_use_little_memory() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 50_000,
        count: 2,
    };
    let server = Server::start(&files, &["--receive", "--budget", "1M"]);
    let mut honest = server.connect();
    assert_eq!(honest.put(0, &[5; 16 << 10]).0, DONE);

    let mut peer = server.connect();
    for op in [0, 4, 77, 255] {
        peer.head(op, 0, u32::MAX);
        assert_eq!(peer.reply().0, MALFORMED);
    }
    for len in [(16 << 10) + 1, 1 << 20, 1 << 31, u32::MAX] {
        assert_eq!(peer.get(0, len).0, MALFORMED);
        assert_eq!(peer.get(u64::MAX, len).0, MALFORMED);
    }
    for offset in [100_000, 1 << 63, u64::MAX - 1, u64::MAX] {
        assert_eq!(peer.get(offset, 16 << 10).0, RANGE);
    }
    assert_eq!(peer.get(0, 1), (DONE, vec![5]));

    // The reply arrives although the server left bytes unread; then the connection ends.
    for len in [(16 << 10) + 1, u32::MAX] {
        let mut peer = server.connect();
        peer.head(PUT, 0, len);
        peer.send(&[6; 16 << 10]);
        assert_eq!(peer.reply().0, MALFORMED);
        // The server may have closed the connection.
        peer.0.shutdown(Shutdown::Write).ok();
        peer.assert_ended();
    }
    // Truncated heads and blocks.
    for len in 0..30 {
        let mut peer = server.connect();
        let mut put = vec![PUT];
        put.extend(60_000_u64.to_le_bytes());
        put.extend(16_384_u32.to_le_bytes());
        put.extend([6; 17]);
        peer.send(&put[..len]);
    }
    // Many requests whose replies are never read.
    let mut deaf = server.connect();
    for _ in 0..1000 {
        deaf.head(GET, 0, 16);
    }
    drop(deaf);
    assert_eq!(honest.get(0, 3), (DONE, vec![5; 3]));
    assert!(server.peak_rss() < RSS_MAX, "{}", server.peak_rss());
    let stats = server.end();
    assert_eq!(stats["pinned_mappings"], 0, "{stats}");
}

#[test]
fn random_bytes_end_only_their_own_connection() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 50_000,
        count: 2,
    };
    let server = Server::start(&files, &["--receive", "--budget", "1M"]);
    let mut honest = server.connect();
    assert_eq!(honest.put(0, &[5; 100]).0, DONE);
    let mut state = 1_u64;
    for round in 0..300 {
        let mut noise: Vec<u8> = Vec::new();
        for _ in 0..1 + round % 100 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Valid operations on valid ranges, more often than random bytes would produce them.
            let [op, high, low, ..] = state.to_le_bytes();
            noise.push(op % 4);
            let offset = if high < 200 { state >> 47 } else { state };
            noise.extend(offset.to_le_bytes());
            noise.extend((state as u32 >> (low % 32)).to_le_bytes());
        }
        let peer = server.connect();
        let mut stream = &peer.0;
        // The server may close the connection at any byte.
        stream.write_all(&noise).ok();
        stream.shutdown(Shutdown::Write).ok();
        // The amount of received data is bounded by the requests.
        stream.take(64 << 20).read_to_end(&mut Vec::new()).ok();
    }
    assert_eq!(honest.get(50_000, 0), (DONE, vec![]));
    assert!(server.peak_rss() < RSS_MAX, "{}", server.peak_rss());
    let stats = server.end();
    assert_eq!(stats["pinned_mappings"], 0, "{stats}");
}

#[test]
fn a_peer_beyond_the_limit_gets_an_error() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 1000,
        count: 1,
    };
    let server = Server::start(&files, &["--receive", "--peers", "2"]);
    let mut peers = [server.connect(), server.connect()];
    for peer in &mut peers {
        assert_eq!(peer.put(0, b"x").0, DONE);
    }
    let mut third = server.connect();
    assert_eq!(third.reply(), (FULL, b"too many peers".to_vec()));
    third.assert_ended();
    let [first, mut second] = peers;
    drop(first);
    // The slot becomes free soon after.
    let placed = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let mut peer = server.connect();
        // Refused peers may find the connection reset.
        let mut reply = [0; 5];
        let asked = peer.0.write_all(&[GET, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        asked.is_ok() && peer.0.read_exact(&mut reply).is_ok() && reply[0] == DONE
    });
    assert!(placed, "the slot was not freed");
    assert_eq!(second.get(0, 1), (DONE, b"x".to_vec()));
    server.end();
}
