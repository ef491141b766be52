//! Spans sent to and received from sockets, pipes and files. Every byte arrives in its place.
//! Whatever ends a transfer early is an error, never a signal.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flatspan::{
    mapping_cache::{Access, CacheOptions, CopyMethod, MappingCache, MappingError},
    span::{EntryKind, Group, GroupError},
};
use tempfile::TempDir;

use crate::{
    content::{COPY_PATHS, Rng, WINDOW_BYTES, length_of, noise, put, short_file, small_cache},
    support::{
        self,
        child::{self, Limits},
    },
};

/// A kind of channel, and its two ends.
fn streams() -> Vec<(&'static str, File, File)> {
    let file = |end: OwnedFd| File::from(end);
    let (unix_in, unix_out) = UnixStream::pair().expect("a pair");
    let (tcp_in, tcp_out) = tcp_pair();
    let (pipe_out, pipe_in) = io::pipe().expect("a pipe");
    vec![
        ("unix", file(unix_in.into()), file(unix_out.into())),
        ("tcp", file(tcp_in.into()), file(tcp_out.into())),
        ("pipe", file(pipe_in.into()), file(pipe_out.into())),
    ]
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let one = TcpStream::connect(address).expect("connect");
    let (other, _) = listener.accept().expect("accept");
    (one, other)
}

/// Reads until the end of the stream.
fn drain(mut from: File) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A connection that is reset has delivered its earlier bytes.
        from.read_to_end(&mut bytes).ok();
        bytes
    })
}

/// Writes the bytes and closes; the reader may be gone before.
fn feed(mut to: File, bytes: Vec<u8>) -> JoinHandle<()> {
    thread::spawn(move || {
        to.write_all(&bytes).ok();
    })
}

/// A group of files and padding of uneven lengths, and its bytes. The first file alone has more
/// windows than the kernel accepts buffers.
fn group_of_all_kinds(directory: &TempDir, cache: &MappingCache) -> (Group, Vec<u8>) {
    let mut builder = Group::builder(directory.path()).cache(cache);
    let mut bytes = Vec::new();
    let lens = [
        (4_500_000, 0),
        (1, 5),
        (0, 0),
        (5000, 200_000),
        (4096, 0),
        (77, 1),
    ];
    for (file, (len, padding)) in lens.into_iter().enumerate() {
        let content = noise(file as u64, len);
        put(&directory.path().join(format!("{file}")), &content);
        builder = builder.file(format!("{file}"), len as u64).padding(padding);
        bytes.extend(content);
        bytes.extend(vec![0; padding as usize]);
    }
    let builder = builder.access(Access::ReadWrite);
    (builder.open().expect("a group"), bytes)
}

fn one_file(len: usize, cache: &MappingCache) -> (TempDir, Group) {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, len));
    let builder = Group::builder(directory.path())
        .cache(cache)
        .existing_file("a");
    let group = builder.access(Access::ReadWrite).open();
    (directory, group.expect("a group"))
}

/// The number of transferred bytes, and the cause of the error.
#[track_caller]
fn transfer(done: Result<(), GroupError>) -> (usize, io::Error) {
    match done {
        Err(GroupError::Transfer {
            transferred_bytes: done_bytes,
            source,
        }) => (done_bytes, source),
        other => panic!("not the end of a transfer: {other:?}"),
    }
}

#[test]
fn spans_are_sent_unchanged() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let (group, bytes) = group_of_all_kinds(&directory, &small_cache(64, copy_path));
        let len = group.len();
        for range in [
            0..len,
            1..4096,
            4096..8192,
            4095..20_001,
            4_499_999..4_500_003,
            4_500_002..4_500_006,
            4_600_000..4_690_000,
            len - 1..len,
            77..77,
        ] {
            let expected = &bytes[range.start as usize..range.end as usize];
            let span = group.span(range.clone()).expect("a span");
            for (what, to, from) in streams() {
                let received = drain(from);
                span.write_all_to(&to).expect(what);
                drop(to);
                let received = received.join().expect("the reader");
                assert!(received == expected, "{what} {range:?}");
            }
            let mut file = tempfile::tempfile().expect("a file");
            span.write_all_to(&file).expect("a file");
            let mut received = Vec::new();
            file.rewind().expect("seek");
            file.read_to_end(&mut received).expect("read");
            assert!(received == expected, "{range:?}");
        }
        assert_eq!(group.stats().pinned_mappings, 0);
    }
}

