//! Tests of `Memfd`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use flatspan::shm::{Memfd, ShmError};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::inherited_fds::path_of;
use crate::support::skips;

const SEALABLE: MemfdFlags = MemfdFlags::CLOEXEC.union(MemfdFlags::ALLOW_SEALING);

fn refused(fd: impl Into<OwnedFd>) -> ShmError {
    let fd = fd.into();
    let number = format!("descriptor {}", fd.as_raw_fd());
    let error = Memfd::from_fd(fd).expect_err("refused");
    assert!(error.to_string().contains(&number), "{error}");
    error
}

#[test]
fn other_files_than_memfds_are_refused_by_name() {
    let file = tempfile::tempfile().expect("a file");
    let (socket, _other) = UnixStream::pair().expect("sockets");
    let (pipe, _end) = io::pipe().expect("a pipe");
    let directory = File::open("/").expect("a directory");
    let descriptors: [OwnedFd; 4] = [file.into(), socket.into(), pipe.into(), directory.into()];
    for fd in descriptors {
        let error = refused(fd);
        assert!(matches!(error, ShmError::NotAMemfd { .. }), "{error}");
    }
}

#[test]
fn a_memfd_that_refuses_seals_is_refused() {
    let unsealable = memfd_create("test", MemfdFlags::CLOEXEC).expect("a memfd");
    let error = refused(unsealable);
    assert!(
        matches!(error, ShmError::SealingNotAllowed { .. }),
        "{error}"
    );
    // Sealed permanently, but with the shrink seal.
    let sealed = memfd_create("test", SEALABLE).expect("a memfd");
    fcntl_add_seals(&sealed, SealFlags::SHRINK | SealFlags::SEAL).expect("seals");
    let adopted = Memfd::from_fd(sealed).expect("the memfd is restored");
    assert!(adopted.is_restored().expect("seals"));
}

#[test]
fn a_read_only_memfd_is_refused() {
    let memory = Memfd::create("test", 4096).expect("a memfd");
    let path = path_of(&memory);
    let read_only = File::open(&path).expect("opened for reading");
    let error = refused(read_only);
    assert!(matches!(error, ShmError::NotWritable { .. }), "{error}");
    let write_only = OpenOptions::new().write(true).open(&path).expect("opened");
    let error = refused(write_only);
    assert!(matches!(error, ShmError::NotWritable { .. }), "{error}");
    let path_only = rustix::fs::open(
        &path,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let error = refused(path_only.expect("opened"));
    assert!(matches!(error, ShmError::NotWritable { .. }), "{error}");
    for seal in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
        let sealed = memfd_create("test", SEALABLE).expect("a memfd");
        fcntl_add_seals(&sealed, seal).expect("a seal");
        let error = refused(sealed);
        assert!(matches!(error, ShmError::NotWritable { .. }), "{error}");
    }
    Memfd::from_fd(
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .expect("opened"),
    )
    .expect("opened for both");
}

#[test]
fn huge_pages_are_refused() {
    let Ok(huge) = memfd_create("test", SEALABLE | MemfdFlags::HUGETLB) else {
        return skips::record("huge_pages_are_refused", "the kernel has no hugetlbfs");
    };
    let error = refused(huge);
    assert!(
        matches!(error, ShmError::HugePagesUnsupported { .. }),
        "{error}"
    );
}

#[test]
fn a_memfd_that_is_too_small_is_refused_before_mapping() {
    let memory = Memfd::create("test", 4097).expect("a memfd");
    for (start, end) in [(0, 4098), (4096, 8192), (8192, 8193), (0, u64::MAX / 4)] {
        let error = memory.map(start..end).expect_err("too small");
        assert!(
            matches!(error, ShmError::TooShort { required_bytes: needed_bytes, actual_bytes: 4097, .. } if needed_bytes == end),
            "{error}"
        );
        assert!(matches!(
            memory.map_mut(start..end),
            Err(ShmError::TooShort { .. })
        ));
    }
    for (start, end) in [(0, 0), (4096, 4096), (1, 2), (0, u64::MAX)] {
        let error = memory
            .map_mut(start..end)
            .expect_err("the range is invalid");
        assert!(matches!(error, ShmError::InvalidRange { .. }), "{error}");
    }
    assert_eq!(memory.map(0..4097).expect("the whole range").len(), 4097);
    assert_eq!(memory.map(4096..4097).expect("the process ends").len(), 1);
}

