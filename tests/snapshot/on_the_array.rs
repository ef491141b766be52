//! A store lies on the array: the parts of a heap are a group like any other, also while the store is open.
#![expect(unsafe_code, reason = "groups whose files are trusted")]

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
    Changes, CheckpointKind, Image, SnapshotError, Store, StoreOptions, StoreReader,
};
use flatspan::span::{Group, GroupBuilder, Pieces, Sha1Digest, ZeroCopySender};
use sha1::{Digest as _, Sha1};

use crate::support::{self, child};

const PAGE: u64 = 4096;
/// More than sockets hold, and not a whole number of parts or pieces.
const BYTES: u64 = (24 << 20) + 3 * PAGE;
const PART_BYTES: u64 = 1 << 20;
const PIECE_BYTES: u64 = 300_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn open(path: &Path, readers_timeout: Duration) -> Store {
    let options = StoreOptions::default()
        .changes(Changes::Writers)
        .reserve_bytes(64 << 20)
        .initial_bytes(BYTES)
        .part_bytes(PART_BYTES)
        .readers_timeout(readers_timeout);
    Store::open(path, options).expect("a store")
}

/// Long enough to be a try, too short for a reader that stays.
const SOON: Duration = Duration::from_millis(20);

/// Fills the region, but for a hole.
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
    let inside = store.enter().expect("the gate");
    inside.write(0, &content).expect("written");
}

fn memory(store: &Store) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    let inside = store.enter().expect("the gate");
    inside.read(0, &mut bytes).expect("read");
    bytes
}

/// What the files hold, read without us.
fn read_files(reader: &StoreReader, image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in image.parts() {
        let file = File::open(reader.directory().join(part.path)).expect("a part");
        let start = bytes.len();
        bytes.resize(start + (part.range.end - part.range.start) as usize, 0);
        file.read_exact_at(&mut bytes[start..], part.range.start)
            .expect("all of a part");
    }
    bytes
}

fn builder(reader: &StoreReader, image: &Image) -> GroupBuilder {
    let parts = image.parts().into_iter();
    parts.fold(Group::builder(reader.directory()), |builder, part| {
        builder.file_range(part.path, part.range)
    })
}

fn digests(bytes: &[u8]) -> Vec<Sha1Digest> {
    let pieces = bytes.chunks(PIECE_BYTES as usize);
    pieces.map(|piece| Sha1::digest(piece).into()).collect()
}

/// Every piece, by every way to hash one.
fn assert_hashes(pieces: &Pieces<'_>, expected: &[Sha1Digest]) {
    assert_eq!(pieces.count(), expected.len());
    for (piece, expected) in expected.iter().enumerate() {
        assert_eq!(pieces.hash(piece).expect("all there"), *expected);
    }
    #[cfg(feature = "rayon")]
    {
        let run = flatspan::span::HashRun::new();
        let found = pieces.verify(expected, &run).expect("as many");
        assert!(found.is_ok(), "{found:?}");
        assert!(found.files.len() > 20, "one of each part");
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (theirs, _) = listener.accept().expect("a peer");
    (ours, theirs)
}

/// What arrives when this is sent.
fn received(send: impl FnOnce(TcpStream)) -> Vec<u8> {
    let (ours, mut theirs) = tcp_pair();
    let reading = thread::spawn(move || {
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).expect("all of it");
        bytes
    });
    send(ours);
    reading.join().expect("the reader")
}

fn is_busy(result: &Result<impl Sized, SnapshotError>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
}

/// Hashed and sent, through the door that makes no slices.
fn use_safely(group: Group, expected: &[u8]) {
    assert_hashes(
        &Pieces::new(&group, PIECE_BYTES).expect("pieces"),
        &digests(expected),
    );
    let sent = received(|to| group.span(..).expect("free").send_to(to).expect("sent"));
    assert!(sent == expected, "sent by a span");
    let group = Arc::new(group);
    let sent = received(|to| {
        let mut sender = ZeroCopySender::new(to).expect("TCP can");
        let span = group.owned_span(..).expect("free");
        sender.send(span).expect("sent");
        assert!(sender.finish(PATIENCE).expect("no error"));
    });
    assert!(sent == expected, "sent without a copy");
}

/// The same in mapped memory, by slices.
fn use_in_place(group: &Group, expected: &[u8]) {
    let pieces = Pieces::new(group, PIECE_BYTES).expect("pieces");
    // SAFETY: the group lies on a heap that is held, and nobody but stores uses its files.
    assert_hashes(&unsafe { pieces.in_place() }, &digests(expected));
    let span = group.span(..).expect("free");
    let sent = received(|mut to| {
        span.slices()
            .for_each(|slice| to.write_all(slice).expect("sent"));
    });
    assert!(sent == expected, "sent from slices");
    span.check().expect("no bad page");
}

