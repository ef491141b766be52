//! Vectored reads and writes, handles of entries, and files that are created with their length.

use std::{
    fs,
    io::{IoSlice, IoSliceMut},
    path::Path,
    sync::Barrier,
    thread,
};

use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingError, Preallocation},
    span::{EntryKind, Group, GroupError},
};

use crate::{
    content::{COPY_PATHS, noise, put, small_cache},
    support::temp_dir,
};

fn two_files(root: &Path, copy_path: CopyMethod) -> Group {
    put(&root.join("a"), &noise(1, 10_000));
    put(&root.join("b"), &noise(2, 10_000));
    Group::builder(root)
        .cache(&small_cache(4, copy_path))
        .access(Access::ReadWrite)
        .file("a", 10_000)
        .padding(100)
        .file("b", 10_000)
        .open()
        .expect("a group")
}

/// `IOV_MAX` is 1024.
#[test]
fn more_buffers_than_a_system_call_accepts_are_transferred() {
    for copy_path in COPY_PATHS {
        let directory = temp_dir();
        let group = two_files(directory.path(), copy_path);
        let bytes = noise(3, 6000);
        let bufs: Vec<_> = bytes.chunks(2).map(IoSlice::new).collect();
        group.write_all_vectored_at(2000, &bufs).expect("a write");
        let mut read = vec![0; 6000];
        let mut bufs: Vec<_> = read.chunks_mut(2).map(IoSliceMut::new).collect();
        group
            .read_exact_vectored_at(2000, &mut bufs)
            .expect("a read");
        assert!(read == bytes, "{copy_path:?}");
        let a = fs::read(directory.path().join("a")).expect("a file");
        assert!(a[2000..8000] == bytes && a[..2000] == noise(1, 10_000)[..2000]);
    }
}