#[test]
fn stores_are_visible_through_other_mappings() {
    let memory = Memfd::create("test", 4096 + 20).expect("a memfd");
    let writing = memory
        .map_mut(4096..4096 + 20)
        .expect("the mapping succeeds");
    let other = Memfd::from_fd(
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path_of(&memory))
            .expect("opened again"),
    );
    let reading = other
        .expect("the same file")
        .map(0..4096 + 20)
        .expect("the mapping succeeds");
    assert_eq!(writing.words().len(), 2, "whole words only");
    writing.words()[1].store(7, Ordering::Release);
    assert_eq!(reading.load(512 + 1), Some(7));
    assert_eq!(reading.load(0), Some(0));
    assert_eq!(reading.load(512 + 2), None, "4 bytes are not a word");
    assert_eq!(reading.load(usize::MAX), None);
}

#[test]
fn a_memfd_grows_while_mapped_and_never_shrinks() {
    let memory = Memfd::create("test", 0).expect("a memfd");
    assert!(memory.is_empty().expect("a length"));
    memory.grow_to(5000).expect("the file is extended");
    let early = memory.map(0..5000).expect("the mapping succeeds");
    let other = memory.try_clone().expect("another file");
    other.grow_to(1 << 20).expect("the file is extended");
    memory.grow_to(6000).expect("the file is longer already");
    assert_eq!(memory.len().expect("a length"), 1 << 20);
    assert_eq!((early.len(), early.load(0)), (5000, Some(0)));

    memory.seal_grow().expect("a seal");
    memory
        .grow_to(1 << 20)
        .expect("the file has this length already");
    let error = memory.grow_to((1 << 20) + 1).expect_err("sealed");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

/// Each thread extends the memfd from the length that it has seen. Setting the length instead of
/// extending it would remove bytes of the other thread.
#[test]
fn concurrent_growth_never_shrinks_a_memfd() {
    let memory = Memfd::create("test", 0).expect("a memfd");
    let grow = |first: u64| {
        for len in (first..40_000).step_by(2) {
            memory.grow_to(len).expect("the file is extended");
            assert!(memory.len().expect("a length") >= len);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| grow(1));
        scope.spawn(|| grow(2));
    });
}

/// A program that dies while it restores leaves a memfd without the shrink seal, whatever the
/// content is.
#[test]
fn i25_a_memfd_is_restored_once_it_has_the_shrink_seal() {
    let memory = Memfd::create("test", 8192).expect("a memfd");
    let words = memory.map_mut(0..8192).expect("the mapping succeeds");
    words.words()[0].store(1, Ordering::Relaxed);
    memory.grow_to(1 << 16).expect("the file is extended");
    assert!(
        !memory.is_restored().expect("seals"),
        "the restore has only begun"
    );
    let begun_again = File::from(memory.as_fd().try_clone_to_owned().expect("another file"));
    begun_again
        .set_len(8192)
        .expect("an unsealed memfd can be truncated and restored again");

    memory.seal_restored().expect("a seal");
    memory.seal_restored().expect("a second call has no effect");
    let seen = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path_of(&memory));
    let seen = Memfd::from_fd(seen.expect("opened")).expect("by another program");
    assert!(seen.is_restored().expect("seals"));
    let refused = begun_again.set_len(0).map_err(|error| error.kind());
    assert_eq!(refused, Err(io::ErrorKind::PermissionDenied));
    seen.grow_to(1 << 20).expect("a live memfd may still grow");
}

#[test]
fn a_name_that_is_too_long_is_refused_by_name() {
    let name = "x".repeat(250);
    let error = Memfd::create(&name, 0).expect_err("too long");
    assert!(matches!(&error, ShmError::CreateMemfd { name: of, .. } if *of == name));
    let error = Memfd::create("test", u64::MAX).expect_err("too long");
    assert!(matches!(
        error,
        ShmError::CreateMemfd {
            len_bytes: u64::MAX,
            ..
        }
    ));
}
