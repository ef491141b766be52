//! The group's cursor behaves like the standard library's.

use std::{
    io::{self, BufRead as _, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    sync::Arc,
};

use flatspan::{
    mapping_cache::{Access, CopyMethod},
    span::{Cursor, Group},
};
use proptest::prelude::*;

use crate::{
    content::{noise, put, small_cache},
    support,
};

/// More than the cursor's buffer holds.
const BYTES: usize = 150_000;

/// Three files that hold `noise(1, BYTES)`.
fn group(root: &std::path::Path) -> Group {
    let content = noise(1, BYTES);
    put(&root.join("a"), &content[..70_000]);
    put(&root.join("b"), &content[70_000..70_001]);
    put(&root.join("c"), &content[70_001..]);
    let cache = small_cache(4, CopyMethod::Auto);
    let builder = Group::builder(root).cache(&cache).access(Access::ReadWrite);
    builder
        .existing_file("a")
        .existing_file("b")
        .existing_file("c")
        .open()
        .expect("a group")
}

#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    ReadExact(usize),
    Buffered(usize),
    ReadUntil(u8),
    Write(usize, u64),
    Seek(SeekFrom),
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![0..50usize, 0..9000usize, 60_000..100_000usize];
    let far = 2 * BYTES as i64;
    prop_oneof![
        3 => len().prop_map(Step::Read),
        1 => len().prop_map(Step::ReadExact),
        2 => len().prop_map(Step::Buffered),
        1 => any::<u8>().prop_map(Step::ReadUntil),
        2 => (len(), any::<u64>()).prop_map(|(len, seed)| Step::Write(len, seed)),
        1 => (0..far as u64).prop_map(|to| Step::Seek(SeekFrom::Start(to))),
        1 => (-far..far).prop_map(|by| Step::Seek(SeekFrom::Current(by))),
        1 => (-far..1000).prop_map(|by| Step::Seek(SeekFrom::End(by))),
    ]
}

/// Applies the same operation to both cursors.
fn take(step: &Step, ours: &mut Cursor<&Group>, model: &mut io::Cursor<&mut [u8]>) {
    match *step {
        Step::Read(len) => {
            let (mut buf, mut expected) = (vec![0; len], vec![0; len]);
            let read = ours.read(&mut buf).expect("a read");
            // A read may return fewer bytes than requested, but not zero while bytes are left.
            let room = (BYTES as u64).saturating_sub(model.position());
            assert_eq!(read == 0, len == 0 || room == 0);
            model
                .read_exact(&mut expected[..read])
                .expect("no more than there are");
            assert!(buf[..read] == expected[..read]);
        }
        Step::ReadExact(len) => {
            let (mut buf, mut expected) = (vec![0; len], vec![0; len]);
            match (ours.read_exact(&mut buf), model.read_exact(&mut expected)) {
                (Ok(()), Ok(())) => assert!(buf == expected),
                (Err(error), Err(_)) => {
                    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                    // The position after a failed `read_exact` is unspecified.
                    model.set_position(ours.position());
                }
                other => panic!("{other:?}"),
            }
        }
        Step::Buffered(len) => {
            let buffered = ours.fill_buf().expect("a read");
            let expected = model.fill_buf().expect("a read");
            assert_eq!(buffered.is_empty(), expected.is_empty());
            assert!(buffered == &expected[..buffered.len()]);
            let len = len.min(buffered.len());
            ours.consume(len);
            model.consume(len);
        }
        Step::ReadUntil(byte) => {
            let (mut line, mut expected) = (Vec::new(), Vec::new());
            ours.read_until(byte, &mut line).expect("a read");
            model.read_until(byte, &mut expected).expect("a read");
            assert!(line == expected);
        }
        Step::Write(len, seed) => {
            let bytes = noise(seed, len);
            match (ours.write_all(&bytes), model.write_all(&bytes)) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(_)) => assert_eq!(error.kind(), ErrorKind::WriteZero),
                other => panic!("{other:?}"),
            }
        }
        Step::Seek(to) => match (ours.seek(to), model.seek(to)) {
            (Ok(ours), Ok(model)) => assert_eq!(ours, model),
            (Err(error), Err(_)) => assert_eq!(error.kind(), ErrorKind::InvalidInput),
            other => panic!("{other:?}"),
        },
    }
    assert_eq!(ours.position(), model.position(), "{step:?}");
    assert_eq!(
        ours.stream_position().expect("the position is known"),
        model.position()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_cursor_behaves_like_the_standard_one(steps in prop::collection::vec(step(), 1..60)) {
        let directory = support::temp_dir();
        let group = group(directory.path());
        let mut content = noise(1, BYTES);
        let mut model = io::Cursor::new(content.as_mut_slice());
        let mut ours = group.cursor();
        for step in &steps {
            take(step, &mut ours, &mut model);
        }
        let mut all = Vec::new();
        ours.rewind().expect("seek");
        ours.read_to_end(&mut all).expect("all bytes");
        prop_assert!(all == content);
    }
}