#[test]
fn spans_are_received_at_their_offsets() {
    for copy_path in [CopyMethod::Auto, CopyMethod::Mapped] {
        let directory = support::temp_dir();
        let (group, mut bytes) = group_of_all_kinds(&directory, &small_cache(64, copy_path));
        let entries: Vec<_> = group.entries().map(|entry| entry.range).collect();
        let mut ranges: Vec<_> = group
            .entries()
            .filter(|entry| entry.kind == EntryKind::File)
            .map(|entry| entry.range)
            .collect();
        // Boundaries of windows and files that coincide.
        ranges.extend([1..4096, 4096..8192, 4095..20_001]);
        ranges.push(entries[8].start..entries[10].end);
        for (seed, range) in (100..).zip(ranges) {
            for (way, (what, to, from)) in (0..).zip(streams()) {
                let content = noise(seed * 10 + way, (range.end - range.start) as usize);
                let mut span = group.span_mut(range.clone()).expect("a span");
                let feeder = feed(to, content.clone());
                span.read_exact_from(&from).expect(what);
                span.check_intact().expect("all bytes exist");
                let mut buf = vec![0; content.len()];
                span.read_at(0, &mut buf).expect("copy_to");
                assert!(buf == content, "{what} {range:?}");
                // The transfer can continue from there.
                let (mut other, mut file) = (Vec::new(), tempfile::tempfile().expect("a file"));
                span.write_all_to(&file).expect("a file");
                drop(span);
                file.rewind().expect("seek");
                file.read_to_end(&mut other).expect("read");
                assert!(other == content, "{what} {range:?}");
                feeder.join().expect("the feeder thread");
                bytes[range.start as usize..range.end as usize].copy_from_slice(&content);
            }
            let content = noise(seed * 10 + 9, (range.end - range.start) as usize);
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&content).expect("write");
            file.rewind().expect("seek");
            let mut span = group.span_mut(range.clone()).expect("a span");
            span.read_exact_from(&file).expect("a file");
            bytes[range.start as usize..range.end as usize].copy_from_slice(&content);
        }
        let mut found = vec![0; bytes.len()];
        group.read_exact_at(0, &mut found).expect("all bytes");
        assert!(found == bytes, "{copy_path:?}");
        group.sync_all().expect("sync_all");
        for entry in group
            .entries()
            .filter(|entry| entry.kind == EntryKind::File)
        {
            let found = fs::read(directory.path().join(entry.path)).expect("read");
            assert!(found == bytes[entry.range.start as usize..entry.range.end as usize]);
        }
    }
}

#[test]
fn more_files_than_kernel_buffers_are_transferred() {
    const FILES: usize = 2100;
    let directory = support::temp_dir();
    let cache = small_cache(2 * FILES as u64, CopyMethod::Auto);
    let builder = Group::builder(directory.path()).cache(&cache);
    let mut builder = builder.access(Access::ReadWrite).create(true);
    for file in 0..FILES {
        builder = builder.file(format!("{file}"), 3);
    }
    let group = builder.open().expect("a group");
    let content = noise(1, 3 * FILES);
    let (from, to) = UnixStream::pair().expect("a pair");
    let feeder = feed(OwnedFd::from(to).into(), content.clone());
    let mut span = group.span_mut(..).expect("a span");
    span.read_exact_from(&from).expect("all of them");
    feeder.join().expect("the feeder thread");
    let (to, from) = UnixStream::pair().expect("a pair");
    let received = drain(OwnedFd::from(from).into());
    span.write_all_to(&to).expect("all of them");
    drop(to);
    assert!(received.join().expect("the reader") == content);
}

#[test]
fn disjoint_spans_of_one_window_are_filled_concurrently() {
    const BLOCK: usize = 16 << 10;
    let options = CacheOptions::default().window_bytes(64 << 10);
    let cache = MappingCache::new(options).expect("a cache");
    let (directory, group) = one_file(4 * BLOCK, &cache);
    let group = Arc::new(group);
    let fillers: Vec<_> = (0..4)
        .map(|block| {
            let start = (block * BLOCK) as u64;
            let mut span = group
                .owned_span_mut(start..start + BLOCK as u64)
                .expect("disjoint");
            let (from, to) = UnixStream::pair().expect("a pair");
            let feeder = feed(OwnedFd::from(to).into(), noise(10 + block as u64, BLOCK));
            thread::spawn(move || {
                span.read_exact_from(&from).expect("received");
                feeder.join().expect("the feeder thread");
            })
        })
        .collect();
    for filler in fillers {
        filler.join().expect("a filler");
    }
    let found = fs::read(directory.path().join("a")).expect("read");
    for (seed, bytes) in (10..).zip(found.chunks(BLOCK)) {
        assert!(bytes == noise(seed, BLOCK));
    }
}