#[test]
fn vectored_ranges_cross_files_and_padding_at_any_buffer_boundary() {
    for copy_path in COPY_PATHS {
        let directory = temp_dir();
        let group = two_files(directory.path(), copy_path);
        let zeros = [0; 150];
        let bufs = [&b"ends a"[..], b"", &zeros[..100], b"starts b"].map(IoSlice::new);
        group.write_all_vectored_at(9_994, &bufs).expect("a write");
        let (mut head, mut tail) = ([0; 3], [0; 111]);
        let mut bufs = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
        group
            .read_exact_vectored_at(9_994, &mut bufs)
            .expect("a read");
        assert_eq!(&head, b"end");
        assert_eq!(&tail[..3], b"s a");
        assert_eq!(&tail[103..], b"starts b");
        let refused = group.write_all_vectored_at(9_999, &[IoSlice::new(b"abc")]);
        assert!(
            matches!(refused, Err(GroupError::WriteToPadding { entry: 1 })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_vectored_read_past_the_end_of_a_file_names_the_file() {
    for copy_path in COPY_PATHS {
        let directory = temp_dir();
        let group = two_files(directory.path(), copy_path);
        fs::File::options()
            .write(true)
            .open(directory.path().join("b"))
            .and_then(|file| file.set_len(5000))
            .expect("a shorter file");
        let (mut one, mut two) = ([0; 100], [0; 9000]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        let short = group.read_exact_vectored_at(10_100, &mut bufs);
        assert!(
            matches!(&short, Err(GroupError::File(MappingError::FileTooShort { path, .. }))
                if path.ends_with("b")),
            "{copy_path:?}: {short:?}"
        );
        let outside = group.read_exact_vectored_at(20_000, &mut bufs);
        assert!(matches!(outside, Err(GroupError::OutOfBounds { .. })));
    }
}

#[test]
fn a_handle_of_an_entry_reads_and_writes_relative_to_it() {
    let directory = temp_dir();
    let group = two_files(directory.path(), CopyMethod::Auto);
    let b = group.entry(2).expect("an entry");
    assert_eq!((b.index(), b.len(), b.range()), (2, 10_000, 10_100..20_100));
    assert_eq!((b.path(), b.kind()), (Path::new("b"), EntryKind::File));
    b.write_all_at(9_998, b"xy").expect("the end of b");
    let mut buf = [7; 4];
    assert_eq!(b.read_at(9_998, &mut buf).expect("a read"), 2);
    assert_eq!(&buf, b"xy\x07\x07");
    assert_eq!(b.read_at(10_000, &mut buf).expect("the end"), 0);
    assert_eq!(b.read_at(u64::MAX, &mut buf).expect("past the end"), 0);
    let outside = [
        b.read_exact_at(9_998, &mut buf),
        b.write_all_at(u64::MAX, b"x"),
        b.write_all_vectored_at(9_999, &[IoSlice::new(b"x"), IoSlice::new(b"y")]),
        b.read_exact_vectored_at(10_001, &mut []),
    ];
    for refused in outside {
        let error = refused.expect_err("past the entry");
        assert!(
            matches!(&error, GroupError::OutOfEntry { entry: 2, path, entry_bytes: 10_000, .. }
                if path == Path::new("b")),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("entry 2 (b) of 10000 bytes"),
            "{error}"
        );
    }
    let padding = group.entry(1).expect("an entry");
    padding.read_exact_at(0, &mut buf).expect("zeros");
    assert_eq!(buf, [0; 4]);
    let missing = group.entry(3).map(|entry| entry.index());
    assert!(matches!(
        missing,
        Err(GroupError::NoSuchEntry {
            entry: 3,
            entries: 3
        })
    ));
}

fn writable(root: &Path, preallocation: Preallocation) -> Group {
    Group::builder(root)
        .access(Access::ReadWrite)
        .preallocation(preallocation)
        .file("new/a", 50_000)
        .open()
        .expect("a group")
}

#[test]
fn threads_and_groups_that_create_one_file_lose_no_byte() {
    for preallocation in [
        Preallocation::Sparse,
        Preallocation::Window,
        Preallocation::Full,
    ] {
        for _ in 0..50 {
            let directory = temp_dir();
            let start = Barrier::new(8);
            thread::scope(|scope| {
                for thread in 0..8_u8 {
                    let (root, start) = (directory.path(), &start);
                    scope.spawn(move || {
                        let group = writable(root, preallocation);
                        start.wait();
                        let len = group.create_or_extend_file(0).expect("a file");
                        assert_eq!(len, 50_000);
                        let at = 1000 * u64::from(thread);
                        group
                            .write_all_at(at, &[thread + 1; 1000])
                            .expect("a write");
                    });
                }
            });
            let bytes = fs::read(directory.path().join("new/a")).expect("a file");
            assert_eq!(bytes.len(), 50_000);
            for (thread, part) in (1..=8_u8).zip(bytes.chunks(1000)) {
                assert!(part.iter().all(|byte| *byte == thread), "thread {thread}");
            }
        }
    }
}

#[test]
fn a_file_that_exists_is_extended_and_never_shortened() {
    let directory = temp_dir();
    fs::create_dir(directory.path().join("new")).expect("a directory");
    let path = directory.path().join("new/a");
    for (bytes, expected) in [
        (0, 50_000),
        (10, 50_000),
        (50_000, 50_000),
        (60_000, 60_000),
    ] {
        put(&path, &noise(1, bytes));
        let group = writable(directory.path(), Preallocation::Window);
        let len = group.create_or_extend_file(0).expect("a file");
        assert_eq!(len, expected);
        let content = fs::read(&path).expect("a file");
        assert_eq!(content.len() as u64, expected);
        assert!(content[..bytes] == noise(1, bytes)[..]);
        assert!(content[bytes..].iter().all(|byte| *byte == 0));
        group.sync_all().expect("a sync");
    }
    let read_only = Group::builder(directory.path())
        .file("new/a", 70_000)
        .open();
    let refused = read_only.expect("a group").create_or_extend_file(0);
    assert!(
        matches!(
            refused,
            Err(GroupError::File(MappingError::ReadOnly { .. }))
        ),
        "{refused:?}"
    );
}
