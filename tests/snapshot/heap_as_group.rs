//! Store files as a group: the parts of a heap can be hashed and sent like any other files, also
//! while the store is open.
#![expect(
    unsafe_code,
    reason = "groups that assume exclusive use of their files"
)]

use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flatspan::snapshot::{
    CheckpointKind, Image, Store, StoreError, StoreOptions, StoreReader, WriteMode,
};
use flatspan::span::{Group, GroupBuilder, Pieces, Sha1Digest, ZeroCopySender};
use sha1::{Digest as _, Sha1};

use crate::support::{self, child};

const PAGE: u64 = 4096;
/// More than socket buffers hold, and no multiple of a part or a piece.
const BYTES: u64 = (24 << 20) + 3 * PAGE;
const PART_BYTES: u64 = 1 << 20;
const PIECE_BYTES: u64 = 300_000;
const TIMEOUT: Duration = Duration::from_secs(60);

fn open(path: &Path, readers_timeout: Duration) -> Store {
    let options = StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .reserve_bytes(64 << 20)
        .initial_bytes(BYTES)
        .part_bytes(PART_BYTES)
        .reader_timeout(readers_timeout);
    Store::open(path, options).expect("a store")
}

/// Long enough for an attempt, too short for a reader that stays.
const SOON: Duration = Duration::from_millis(20);

/// Fills the region except for a hole.
fn fill(store: &Store, seed: u64) {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let mut content: Vec<u8> = (0..BYTES).map(|_| next()).collect();
    content[5 << 20..7 << 20].fill(0);
    let inside = store.write_guard().expect("access lock is free");
    inside.write_at(0, &content).expect("written");
}

fn memory(store: &Store) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    let inside = store.write_guard().expect("access lock is free");
    inside.read_at(0, &mut bytes).expect("read");
    bytes
}

/// Reads the content of the files without the library.
fn read_files(reader: &StoreReader, image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in image.payload_files() {
        let file = File::open(reader.directory().join(part.path)).expect("a part");
        let start = bytes.len();
        bytes.resize(start + (part.range.end - part.range.start) as usize, 0);
        file.read_exact_at(&mut bytes[start..], part.range.start)
            .expect("complete part is read");
    }
    bytes
}

fn builder(reader: &StoreReader, image: &Image) -> GroupBuilder {
    let parts = image.payload_files().into_iter();
    parts.fold(Group::builder(reader.directory()), |builder, part| {
        builder.file_range(part.path, part.range)
    })
}

fn digests(bytes: &[u8]) -> Vec<Sha1Digest> {
    let pieces = bytes.chunks(PIECE_BYTES as usize);
    pieces
        .map(|piece| Sha1Digest::from(<[u8; 20]>::from(Sha1::digest(piece))))
        .collect()
}