/// The peer reads a part and closes.
fn send_to_closing_peer(group: &Group, what: &str, to: &File, mut from: File) -> io::Error {
    const TAKEN: usize = 10_000;
    let span = group.span(..).expect("a span");
    let peer = thread::spawn(move || {
        from.read_exact(&mut [0; TAKEN]).expect("a part");
    });
    let (done, source) = transfer(span.write_all_to(to));
    peer.join().expect("the peer");
    assert!((TAKEN..span.len()).contains(&done), "{what}: {done}");
    // The span is still usable.
    let file = tempfile::tempfile().expect("a file");
    span.write_all_to(&file).expect("another way");
    assert_eq!(file.metadata().expect("metadata").len(), group.len());
    source
}

#[test]
fn a_closed_peer_ends_the_sending() {
    let (_directory, group) = one_file(16 << 20, &cache_of_windows(64 << 10));
    for (what, to, from) in streams() {
        let source = send_to_closing_peer(&group, what, &to, from);
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(gone.contains(&source.kind()), "{what}: {source:?}");
        assert!(
            source.get_ref().is_none(),
            "the error is not one of the file"
        );
    }
    assert_eq!(group.stats().pinned_mappings, 0);
}

/// In a child process, because signal handlers are process-wide.
#[test]
fn closed_sockets_raise_no_signal() {
    let name = "socket_io::closed_sockets_raise_no_signal";
    if child::is_me(name) {
        let (_directory, group) = one_file(16 << 20, &cache_of_windows(64 << 10));
        let raised = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::clone(&raised))
            .expect("a handler");
        for (what, to, from) in streams() {
            send_to_closing_peer(&group, what, &to, from);
            assert_eq!(raised.load(Ordering::SeqCst), what == "pipe", "{what}");
        }
        return;
    }
    let Some(done) = child::in_child(name, &[], Limits::default()) else {
        return;
    };
    assert_eq!(done.signal(), None, "{done}");
    done.assert_passed();
}

#[test]
fn errors_of_the_descriptor_are_not_file_errors() {
    let (directory, group) = one_file(20_000, &small_cache(8, CopyMethod::Auto));
    let full = File::options().write(true).open("/dev/full").expect("open");
    let mut span = group.span_mut(..).expect("a span");
    let (done, source) = transfer(span.write_all_to(&full));
    assert_eq!((done, source.kind()), (0, io::ErrorKind::StorageFull));
    assert!(
        source.get_ref().is_none(),
        "the error is not one of the file"
    );

    let other = directory.path().join("other");
    let for_writing = File::create(&other).expect("create");
    let (done, source) = transfer(span.read_exact_from(&for_writing));
    assert_eq!((done, source.raw_os_error()), (0, Some(libc::EBADF)));
    let for_reading = File::open(&other).expect("open");
    let (done, source) = transfer(span.write_all_to(&for_reading));
    assert_eq!((done, source.raw_os_error()), (0, Some(libc::EBADF)));
    let unconnected = UnixDatagram::unbound().expect("a socket");
    let (done, source) = transfer(span.write_all_to(&unconnected));
    assert_eq!((done, source.kind()), (0, io::ErrorKind::NotConnected));
    let directory = File::open(directory.path()).expect("open");
    let (done, source) = transfer(span.read_exact_from(&directory));
    assert_eq!((done, source.kind()), (0, io::ErrorKind::IsADirectory));
    span.write_at(0, b"as good as before").expect("copy_from");
}