#[test]
fn writing_at_the_end_writes_nothing() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let mut cursor = group.cursor();
    for to in [BYTES as u64, BYTES as u64 + 5, u64::MAX] {
        cursor.seek(SeekFrom::Start(to)).expect("seek");
        assert_eq!(cursor.write(b"x").expect("an empty read"), 0);
        assert_eq!(
            cursor.write_all(b"x").unwrap_err().kind(),
            ErrorKind::WriteZero
        );
        assert_eq!(cursor.read(&mut [0]).expect("the process ends"), 0);
        assert!(cursor.fill_buf().expect("the process ends").is_empty());
    }
    cursor.seek(SeekFrom::End(-2)).expect("seek");
    assert_eq!(
        cursor.write_all(b"xyz").unwrap_err().kind(),
        ErrorKind::WriteZero
    );
    let mut last = [0; 2];
    group
        .read_exact_at(BYTES as u64 - 2, &mut last)
        .expect("two bytes");
    assert_eq!(&last, b"xy");
}

#[test]
fn a_cursor_may_own_its_group() {
    let directory = support::temp_dir();
    let group = Arc::new(group(directory.path()));
    let cursor = Cursor::new(Arc::clone(&group));
    let thread = std::thread::spawn(move || {
        let mut cursor = cursor;
        let mut all = Vec::new();
        cursor.read_to_end(&mut all).expect("all bytes");
        all
    });
    assert!(thread.join().expect("a thread") == noise(1, BYTES));
    let mut copy = Vec::new();
    io::copy(&mut Cursor::new(group), &mut copy).expect("copy");
    assert!(copy == noise(1, BYTES));
}

#[test]
fn seeking_or_writing_discards_the_buffer() {
    let directory = support::temp_dir();
    let group = group(directory.path());
    let mut cursor = group.cursor();
    let mut byte = [0];
    cursor.read_exact(&mut byte).expect("a byte");
    group
        .write_all_at(0, b"new bytes")
        .expect("beside the cursor");
    cursor.rewind().expect("seek");
    let mut buf = [0; 9];
    cursor.read_exact(&mut buf).expect("nine bytes");
    assert_eq!(&buf, b"new bytes");
    cursor.write_all(b"!").expect("through the cursor");
    group.write_all_at(10, b"?").expect("beside the cursor");
    cursor.read_exact(&mut byte).expect("a byte");
    assert_eq!(&byte, b"?");
}

#[test]
fn the_cursor_keeps_the_kind_of_a_file_error() {
    let directory = support::temp_dir();
    let builder = Group::builder(directory.path()).file("missing", 5);
    let group = builder.open().expect("a group");
    let mut cursor = group.cursor();
    let error = cursor.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(cursor.fill_buf().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(cursor.position(), 0);
    assert_eq!(
        cursor.write(b"x").unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
}