/// Asserts the hash of every piece, computed in every way.
fn assert_hashes(pieces: &Pieces<'_>, expected: &[Sha1Digest]) {
    assert_eq!(pieces.count(), expected.len());
    for (piece, expected) in expected.iter().enumerate() {
        assert_eq!(pieces.hash(piece).expect("all there"), *expected);
    }
    #[cfg(feature = "rayon")]
    {
        let run = flatspan::span::HashOptions::new();
        let found = pieces.verify(expected, &run).expect("digest count matches");
        assert!(found.is_ok(), "{found:?}");
        assert!(found.files.len() > 20, "one of each part");
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("peer listens");
    let (theirs, _) = listener.accept().expect("a peer");
    (ours, theirs)
}

/// Returns the bytes that a peer receives.
fn received(send: impl FnOnce(TcpStream)) -> Vec<u8> {
    let (ours, mut theirs) = tcp_pair();
    let reading = thread::spawn(move || {
        let mut bytes = Vec::new();
        theirs
            .read_to_end(&mut bytes)
            .expect("complete range is read");
        bytes
    });
    send(ours);
    reading.join().expect("the reader")
}

fn is_busy(result: &Result<impl Sized, StoreError>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
}

/// Hashes and sends by the safe API, which creates no slices.
fn use_safely(group: Group, expected: &[u8]) {
    assert_hashes(
        &Pieces::new(&group, PIECE_BYTES).expect("pieces"),
        &digests(expected),
    );
    let sent = received(|to| {
        group
            .span(..)
            .expect("free")
            .write_all_to(to)
            .expect("sent");
    });
    assert!(sent == expected, "sent by a span");
    let group = Arc::new(group);
    let sent = received(|to| {
        let mut sender = ZeroCopySender::new(to).expect("TCP can");
        let span = group.owned_span(..).expect("free");
        sender.send(span).expect("sent");
        sender.flush_timeout(TIMEOUT).expect("all is sent");
    });
    assert!(sent == expected, "sent without a copy");
}

/// Hashes and sends mapped memory by slices.
fn use_in_place(group: &Group, expected: &[u8]) {
    let pieces = Pieces::new(group, PIECE_BYTES).expect("pieces");
    // SAFETY: the group consists of files of a heap that is read-locked, and only stores use its
    // files.
    assert_hashes(&unsafe { pieces.hash_in_place() }, &digests(expected));
    let span = group.span(..).expect("free");
    let sent = received(|mut to| {
        span.slices()
            .for_each(|slice| to.write_all(slice).expect("sent"));
    });
    assert!(sent == expected, "sent from slices");
    span.check_intact().expect("no bad page");
}

#[test]
fn i17_heap_of_an_open_store_is_hashed_and_sent_as_a_group() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = open(&path, SOON);
    fill(&store, 1);
    let base = store.checkpoint_base().expect("a base");
    let expected = memory(&store);

    let reader = StoreReader::open(&path).expect("a store");
    let image = reader.newest().expect("an image");
    assert_eq!(
        (image.generation(), image.replayed_records(), image.len()),
        (base.generation, 0, BYTES)
    );
    assert!(read_files(&reader, &image) == expected);
    use_safely(builder(&reader, &image).open().expect("a group"), &expected);
    // SAFETY: the heap is read-locked until the slices are dropped, and only stores use its files.
    let trusted = unsafe { builder(&reader, &image).assume_exclusive() };
    let trusted = trusted.open().expect("a group");
    use_in_place(&trusted, &expected);

    // The other heap is free; the next base would be into this one.
    let metadata = *image.metadata();
    fill(&store, 2);
    let other = store.checkpoint_base().expect("into the other heap");
    fill(&store, 3);
    let refused = store.checkpoint_base();
    assert!(is_busy(&refused), "{refused:?}");
    let delta = store.checkpoint().expect("into the journal");
    assert_eq!(delta.kind, CheckpointKind::Delta, "{delta:?}");
    assert!(delta.reason.contains("readers have held heap"), "{delta:?}");
    assert!(delta.generation > other.generation);
    image.verify_unchanged().expect("held");
    assert!(read_files(&reader, &image) == expected);
    use_in_place(&trusted, &expected);
    drop((trusted, image));

    let base = store.checkpoint_base().expect("no reader is left");
    assert_eq!(base.kind, CheckpointKind::Base);
    let last = memory(&store);
    drop(store);
    let image = reader
        .heap(metadata.heap)
        .expect("heap is readable")
        .expect("whole");
    assert_eq!(image.generation(), base.generation);
    let group = builder(&reader, &image).open().expect("a group");
    use_safely(group, &last);
    drop(image);
    let store = open(&path, SOON);
    assert_eq!(store.open_report().generation, base.generation);
    assert!(memory(&store) == last);
}

#[test]
fn i17_checkpoint_waits_for_readers_of_the_parts() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = open(&path, TIMEOUT);
    fill(&store, 1);
    store.checkpoint_base().expect("a base");
    let expected = memory(&store);
    let reader = StoreReader::open(&path).expect("a store");
    let image = reader.newest().expect("an image");
    fill(&store, 2);
    store.checkpoint_base().expect("into the other heap");
    fill(&store, 3);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.checkpoint_base());
        for _ in 0..3 {
            let group = builder(&reader, &image).open().expect("a group");
            use_safely(group, &expected);
        }
        assert!(!waiting.is_finished(), "{:?}", waiting.join());
        drop(image);
        waiting.join().expect("no panic").expect("a base");
    });
    let image = reader.newest().expect("an image");
    assert!(read_files(&reader, &image) == memory(&store));
}