#[test]
fn bytes_of_a_peer_that_ends_early_are_kept() {
    const LEN: usize = 50_000;
    for copy_path in COPY_PATHS {
        for given in [0, 1, 4095, 4096, 4097, 20_000, LEN - 1] {
            for (what, to, from) in streams() {
                let (directory, group) = one_file(LEN, &small_cache(8, copy_path));
                let content = noise(2, given);
                let feeder = feed(to, content.clone());
                let mut span = group.span_mut(..).expect("a span");
                let (done, source) = transfer(span.read_exact_from(&from));
                feeder.join().expect("the feeder thread");
                assert_eq!(done, given, "{what}");
                assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof, "{what}");
                drop(span);
                let found = fs::read(directory.path().join("a")).expect("read");
                assert!(found[..given] == content, "{what} {given}");
                assert!(found[given..] == noise(1, LEN)[given..], "{what} {given}");
            }
        }
    }
    let (_directory, group) = one_file(LEN, &small_cache(8, CopyMethod::Auto));
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&noise(3, 4097)).expect("write");
    file.rewind().expect("seek");
    let mut span = group.span_mut(10..).expect("a span");
    let (done, source) = transfer(span.read_exact_from(&file));
    assert_eq!((done, source.kind()), (4097, io::ErrorKind::UnexpectedEof));
    let mut buf = vec![0; 4097];
    span.read_at(0, &mut buf).expect("copy_to");
    assert!(buf == noise(3, 4097));
}

#[test]
fn nonblocking_sending_continues_where_it_stopped() {
    const LEN: usize = 3 << 20;
    let (_directory, group) = one_file(LEN, &small_cache(8, CopyMethod::Auto));
    let span = group.span(..).expect("a span");
    let (to, mut from) = UnixStream::pair().expect("a pair");
    to.set_nonblocking(true).expect("nonblocking");
    from.set_nonblocking(true).expect("nonblocking");

    let (mut done, source) = transfer(span.write_all_to(&to));
    assert_eq!(source.kind(), io::ErrorKind::WouldBlock);
    assert!((1..LEN).contains(&done), "{done}");
    let mut stops = 0;
    let mut received = vec![0; LEN];
    let mut taken = 0;
    while taken < LEN {
        loop {
            match span.write_to(done, &to) {
                Ok(0) => break,
                Ok(sent) => done += sent,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    assert_eq!(transfer(Err(error)).0, 0);
                    stops += 1;
                    break;
                }
            }
        }
        while let Ok(read @ 1..) = from.read(&mut received[taken..]) {
            taken += read;
        }
        assert!(taken <= done);
    }
    assert!(stops > 0 && done == LEN && received == noise(1, LEN));
    assert_eq!(span.write_to(LEN, &to).expect("the process ends"), 0);
}