#[test]
fn h17_the_heap_of_an_open_store_is_hashed_and_sent_as_a_group() {
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
    // SAFETY: the heap is held as long as slices live, and nobody but stores uses its files.
    let trusted = unsafe { builder(&reader, &image).trust_files() };
    let trusted = trusted.open().expect("a group");
    use_in_place(&trusted, &expected);

    // The other heap is free; then it is the turn of this one.
    let metadata = *image.metadata();
    fill(&store, 2);
    let other = store.checkpoint_base().expect("into the other heap");
    fill(&store, 3);
    let refused = store.checkpoint_base();
    assert!(is_busy(&refused), "{refused:?}");
    let delta = store.checkpoint().expect("into the journal");
    assert_eq!(delta.kind, CheckpointKind::Delta, "{delta:?}");
    assert!(delta.why.contains("readers have held heap"), "{delta:?}");
    assert!(delta.generation > other.generation);
    image.check_unchanged().expect("held");
    assert!(read_files(&reader, &image) == expected);
    use_in_place(&trusted, &expected);
    drop((trusted, image));

    let base = store.checkpoint_base().expect("nobody is there any more");
    assert_eq!(base.kind, CheckpointKind::Base);
    let last = memory(&store);
    drop(store);
    let image = reader.heap(metadata.heap).expect("a look").expect("whole");
    assert_eq!(image.generation(), base.generation);
    let group = builder(&reader, &image).open().expect("a group");
    use_safely(group, &last);
    drop(image);
    let store = open(&path, SOON);
    assert_eq!(store.open_report().generation, base.generation);
    assert!(memory(&store) == last);
}

#[test]
fn h17_a_checkpoint_waits_for_who_reads_the_parts() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = open(&path, PATIENCE);
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
fn parts_of_images_that_lie_in_one_file_or_in_none() {
    let dir = support::temp_dir();
    for (bytes, expected) in [(0, None), (3 * PAGE, Some(64 << 10..(64 << 10) + 3 * PAGE))] {
        let path = dir.path().join(bytes.to_string());
        let options = StoreOptions::default().initial_bytes(bytes);
        drop(Store::open(&path, options).expect("a store"));
        let reader = StoreReader::open(&path).expect("a store");
        let image = reader.newest().expect("an image");
        let ranges: Vec<_> = image.parts().into_iter().map(|part| part.range).collect();
        assert_eq!(ranges, Vec::from_iter(expected));
    }
    // METADATA alone fills the first part.
    let path = dir.path().join("small");
    let options = StoreOptions::default().initial_bytes(17 * PAGE);
    drop(Store::open(&path, options.part_bytes(64 << 10)).expect("a store"));
    let reader = StoreReader::open(&path).expect("a store");
    let parts = reader.newest().expect("an image").parts();
    let found: Vec<_> = parts.iter().map(|part| part.path.to_str()).collect();
    assert_eq!(found, [Some("heap-a.00001"), Some("heap-a.00002")]);
    assert_eq!(
        (parts[0].range.clone(), parts[1].range.clone()),
        (0..64 << 10, 0..PAGE)
    );
}

const SENDER: &str = "on_the_array::h17_the_heap_of_an_open_store_is_sent_by_another_process";
const STORE: &str = "FLATSPAN_SENT_STORE";
const ADDRESS: &str = "FLATSPAN_SENT_ADDRESS";

/// Sends the newest heap to its parent, first what the hashes of its pieces are.
fn send_to_parent() {
    let path = PathBuf::from(env::var_os(STORE).expect("a store"));
    let mut to = TcpStream::connect(env::var(ADDRESS).expect("an address")).expect("a parent");
    let reader = StoreReader::open(&path).expect("a store");
    let image = reader.newest().expect("an image");
    let group = builder(&reader, &image).open().expect("a group");
    let pieces = Pieces::new(&group, PIECE_BYTES).expect("pieces");
    for piece in 0..pieces.count() {
        to.write_all(&pieces.hash(piece).expect("all there"))
            .expect("sent");
    }
    group.span(..).expect("free").send_to(&to).expect("sent");
    image.check_unchanged().expect("held");
}

#[test]
fn h17_the_heap_of_an_open_store_is_sent_by_another_process() {
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
    from.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut hashes = vec![Sha1Digest::default(); digests(&expected).len()];
    for hash in &mut hashes {
        from.read_exact(hash).expect("a hash");
    }
    // The child is in the heap now, and stays until its bytes are taken, which are more than sockets hold.
    fill(&store, 2);
    store.checkpoint_base().expect("into the other heap");
    fill(&store, 3);
    let refused = store.checkpoint_base();
    assert!(is_busy(&refused), "{refused:?}");
    let delta = store.checkpoint().expect("into the journal");
    assert_eq!(delta.kind, CheckpointKind::Delta, "{delta:?}");
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("all of it");
    assert!(bytes == expected && hashes == digests(&expected));
    let done = sending.join().expect("no panic").expect("nothing needed");
    done.assert_passed();

    let last = memory(&store);
    store.checkpoint_base().expect("the child is gone");
    drop(store);
    assert!(memory(&open(&path, SOON)) == last);
}