#[test]
fn images_in_one_file_or_in_none_have_the_right_parts() {
    let dir = support::temp_dir();
    for (bytes, expected) in [(0, None), (3 * PAGE, Some(64 << 10..(64 << 10) + 3 * PAGE))] {
        let path = dir.path().join(bytes.to_string());
        let options = StoreOptions::default().initial_bytes(bytes);
        drop(Store::open(&path, options).expect("a store"));
        let reader = StoreReader::open(&path).expect("a store");
        let image = reader.newest().expect("an image");
        let ranges: Vec<_> = image
            .payload_files()
            .into_iter()
            .map(|part| part.range)
            .collect();
        assert_eq!(ranges, Vec::from_iter(expected));
    }
    // METADATA alone fills the first part.
    let path = dir.path().join("small");
    let options = StoreOptions::default().initial_bytes(17 * PAGE);
    drop(Store::open(&path, options.part_bytes(64 << 10)).expect("a store"));
    let reader = StoreReader::open(&path).expect("a store");
    let parts = reader.newest().expect("an image").payload_files();
    let found: Vec<_> = parts.iter().map(|part| part.path.to_str()).collect();
    assert_eq!(found, [Some("heap-a.00001"), Some("heap-a.00002")]);
    assert_eq!(
        (parts[0].range.clone(), parts[1].range.clone()),
        (0..64 << 10, 0..PAGE)
    );
}

const SENDER: &str = "heap_as_group::i17_heap_of_an_open_store_is_sent_by_another_process";
const STORE: &str = "FLATSPAN_SENT_STORE";
const ADDRESS: &str = "FLATSPAN_SENT_ADDRESS";

/// Sends the newest heap to the parent process, preceded by the hashes of its pieces.
fn send_to_parent() {
    let path = PathBuf::from(env::var_os(STORE).expect("a store"));
    let mut to = TcpStream::connect(env::var(ADDRESS).expect("an address")).expect("a parent");
    let reader = StoreReader::open(&path).expect("a store");
    let image = reader.newest().expect("an image");
    let group = builder(&reader, &image).open().expect("a group");
    let pieces = Pieces::new(&group, PIECE_BYTES).expect("pieces");
    for piece in 0..pieces.count() {
        to.write_all(pieces.hash(piece).expect("all there").as_ref())
            .expect("sent");
    }
    group
        .span(..)
        .expect("free")
        .write_all_to(&to)
        .expect("sent");
    image.verify_unchanged().expect("held");
}

#[test]
fn i17_heap_of_an_open_store_is_sent_by_another_process() {
    if child::is_me(SENDER) {
        return send_to_parent();
    }
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = open(&path, SOON);
    fill(&store, 1);
    store.checkpoint_base().expect("a base");
    let expected = memory(&store);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let sending = {
        let path = path.clone();
        thread::spawn(move || {
            let child = child::Child::new(SENDER).env(STORE, path);
            child.env(ADDRESS, address).run()
        })
    };
    let (mut from, _) = listener.accept().expect("a child");
    from.set_read_timeout(Some(TIMEOUT)).expect("a socket");
    let mut hashes = Vec::new();
    for _ in digests(&expected) {
        let mut hash = [0; 20];
        from.read_exact(&mut hash).expect("a hash");
        hashes.push(Sha1Digest::from(hash));
    }
    // The child has the heap locked now, until its bytes are read. They are more than socket
    // buffers hold.
    fill(&store, 2);
    store.checkpoint_base().expect("into the other heap");
    fill(&store, 3);
    let refused = store.checkpoint_base();
    assert!(is_busy(&refused), "{refused:?}");
    let delta = store.checkpoint().expect("into the journal");
    assert_eq!(delta.kind, CheckpointKind::Delta, "{delta:?}");
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)
        .expect("complete range is read");
    assert!(bytes == expected && hashes == digests(&expected));
    let done = sending
        .join()
        .expect("no panic")
        .expect("child needs nothing of the machine");
    done.assert_passed();

    let last = memory(&store);
    store.checkpoint_base().expect("the child is gone");
    drop(store);
    assert!(memory(&open(&path, SOON)) == last);
}
