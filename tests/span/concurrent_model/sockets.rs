//! Sockets to which spans are sent: a pair of one thread.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::Arc,
    time::Duration,
};

use flatspan::span::{Group, Span, ZeroCopySender};

/// Bytes that the buffer of every socket accepts while no thread reads.
pub(crate) const SEND_MAX: usize = 8 << 10;

#[derive(Debug)]
pub(crate) struct Sockets {
    unix: (UnixStream, UnixStream),
    tcp: (ZeroCopySender<TcpStream>, TcpStream),
}

impl Sockets {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let socket = TcpStream::connect(address).expect("a connection");
        let (peer, _) = listener.accept().expect("a connection");
        Self {
            unix: UnixStream::pair().expect("a pair"),
            tcp: (ZeroCopySender::new(socket).expect("zero copy"), peer),
        }
    }

    /// Sends a span through a Unix socket, and returns the bytes that arrived.
    pub(crate) fn send(&mut self, span: &Span<Arc<Group>>) -> Vec<u8> {
        let (from, to) = &mut self.unix;
        span.write_all_to(&*from).expect("room in the buffer");
        let mut received = vec![0xEE; span.len()];
        to.read_exact(&mut received).expect("all bytes arrive");
        received
    }

    /// Sends a span through a TCP socket without a copy.
    pub(crate) fn send_zero_copy(&mut self, span: Span<Arc<Group>>) -> Vec<u8> {
        let mut received = vec![0xEE; span.len()];
        let (sender, peer) = &mut self.tcp;
        sender.send(span).expect("room in the buffer");
        peer.read_exact(&mut received).expect("all bytes arrive");
        let flushed = sender.flush_timeout(Duration::from_secs(60));
        flushed.expect("all bytes were received");
        received
    }
}