#[test]
fn nonblocking_receiving_continues_where_it_stopped() {
    let (directory, group) = one_file(50_000, &small_cache(8, CopyMethod::Auto));
    let content = noise(2, 50_000);
    let mut span = group.span_mut(..).expect("a span");
    let (mut to, from) = tcp_pair();
    from.set_nonblocking(true).expect("nonblocking");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut done = 0;
    let error = span.read_from(done, &from).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    for part in content.chunks(9000) {
        to.write_all(part).expect("write");
        let end = done + part.len();
        while done < end && Instant::now() < deadline {
            match span.read_from(done, &from) {
                Ok(received) => done += received,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(done, end);
    }
    assert_eq!(span.read_from(done, &from).expect("the process ends"), 0);
    drop(span);
    assert!(fs::read(directory.path().join("a")).expect("read") == content);
    // A peer that has closed.
    drop(to);
    let mut span = group.span_mut(..).expect("a span");
    assert_eq!(span.read_from(0, &from).expect("the process ends"), 0);
}

#[test]
fn nothing_is_transferred_past_the_end() {
    let (_directory, group) = one_file(10_000, &small_cache(8, CopyMethod::Auto));
    let mut span = group.span_mut(5000..9000).expect("a span");
    let file = tempfile::tempfile().expect("a file");
    for at in [4001, 5000, usize::MAX] {
        for refused in [
            span.as_span().write_to(at, &file),
            span.read_from(at, &file),
        ] {
            assert!(
                matches!(refused, Err(GroupError::OutOfBounds { .. })),
                "{refused:?}"
            );
        }
    }
    assert_eq!(
        span.as_span()
            .write_to(4000, &file)
            .expect("the position is valid"),
        0
    );
    assert_eq!(
        span.read_from(4000, &file).expect("the position is valid"),
        0
    );
    assert_eq!(file.metadata().expect("metadata").len(), 0);
    assert_eq!(span.as_span().write_to(3999, &file).expect("one byte"), 1);
    let empty = group.span(10_000..).expect("the range is empty");
    empty.write_all_to(&file).expect("an empty read");
    assert_eq!(file.metadata().expect("metadata").len(), 1);
}

const PAGES: usize = 64;
const PAGE_BYTES: usize = 4096;
const FILE_BYTES: usize = PAGES * PAGE_BYTES;

/// The lengths to which the file is truncated: every page boundary, and some inside pages.
fn truncated_lengths() -> impl Iterator<Item = usize> {
    let pages = (0..PAGES).map(|page| page * PAGE_BYTES);
    pages.chain([1, 20 * PAGE_BYTES + 1234, FILE_BYTES - 1])
}

fn cache_of_windows(window_bytes: u64) -> MappingCache {
    let options = CacheOptions::default().window_bytes(window_bytes as usize);
    MappingCache::new(options.budget_bytes(1 << 20)).expect("a cache")
}

#[track_caller]
fn assert_short(error: &GroupError, path: &Path, present: usize) {
    assert_eq!(error.path(), Some(path), "{error:?}");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error:?}");
    let GroupError::Transfer { source, .. } = error else {
        panic!("not the end of a transfer: {error:?}");
    };
    let inner = source.get_ref().expect("the file's error");
    let inner = match inner.downcast_ref::<GroupError>() {
        Some(GroupError::File(error)) => Some(error),
        _ => inner.downcast_ref::<MappingError>(),
    };
    assert!(
        matches!(inner, Some(MappingError::FileTooShort { actual_bytes: present_bytes, .. })
            if *present_bytes == present as u64),
        "{error:?}"
    );
}

fn send_and_copy_from_truncated_files() {
    let content = noise(1, FILE_BYTES);
    for window_bytes in [WINDOW_BYTES, 64 << 10] {
        let (directory, group) = one_file(FILE_BYTES, &cache_of_windows(window_bytes));
        let path = directory.path().join("a");
        let other_handle = File::options().write(true).open(&path).expect("open");
        for len in truncated_lengths() {
            let mut ways = streams();
            let file = tempfile::NamedTempFile::new_in(directory.path()).expect("a file");
            let from = file.reopen().expect("open");
            ways.push(("file", file.as_file().try_clone().expect("dup"), from));
            for (what, to, from) in ways {
                fs::write(&path, &content).expect("the file has its length again");
                let span = group.span(..).expect("a span");
                other_handle
                    .set_len(len as u64)
                    .expect("the file is truncated");
                let is_file = what == "file";
                let reader = (!is_file).then(|| drain(from.try_clone().expect("dup")));
                let error = span.write_all_to(&to).expect_err("the file is truncated");
                drop(to);
                assert_short(&error, &path, len);
                let (done, _) = transfer(Err(error));
                // The last page is sent completely, with zeros after the end of the file.
                assert!(
                    done <= len.next_multiple_of(PAGE_BYTES),
                    "{what} {len}: {done}"
                );
                let reader = reader.unwrap_or_else(|| drain(from));
                let received = reader.join().expect("the reader");
                let existing = done.min(len);
                assert!(received.len() >= done && received[..existing] == content[..existing]);
                assert!(received[existing..done].iter().all(|byte| *byte == 0));

                let mut buf = vec![0; FILE_BYTES];
                let error = span
                    .read_at(0, &mut buf)
                    .expect_err("the file is truncated");
                assert_eq!(short_file(error).0, path);
                let (at, last) = (len.saturating_sub(1), len.min(1));
                span.read_at(at, &mut buf[..last]).expect("the last byte");
                assert!(buf[..last] == content[at..at + last]);
                assert_eq!(length_of(&path), len as u64);
            }
        }
    }
}

fn receive_into_truncated_files() {
    let (before, content) = (noise(1, FILE_BYTES), noise(2, FILE_BYTES));
    for window_bytes in [WINDOW_BYTES, 64 << 10] {
        for len in truncated_lengths() {
            let mut ways = streams();
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&content).expect("write");
            file.rewind().expect("seek");
            ways.push(("file", tempfile::tempfile().expect("a file"), file));
            for (what, to, from) in ways {
                let (directory, group) = one_file(FILE_BYTES, &cache_of_windows(window_bytes));
                let path = directory.path().join("a");
                let mut span = group.span_mut(..).expect("a span");
                let other_handle = File::options().write(true).open(&path).expect("open");
                other_handle
                    .set_len(len as u64)
                    .expect("the file is truncated");
                let feeder = feed(to, content.clone());
                let error = span
                    .read_exact_from(&from)
                    .expect_err("the file is truncated");
                drop(from);
                feeder.join().expect("the feeder thread");
                assert_short(&error, &path, len);
                let (done, _) = transfer(Err(error));
                // Bytes that arrive in the last page after the end of the file are lost.
                assert!(
                    done <= len.next_multiple_of(PAGE_BYTES),
                    "{what} {len}: {done}"
                );
                let done = done.min(len);
                span.write_at(0, &content)
                    .expect_err("the file is truncated");
                drop(span);
                assert_eq!(length_of(&path), len as u64, "{what}: not longer again");
                let found = fs::read(&path).expect("read");
                assert!(found[..done] == content[..done], "{what} {len}");
                let known = |(at, byte): (usize, &u8)| *byte == before[at] || *byte == content[at];
                assert!(found.iter().enumerate().all(known), "{what} {len}");
            }
        }
    }
}

/// Sends and receives while another thread truncates and extends the file.
fn transfer_while_truncating() {
    let (directory, group) = one_file(FILE_BYTES, &cache_of_windows(16 << 10));
    let path = directory.path().join("a");
    let mut source = tempfile::tempfile().expect("a file");
    source.write_all(&noise(2, FILE_BYTES)).expect("write");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::new(1);
            let other_handle = File::options().write(true).open(&path).expect("open");
            while !done.load(Ordering::Relaxed) {
                other_handle
                    .set_len(rng.below(FILE_BYTES as u64 + 1))
                    .expect("the file is truncated");
                other_handle
                    .set_len(FILE_BYTES as u64)
                    .expect("the file is extended again");
            }
        });
        let deadline = Instant::now() + Duration::from_millis(700);
        let (mut fine, mut failed) = (0_u32, 0_u32);
        let mut count = |was_fine: bool| *if was_fine { &mut fine } else { &mut failed } += 1;
        let mut buf = vec![0; FILE_BYTES];
        while Instant::now() < deadline {
            source.rewind().expect("seek");
            if let Ok(mut span) = group.span_mut(..) {
                count(span.read_exact_from(&source).is_ok());
            }
            if let Ok(span) = group.span(..) {
                let sink = tempfile::tempfile().expect("a file");
                count(span.write_all_to(&sink).is_ok());
                count(span.read_at(0, &mut buf).is_ok());
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(fine > 0 && failed > 0, "{fine} fine, {failed} failed");
    });
    assert_eq!(group.stats().pinned_mappings, 0);
}

/// In a child process without a signal handler, which a signal would kill.
fn in_a_child(name: &str, body: fn()) {
    if child::is_me(name) {
        return body();
    }
    let Some(done) = child::in_child(name, &[], Limits::default()) else {
        return;
    };
    assert_eq!(done.signal(), None, "{done}");
    done.assert_passed();
}

#[test]
fn sending_a_truncated_file_names_it() {
    in_a_child(
        "socket_io::sending_a_truncated_file_names_it",
        send_and_copy_from_truncated_files,
    );
}

#[test]
fn receiving_into_a_truncated_file_names_it() {
    in_a_child(
        "socket_io::receiving_into_a_truncated_file_names_it",
        receive_into_truncated_files,
    );
}

#[test]
fn truncation_during_transfers_raises_no_signal() {
    in_a_child(
        "socket_io::truncation_during_transfers_raises_no_signal",
        transfer_while_truncating,
    );
}

#[test]
fn the_truncated_one_of_several_files_is_named() {
    in_a_child(
        "socket_io::the_truncated_one_of_several_files_is_named",
        || {
            for truncated in ["0", "1", "2"] {
                let directory = support::temp_dir();
                let mut builder = Group::builder(directory.path());
                for file in ["0", "1", "2"] {
                    put(&directory.path().join(file), &noise(1, 10_000));
                    builder = builder.existing_file(file).padding(10);
                }
                let cache = small_cache(16, CopyMethod::Auto);
                let group = builder.cache(&cache).open().expect("a group");
                let span = group.span(..).expect("a span");
                let path = directory.path().join(truncated);
                let other_handle = File::options().write(true).open(&path).expect("open");
                // Truncated inside the first page, whose rest then reads as zeros, and truncated to
                // nothing.
                for len in [100, 0] {
                    other_handle.set_len(len).expect("the file is truncated");
                    for (_, to, from) in streams() {
                        let reader = drain(from);
                        let error = span.write_all_to(&to).expect_err("the file is truncated");
                        drop(to);
                        reader.join().expect("the reader");
                        assert_short(&error, &path, len as usize);
                    }
                    let error = span.read_at(0, &mut vec![0; span.len()]);
                    assert_eq!(
                        short_file(error.expect_err("the file is truncated")).0,
                        path
                    );
                }
            }
        },
    );
}
